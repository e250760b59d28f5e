package http1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Conn is one client connection. Its fields are those of the goroutine in Serve,
// except while a helper runs: that one owns reading the client, and when it
// sends a body, writing to the application.
type Conn struct {
	relay   *Relay
	handler Handler
	dial    func() (net.Conn, error)
	limits  *Limits
	seen    []byte

	client, app end
	// open: app is connected. used: it has carried a request before.
	open, used bool
	// first: no request has come yet.
	first bool
	// now is when the last head was complete, or the connection began.
	now time.Time
	// ended: what came last from the application was its end, and not a reset.
	ended bool
	x     *exchange

	// busy is false while the connection waits for a request's first byte.
	busy, draining atomic.Bool
	helper
}

// Conn makes a connection that Serve is to be called for.
func (r *Relay) Conn(cfg Config) *Conn {
	r.setDefaults()
	c := &Conn{relay: r, handler: cfg.Handler, dial: cfg.Dial, limits: &r.limits, seen: cfg.Seen, first: true}
	c.client.init(cfg.Client)
	return c
}

func (r *Relay) setDefaults() {
	r.once.Do(func() {
		r.limits = r.Limits
		r.limits.setDefaults()
	})
}

// Serve relays until the connection ends, by either side, by a limit, by Drain or
// because somebody closed it. It closes the client's connection and the
// application's, and returns when nothing of it runs any more.
func (c *Conn) Serve() {
	c.now = time.Now()
	if len(c.seen) > 0 {
		b := getBuffer()
		b.grow(len(c.seen))
		b.w = copy(b.data, c.seen)
		c.client.buf, c.seen = b, nil
	}
	for c.serveOne() {
	}
	c.client.conn.Close()
	c.hangUp()
	c.join()
	c.client.use(len(c.client.bytes()))
	c.app.use(len(c.app.bytes()))
}

