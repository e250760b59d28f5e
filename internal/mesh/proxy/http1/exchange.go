package http1

import (
	"errors"
	"net"
	"net/http"
	"time"
)

// errAnswer is an answer that did not come, broke off or was malformed.
var (
	errNoAnswer  = &answerError{"closed without an answer"}
	errBrokeOff  = &answerError{"the answer broke off"}
	errMalformed = &answerError{"the answer was malformed"}
)

type answerError struct{ why string }

func (e *answerError) Error() string { return ErrApplication.Error() + ": " + e.why }

// Unwrap makes it an ErrApplication.
func (e *answerError) Unwrap() error { return ErrApplication }

// forward sends the request, of whose head size bytes are in the buffer, to the
// application and its answer back. It reports whether another request may follow.
func (c *Conn) forward(size int) bool {
	x := c.x
	if err := c.connect(); err != nil {
		c.client.use(size)
		return c.fail(&DialError{err})
	}
	dst := ""
	if len(x.request.head.Authority) == 0 {
		dst = c.app.conn.RemoteAddr().String()
	}
	x.writeRequest(dst)
	again := c.used && x.request.body == NoBody && idempotent(x)
	c.client.use(size) // from here on nothing of the head may be used that is a slice
	more := c.client.bytes()
	n, used, refused := x.up.next(more)
	if refused != nil {
		c.tell(Client, refused)
		return c.refuseBody()
	}
	fits := len(x.out)+n <= bufferSize
	if fits {
		x.out = append(x.out, more[:n]...)
		c.client.use(used)
	}
	err := c.app.write(x.out, c.now, c.limits.Stall)
	if err == nil && !fits {
		err = c.app.write(more[:n], c.now, c.limits.Stall)
	}
	if !fits {
		c.client.use(used)
	}
	if isTimeout(err) {
		c.bite(StallLimit)
		return c.fail(errNotTaken)
	}
	if err == nil && !x.up.done {
		c.start(sending, c.send)
	}
	return c.respond(again, err == nil)
}

// connect makes sure that there is a connection to the application that nothing
// has happened on since the last answer.
func (c *Conn) connect() error {
	if c.open {
		if c.app.silent() {
			return nil
		}
		c.hangUp()
	}
	conn, err := c.dial()
	if err != nil {
		return err
	}
	c.app.init(conn)
	c.open, c.used = true, false
	return nil
}

// idempotent requests may be sent again when the connection ended before any answer.
func idempotent(x *exchange) bool {
	return !x.request.upgrading && !x.request.connect && repeatable(x.request.head.Method)
}

