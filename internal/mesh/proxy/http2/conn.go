package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Conn relays one client connection.
type Conn struct {
	cfg     *Config
	seen    []byte
	handler Handler
	limits  Limits
	ctx     context.Context
	cancel  context.CancelFunc
	// wg counts the goroutines that read applications and serve Streams, and the
	// clock's next call.
	wg sync.WaitGroup

	// mu guards everything below. cond is told when a write has ended.
	mu     sync.Mutex
	cond   sync.Cond
	client *peer
	// app takes new streams; apps are all connections to the application that are open.
	app  *peer
	apps []*peer

	streams  map[uint32]*stream
	free     []*stream
	wasReset recent   // by the relay (invariant 6)
	ended    recent   // in other ways; only to name the error rightly
	stopping []uint32 // have their answer, but not their whole request
	// lastID is the client's highest; streams above goAway are ignored.
	lastID, goAway uint32

	// draining: the client has been told to go away, when it likes; leaving: with a
	// last stream. finished: nothing is relayed any more; err is why.
	draining, leaving, finished, halfClosed bool
	err                                     error
	// dialing: the client's reader waits for a connection to the application, with
	// the head of a stream that is not open yet.
	dialing bool
	// allowed is how many streams the client has been told that it may have open.
	allowed int

	clock              *time.Timer
	every              time.Duration
	ticks              int
	idleSince, idleFor uint32

	// What one request needs at a time, by the client's reader only.
	head    Head
	pseudo  pseudo
	action  Action
	failure Action
	path    []byte
}

// endedKept is how many streams are remembered that have ended by themselves.
const endedKept = 64

// New takes over client; seen are bytes of it that were looked at before, and the
// first of all begins the preface. A *net.TCPConn, or anything with its
// SyscallConn, waits without a buffer while it is idle, others (*tls.Conn) with a
// small one.
func New(client net.Conn, seen []byte, handler Handler, cfg *Config) *Conn {
	c := &Conn{cfg: cfg, seen: seen, handler: handler, limits: cfg.Limits.withDefaults(), client: newPeer(client, false),
		streams: map[uint32]*stream{}, goAway: maxWindow}
	c.cond.L = &c.mu
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wasReset.ids = make([]uint32, 0, c.limits.Streams)
	c.ended.ids = make([]uint32, 0, endedKept)
	c.client.headSince = 1
	c.client.greet(&c.limits)
	c.allowed = c.limits.Streams
	c.every = tick
	for _, d := range []time.Duration{c.limits.HeadTime, c.limits.IdleTime, c.limits.WriteTime} {
		c.every = min(c.every, max(d/2, time.Millisecond))
	}
	return c
}

// Serve relays until the connection ends, closes it and those to the application,
// and returns why it ended: nil when the client left or was drained.
func (c *Conn) Serve() error {
	c.mu.Lock()
	c.wg.Add(1)
	c.clock = time.AfterFunc(c.every, c.look)
	if len(c.seen) == 0 {
		// A server speaks first (RFC 9113 section 3.4): a client that keeps a connection
		// for HTTP/1 and has sent nothing must learn now that it is none. One that has
		// begun gets the greeting with the first answers.
		c.flush(c.client)
	}
	c.mu.Unlock()

	err := c.readClient()

	c.mu.Lock()
	c.finish(err)
	err = c.err
	if c.clock.Stop() {
		c.wg.Done()
	}
	c.client.conn.Close()
	c.mu.Unlock()
	c.wg.Wait()
	return err
}

// Drain tells the client to go away and lets streams in progress finish; Serve
// returns after the last. It may be called at any time, more than once.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.finished {
		return
	}
	c.draining = true
	o := c.client.buf()
	o.b = appendGoAway(o.b, maxWindow, http2.ErrCodeNo)
	o.b = append(appendFrameHeader(o.b, 8, http2.FramePing, 0, 0), drainPing[:]...)
	c.wg.Go(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flush(c.client)
	})
}

// Cut ends all connections at once, with a reset.
func (c *Conn) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut(nil)
}

func (c *Conn) cut(err error) {
	conns := []net.Conn{c.client.conn}
	for _, p := range c.apps {
		conns = append(conns, p.conn)
	}
	for _, conn := range conns {
		if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
			conn = over.NetConn() // TLS would still say goodbye
		}
		if l, ok := conn.(interface{ SetLinger(int) error }); ok {
			l.SetLinger(0)
		}
		conn.Close()
	}
	c.finish(err)
}

