package http1

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// helper is the second goroutine of a connection, there only when one is needed:
// it sends a body while the answer may come already, or watches whether the
// client is still there while the application thinks. There is never more than one.
type helper struct {
	helping task
	// done gets the result of each; it is made with the first.
	done chan error
	// watched counts the watches.
	watched atomic.Int64
	// gone: the watch found the client gone.
	gone atomic.Bool
	// hurry: the answer is complete, the body must be so soon.
	hurry atomic.Bool
	// unsent: a sender has ended before its body did.
	unsent bool
}

type task uint8

const (
	nobody task = iota
	watching
	sending
)

// What ends an exchange, without an allocation.
var (
	errGone      = fmt.Errorf("%w", ErrClient)
	errBodyBroke = fmt.Errorf("%w: its body broke off", ErrClient)
	errBodyBad   = fmt.Errorf("%w: its body was malformed", ErrClient)
	// errNotTaken: the application does not take the body; its answer may still come.
	errNotTaken = fmt.Errorf("%w: it did not take the body", ErrApplication)
)

func (c *Conn) start(t task, run func(app net.Conn) error) {
	if c.done == nil {
		c.done = make(chan error, 1)
	}
	c.helping = t
	if t == watching {
		c.watched.Add(1)
	}
	app := c.app.conn
	go func() { c.done <- run(app) }()
}

// result waits for the helper.
func (c *Conn) result() error { return c.note(<-c.done) }

// finished is result for who does not wait.
func (c *Conn) finished() (err error, ok bool) {
	select {
	case err = <-c.done:
		return c.note(err), true
	default:
		return nil, false
	}
}

// note notes the end of the helper. That a sender could not send is asked for only
// when the answer is complete.
func (c *Conn) note(err error) error {
	c.unsent = c.unsent || c.helping == sending && err != nil
	c.helping = nobody
	return err
}

// join waits for a helper whose connections are closed.
func (c *Conn) join() {
	if c.helping != nobody {
		c.result()
	}
}

// stop has a sender end and waits for it.
func (c *Conn) stop() error {
	if c.helping != sending {
		return nil
	}
	c.hurry.Store(true)
	c.client.conn.SetReadDeadline(time.Unix(1, 0))
	err := c.result()
	c.hurry.Store(false)
	c.client.readBy = time.Time{}
	return err
}

// settle gives a sender a moment to come to its end after the answer has.
func (c *Conn) settle() error {
	if c.helping != sending {
		return nil
	}
	err, ok := c.finished()
	if !ok {
		c.hurry.Store(true)
		c.hasten(c.app.conn)
		err = c.result()
		c.hurry.Store(false)
		c.client.readBy, c.app.writeBy = time.Time{}, time.Time{}
	}
	return err
}

// hasten bounds what a sender waits for.
func (c *Conn) hasten(app net.Conn) {
	by := time.Now().Add(c.limits.Linger)
	c.client.conn.SetReadDeadline(by)
	app.SetWriteDeadline(by)
}

// unwatch ends a watch before its time, so that from now on nothing that the client
// does is taken for its having gone. It returns what the watch has come to; nil if
// the client is there.
func (c *Conn) unwatch() error {
	if c.helping != watching {
		return nil
	}
	c.client.conn.SetReadDeadline(time.Unix(1, 0))
	err := c.result()
	c.gone.Store(false)
	c.client.conn.SetReadDeadline(time.Time{})
	c.client.readBy = time.Time{}
	if isTimeout(err) {
		return nil
	}
	return err
}

// watch looks out for the client's end; what comes instead waits in the buffer.
func (c *Conn) watch(app net.Conn) error {
	err := c.client.fill()
	if err != nil {
		c.gone.Store(true)
		app.SetReadDeadline(time.Unix(1, 0)) // whoever waits there looks at gone
	}
	return err
}

// send passes the rest of the request's body on. When that cannot be whole the
// application is hung up on: it must not take a part for it.
func (c *Conn) send(app net.Conn) error {
	f := &c.x.up
	for !f.done {
		now := time.Now()
		c.client.readWithin(now, c.limits.Stall)
		if c.hurry.Load() {
			c.hasten(app)
		}
		switch err := c.client.fillMore(); {
		case err == nil:
		case c.hurry.Load():
			return errNotTaken
		case c.client.early(err):
			continue
		default:
			if isTimeout(err) {
				c.bite(StallLimit)
			}
			app.Close()
			return errBodyBroke
		}
		b := c.client.bytes()
		n, used, refused := f.next(b)
		if refused != nil {
			c.tell(Client, refused)
			app.Close()
			return errBodyBad
		}
		if err := c.app.write(b[:n], now, c.limits.Stall); err != nil {
			if isTimeout(err) && !c.hurry.Load() {
				c.bite(StallLimit)
			}
			return errNotTaken
		}
		c.client.use(used)
	}
	return nil
}