// Drain asks the connection to end when the request under way is answered, at
// once if there is none: the answer says so (Connection: close). It may be
// called at any time, also more than once. Who wants it to end now closes the
// client's connection and those that Dial has returned; tunnels know no drain.
func (c *Conn) Drain() {
	c.draining.Store(true)
	if !c.busy.Load() {
		// The wait for a request ends. Should one have come just now, its reader
		// takes the early deadline for what it is.
		c.client.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// serveOne relays one request. It reports whether another may follow.
func (c *Conn) serveOne() bool {
	if !c.awaitRequest() {
		return false
	}
	c.x = getExchange()
	defer func() {
		if c.x != nil {
			c.x.put()
			c.x = nil
		}
	}()
	x := c.x
	size, refused := c.readHead()
	if refused == nil && size == 0 {
		return false
	}
	if refused == nil {
		refused = x.request.parse(c.client.bytes()[:size], c.limits)
	}
	if refused != nil {
		return c.refuse(refused)
	}
	c.first, c.now = false, x.request.head.Received
	x.up.begin(x.request.body, x.request.length, c.limits)
	c.handler.Decide(&x.request.head, &x.action)
	switch x.action.Verdict {
	case Forward:
		return c.forward(size)
	case Answer:
	default:
		x.action.Status, x.action.Fields, x.action.Close = http.StatusInternalServerError, nil, true
	}
	c.client.use(size)
	return c.answer(nil)
}

// awaitRequest waits for the first byte of a request, without a buffer.
func (c *Conn) awaitRequest() bool {
	if c.helping == nobody && len(c.client.bytes()) > 0 {
		c.busy.Store(true)
		return true
	}
	wait := c.limits.Idle
	if c.first {
		wait = c.limits.HeadTime
	}
	c.client.readWithin(c.now, wait)
	c.busy.Store(false)
	if c.draining.Load() {
		return false
	}
	var err error
	if c.helping != nobody {
		err = c.result()
	} else {
		err = c.client.fill()
	}
	c.busy.Store(true)
	if err == nil {
		return true
	}
	if isTimeout(err) && !c.draining.Load() {
		if c.first {
			c.bite(HeadTimeLimit)
		} else {
			c.bite(IdleLimit)
		}
	}
	return false
}

// readHead reads until a head is whole and returns its size; 0 if the
// client went away.
func (c *Conn) readHead() (size int, refused *refusal) {
	e := &c.client
	scanned, skipped := 0, false
	timed := false
	for {
		b := e.bytes()
		if !skipped && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			// Some end a body with an empty line that is not counted (RFC 9112, section 2.2).
			e.use(2)
			skipped, scanned = true, 0
			continue
		}
		if size, refused = headEnd(b, scanned); refused != nil {
			return 0, refused
		}
		if size > c.limits.Head || size == 0 && len(b) >= c.limits.Head {
			return 0, errHeadLimit
		}
		if size > 0 {
			return size, nil
		}
		if scanned = len(b); e.buf != nil && scanned == len(e.buf.data) {
			e.buf.grow(c.limits.Head)
		}
		if !timed {
			timed = true
			e.readBy = time.Now().Add(c.limits.HeadTime)
			e.conn.SetReadDeadline(e.readBy)
		}
		err := e.fill()
		switch {
		case err == nil || e.early(err):
		case isTimeout(err):
			return 0, errHeadTime
		default:
			return 0, nil
		}
	}
}

// refuse answers what is not passed on, and ends the connection.
func (c *Conn) refuse(r *refusal) bool {
	c.tell(Client, r)
	c.x.writeAnswer(r.status, nil, true)
	if err := c.client.write(c.x.out, time.Now(), c.limits.Stall); err != nil {
		c.blame(err)
	} else {
		c.linger()
	}
	return false
}

// answer sends the action's answer; failed is what Failed was told, and then, as
// when the request's body does not come to its end, the connection ends.
func (c *Conn) answer(failed error) bool {
	x := c.x
	a := &x.action
	last := a.Close || x.request.close || failed != nil || c.draining.Load() || !c.skippable()
	x.writeAnswer(a.Status, a.Fields, last)
	c.now = time.Now()
	err := c.client.write(x.out, c.now, c.limits.Stall)
	if err != nil {
		failed = c.blame(err)
	}
	c.handler.Responded(a.Token, a.Status, -1, failed)
	if err != nil {
		return false
	}
	if last || !c.skip() {
		c.linger()
		return false
	}
	return true
}

// skippable takes in what is there of a body that nobody wants, and reports
// whether the rest is little enough to be waited for. A client that waits to be
// asked for it may send it or not: nobody could tell.
func (c *Conn) skippable() bool {
	x := c.x
	if _, used, refused := x.up.next(c.client.bytes()); refused != nil {
		c.tell(Client, refused)
		return false
	} else if c.client.use(used); x.up.done {
		return true
	}
	if x.up.body == Length && x.up.left > c.limits.Discard {
		c.bite(DiscardLimit)
		return false
	}
	return !x.request.expects
}

// skip reads the rest of a body that nobody wants.
func (c *Conn) skip() bool {
	x := c.x
	if x.up.done {
		return true
	}
	by := time.Now().Add(c.limits.HeadTime)
	c.client.readBy = by
	c.client.conn.SetReadDeadline(by)
	for left := c.limits.Discard; !x.up.done; {
		if err := c.client.fillMore(); err != nil {
			if isTimeout(err) {
				c.bite(HeadTimeLimit)
			}
			return false
		}
		_, used, refused := x.up.next(c.client.bytes())
		if refused != nil {
			c.tell(Client, refused)
			return false
		}
		c.client.use(used)
		if left -= int64(used); left < 0 {
			c.bite(DiscardLimit)
			return false
		}
	}
	return true
}

// linger takes what the client still sends, so that no reset destroys the
// answer before it is read, until the client has closed its side.
func (c *Conn) linger() {
	half, ok := c.client.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.client.conn.SetReadDeadline(time.Now().Add(c.limits.Linger))
	if c.helping == watching && c.result() != nil {
		return
	}
	for left := c.limits.Discard; left > 0; {
		left -= int64(len(c.client.bytes()))
		c.client.use(len(c.client.bytes()))
		if c.client.fillMore() != nil {
			return
		}
	}
}

// abort ends a connection in the middle of an answer, so that half of one does
// not look whole.
func (c *Conn) abort() {
	conn := c.client.conn
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn() // no close_notify either
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// hangUp closes the application's connection.
func (c *Conn) hangUp() {
	if c.open {
		c.app.conn.Close()
		c.open = false
	}
}

func (c *Conn) bite(l Limit) { c.relay.bite(l) }

func (r *Relay) bite(l Limit) {
	if r.Bitten != nil {
		r.Bitten(l)
	}
}

// tell reports a message that is not passed on.
func (c *Conn) tell(from Side, r *refusal) {
	if r.limited {
		c.bite(r.limit)
	} else if c.relay.Malformed != nil {
		c.relay.Malformed(from, r)
	}
}

// isEnd reports an end in good order.
func isEnd(err error) bool { return errors.Is(err, io.EOF) }