// goAwayAfter names the last stream that is served; the connection ends with the
// last one open.
func (c *Conn) goAwayAfter(last uint32) {
	if c.leaving || c.finished {
		return
	}
	c.draining, c.leaving, c.goAway = true, true, last
	o := c.client.buf()
	o.b = appendGoAway(o.b, last, http2.ErrCodeNo)
	c.drained()
}

// drained ends the connection when it is leaving and nothing is open.
func (c *Conn) drained() {
	if c.leaving && len(c.streams) == 0 && !c.dialing {
		c.finish(nil)
	}
}

// fail ends the connection for what the client did.
func (c *Conn) fail(err *connError) {
	if c.finished {
		return
	}
	if err.code != http2.ErrCodeEnhanceYourCalm { // a limit, which has bitten
		c.malformed(err.code, err.reason)
	}
	o := c.client.buf()
	o.b = appendGoAway(o.b, min(c.lastID, c.goAway), err.code)
	c.finish(err)
}

// finish ends everything. What is in the client's buffer is still written; its
// reader goes on for a while so that closing does not take that away.
func (c *Conn) finish(err error) {
	if c.finished {
		return
	}
	c.finished, c.err = true, err
	c.cancel()
	for _, p := range c.apps {
		p.lost, p.gone = true, true
		p.conn.Close()
	}
	c.apps = nil
	for _, s := range c.streams {
		if s.handed != nil {
			s.handed.broken(ErrClosed)
		}
		c.tell(s, ErrClient)
	}
	clear(c.streams)
	c.client.conn.SetReadDeadline(time.Now().Add(lingerTime))
	c.cond.Broadcast()
}

func (c *Conn) malformed(code ErrCode, why string) {
	if c.cfg.Malformed != nil {
		c.cfg.Malformed(&connError{code, why})
	}
}

func (c *Conn) bite(l Limit) {
	if c.cfg.Bite != nil {
		c.cfg.Bite(l)
	}
}

// flush writes what there is for p. One goroutine writes at a time; others leave
// their frames to it, and wait while there are too many. The lock is not held
// while writing.
func (c *Conn) flush(p *peer) {
	for p.flushing && p.pending() > highWater && p.err == nil {
		c.cond.Wait()
	}
	if p.flushing || p.lost {
		return
	}
	p.flushing = true
	for p.pending() > 0 && p.err == nil {
		out := p.out
		p.out = nil
		for rest := out.b; len(rest) > 0 && p.err == nil; {
			part := rest[:min(len(rest), maxWrite)]
			rest = rest[len(part):]
			p.writeSince = c.ticks + 1
			c.mu.Unlock()
			_, err := p.conn.Write(part)
			c.mu.Lock()
			p.writeSince = 0
			if err != nil {
				c.writeFailed(p, err)
			}
		}
		recycle(out)
		c.cond.Broadcast()
	}
	if p.err != nil && p.out != nil {
		recycle(p.out) // nobody will ever take it
		p.out = nil
	}
	p.flushing = false
	if p == c.client && c.finished && !c.halfClosed {
		c.halfClosed = true
		if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
			c.mu.Unlock()
			half.CloseWrite()
			c.mu.Lock()
		}
	}
}

func (c *Conn) writeFailed(p *peer, err error) {
	p.err = err
	if p == c.client {
		c.finish(err)
		p.conn.Close()
	}
	// An application's reader finds the end by itself, after what it still says.
}

// flushAll writes to whom there is something to write to, the application first.
func (c *Conn) flushAll() {
	c.sendStops()
	for i := 0; i < len(c.apps); i++ {
		p := c.apps[i]
		if p.pending() > 0 {
			c.flush(p)
		}
		if p.gone && p.open == 0 && !p.flushing {
			p.conn.Close() // its reader finds the end
		}
	}
	if c.client.pending() > 0 || c.finished {
		c.flush(c.client)
	}
}

// relieve writes within a read when much has come together: heads can be a lot
// larger decoded than they came.
func (c *Conn) relieve() {
	if c.client.pending() > highWater || c.app != nil && c.app.pending() > highWater {
		c.flushAll()
	}
}