// repeatable tells of a method that asking twice does no more than asking once.
func repeatable(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// respond passes the answer back; again says that the request is in x.out and
// may be sent once more, sent that the application has taken it so far.
func (c *Conn) respond(again, sent bool) bool {
	x := c.x
	for informational := 0; ; {
		size, err := c.readAnswer()
		if err != nil {
			if again && errors.Is(err, errNoAnswer) {
				again = false
				if c.unwatch() != nil {
					return c.fail(errGone)
				}
				c.hangUp() // after the watch, which wakes who waits for this application
				if err := c.connect(); err != nil {
					return c.fail(&DialError{err})
				}
				if c.app.write(x.out, c.now, c.limits.Stall) == nil {
					sent = true
					continue
				}
			}
			return c.fail(err)
		}
		again = false
		if refused := x.response.parse(c.app.bytes()[:size], &x.request, c.limits); refused != nil {
			c.tell(Application, refused)
			return c.fail(errMalformed)
		}
		if x.response.status/100 != 1 || x.response.switched {
			return c.pass(size, sent)
		}
		if informational++; informational > c.limits.Informational {
			c.tell(Application, errInformational)
			return c.fail(errMalformed)
		}
		if x.request.minor == 1 && (x.response.status != http.StatusContinue || x.request.expects) {
			x.writeResponse(false)
			if err := c.client.write(x.out, time.Now(), c.limits.Stall); err != nil {
				return c.broken(0, c.blame(err))
			}
		}
		c.app.use(size)
	}
}

// readAnswer reads until an answer's head is whole.
func (c *Conn) readAnswer() (size int, err error) {
	e := &c.app
	for scanned := 0; ; {
		b := e.bytes()
		size, refused := headEnd(b, scanned)
		if refused == nil && (size > c.limits.Head || size == 0 && len(b) >= c.limits.Head) {
			refused = errHeadLimit
		}
		if refused != nil {
			c.tell(Application, refused)
			return 0, errMalformed
		}
		if size > 0 {
			return size, nil
		}
		if scanned = len(b); e.buf != nil && scanned == len(e.buf.data) {
			e.buf.grow(c.limits.Head)
		}
		if err := c.fillApp(c.now); err != nil {
			if scanned > 0 && errors.Is(err, errNoAnswer) {
				err = errBrokeOff
			}
			return 0, err
		}
	}
}

// fillApp reads from the application, as long as the client is there.
func (c *Conn) fillApp(now time.Time) error {
	for {
		if c.helping != watching {
			c.app.readWithin(now, c.limits.Watch)
		}
		err := c.app.fill()
		if err == nil {
			return nil
		}
		if c.helping == sending {
			sent, ok := c.finished()
			if !ok && errors.Is(err, net.ErrClosed) {
				sent = c.result() // that has hung up on the application, or is cut as well
			}
			if errors.Is(sent, ErrClient) {
				return sent
			}
		}
		if !isTimeout(err) {
			c.ended = isEnd(err)
			return errNoAnswer
		}
		if c.gone.Load() {
			return errGone
		}
		now = time.Now()
		if c.helping == nobody && len(c.client.bytes()) == 0 {
			c.app.conn.SetReadDeadline(time.Time{})
			c.client.conn.SetReadDeadline(time.Time{})
			c.app.readBy, c.client.readBy = time.Time{}, time.Time{}
			c.start(watching, c.watch)
		}
	}
}

// pass sends the answer on whose head, of size bytes, is parsed.
func (c *Conn) pass(size int, sent bool) bool {
	x := c.x
	a := &x.response
	x.down.begin(a.body, a.length, c.limits)
	x.down.answer = true
	x.down.payload = x.request.minor == 0 && a.body == Chunked
	// A client that waits to be asked for its body may send it or not.
	unasked := x.request.expects && c.helping == sending
	last := x.request.close || a.body == ToClose || c.draining.Load() || !sent || unasked && a.status >= http.StatusMultipleChoices
	grpc := -1
	if a.grpcStatus != nil {
		grpc = number(a.grpcStatus)
	}
	status := a.status
	x.writeResponse(last && !a.switched)
	c.app.use(size)
	if a.switched {
		return c.tunnel(status)
	}
	b := c.app.bytes()
	n, used, refused := x.down.next(b)
	if refused != nil {
		c.tell(Application, refused)
		return c.fail(errMalformed)
	}
	fits := len(x.out)+n <= bufferSize
	if fits {
		x.out = append(x.out, b[:n]...)
		c.app.use(used)
	}
	c.now = time.Now()
	err := c.client.write(x.out, c.now, c.limits.Stall)
	if !fits {
		if err == nil {
			err = c.client.write(b[:n], c.now, c.limits.Stall)
		}
		c.app.use(used)
	}
	if err != nil {
		return c.broken(status, c.blame(err))
	}
	for !x.down.done {
		if err := c.fillApp(c.now); err != nil {
			if a.body == ToClose && errors.Is(err, errNoAnswer) && c.ended {
				break
			}
			if errors.Is(err, errNoAnswer) {
				err = errBrokeOff
			}
			return c.broken(status, err)
		}
		b := c.app.bytes()
		n, used, refused := x.down.next(b)
		if refused != nil {
			c.tell(Application, refused)
			return c.broken(status, errMalformed)
		}
		c.now = time.Now() // it may have been long: the next request is waited for from here
		if err := c.client.write(b[:n], c.now, c.limits.Stall); err != nil {
			return c.broken(status, c.blame(err))
		}
		c.app.use(used)
	}
	if x.down.grpcStatus >= 0 {
		grpc = x.down.grpcStatus
	}
	sent = c.settle() == nil && sent && x.up.done && !c.unsent
	c.handler.Responded(x.action.Token, status, grpc, nil)
	if !sent || a.close || len(c.app.bytes()) > 0 {
		c.app.use(len(c.app.bytes())) // nobody asked for it
		c.hangUp()
	}
	c.used = true
	if last || !sent {
		c.linger()
		return false
	}
	return true
}

// blame finds out whether a client that does not take its answer is gone or slow.
func (c *Conn) blame(err error) error {
	if isTimeout(err) {
		c.bite(StallLimit)
	}
	return errGone
}

// broken ends the connection in the middle of an answer, or before one, when
// there is nobody to answer.
func (c *Conn) broken(status int, err error) bool {
	c.handler.Responded(c.x.action.Token, status, -1, err)
	c.hangUp()
	c.abort()
	c.join()
	return false
}

// refuseBody answers for a body that is malformed.
func (c *Conn) refuseBody() bool {
	c.hangUp()
	a := &c.x.action
	token := a.Token
	a.reset()
	a.Token, a.Status = token, http.StatusBadRequest
	return c.answer(errBodyBad)
}

// fail answers in the application's place, or leaves a client that has gone. err
// tells which; nothing has been answered yet.
func (c *Conn) fail(err error) bool {
	x := c.x
	c.hangUp()
	c.app.use(len(c.app.bytes()))
	if sent := c.stop(); errors.Is(sent, ErrClient) {
		err = sent
	}
	switch {
	case errors.Is(err, errBodyBad):
		return c.refuseBody()
	case errors.Is(err, ErrClient):
		return c.broken(0, err)
	}
	token := x.action.Token
	x.action.reset()
	c.handler.Failed(token, err, &x.action)
	x.action.Token = token
	if x.action.Status == 0 {
		x.action.Status = http.StatusBadGateway
	}
	return c.answer(err)
}