// readClient reads the client to its end.
func (c *Conn) readClient() error {
	in := reader{conn: c.client.conn, seen: c.seen}
	c.seen = nil
	defer in.release()
	preface := len(http2.ClientPreface)
	for {
		err := in.more()
		c.mu.Lock()
		if preface > 0 && !c.finished {
			n := min(preface, len(in.unread()))
			want := http2.ClientPreface[len(http2.ClientPreface)-preface:]
			if string(in.unread()[:n]) != want[:n] {
				c.fail(&connError{http2.ErrCodeProtocol, "no HTTP/2 preface"})
			}
			in.take(n)
			preface -= n
		}
		for preface == 0 && !c.finished {
			f, rest, whole, bad := parseFrame(in.unread())
			if bad == nil && whole {
				in.take(len(in.unread()) - len(rest))
				bad = c.clientFrame(&f)
			}
			if bad != nil {
				c.fail(bad)
			}
			if !whole {
				break
			}
			c.relieve()
		}
		if len(c.streams) == 0 {
			c.client.in.shrink()
		}
		c.headProgress(&in)
		c.flushAll()
		finished := c.finished
		c.mu.Unlock()
		switch {
		case finished:
			return in.linger()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// headProgress notes since when a head, or the preface, has been incomplete.
func (c *Conn) headProgress(in *reader) {
	p := c.client
	rest := in.unread()
	partial := len(rest) > 0 && (len(rest) < 4 || http2.FrameType(rest[3]) == http2.FrameHeaders || http2.FrameType(rest[3]) == http2.FrameContinuation)
	switch {
	case p.settled && p.fragments == 0 && !partial:
		p.headSince = 0
	case p.headSince == 0:
		p.headSince = c.ticks + 1
	}
}

// readApp reads a connection to the application to its end.
func (c *Conn) readApp(p *peer) {
	in := reader{conn: p.conn}
	defer in.release()
	for {
		err := in.more()
		c.mu.Lock()
		for !p.lost {
			f, rest, whole, bad := parseFrame(in.unread())
			if bad == nil && whole {
				in.take(len(in.unread()) - len(rest))
				bad = c.appFrame(p, &f)
			}
			if bad != nil {
				err = bad
			}
			if bad != nil || !whole {
				break
			}
			c.relieve()
		}
		if p.open == 0 {
			p.in.shrink()
		}
		if err != nil && !c.finished {
			c.appGone(p, err)
		}
		c.flushAll()
		lost := p.lost
		c.mu.Unlock()
		if lost {
			p.conn.Close()
			return
		}
	}
}

// look is the clock: it counts ticks and ends what has lasted too long.
func (c *Conn) look() {
	defer c.wg.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return
	}
	c.ticks++
	over := func(since int, limit time.Duration) bool {
		return since > 0 && time.Duration(c.ticks-since+1)*c.every > limit
	}
	if len(c.streams) > 0 || c.idleSince != c.lastID {
		c.idleSince, c.idleFor = c.lastID, 0
	} else {
		c.idleFor++
	}
	writing := over(c.client.writeSince, c.limits.WriteTime)
	for _, p := range c.apps {
		writing = writing || over(p.writeSince, c.limits.WriteTime)
	}
	switch {
	case writing:
		c.bite(LimitWriteTime)
		c.cut(&connError{http2.ErrCodeEnhanceYourCalm, "a peer takes nothing"})
		return
	case over(c.client.headSince, c.limits.HeadTime):
		c.bite(LimitHeadTime)
		c.fail(&connError{http2.ErrCodeEnhanceYourCalm, "a head takes too long"})
	case time.Duration(c.idleFor)*c.every > c.limits.IdleTime:
		c.bite(LimitIdleTime)
		c.goAwayAfter(c.lastID)
	}
	for _, p := range append([]*peer{c.client}, c.apps...) {
		switch {
		case p.room >= maxFrame:
			p.fullSince = 0
		case p.fullSince == 0:
			p.fullSince = c.ticks
		case over(p.fullSince, c.limits.WriteTime):
			c.bite(LimitWriteTime)
			c.overfull(p)
		}
	}
	c.wg.Add(1)
	c.clock.Reset(c.every)
	c.flushAll()
}
