package inbound

import (
	"errors"
	"net"
	"sync"
	"time"
)

// peekConn is a connection of which some bytes have been looked at. Reading
// gives those first, so that a detector only ever peeks.
type peekConn struct {
	net.Conn
	// seen are the bytes read and not yet given out.
	seen []byte
}

// peekStart is the first size of the peek buffer; it grows by need.
const peekStart = 1024

// gather reads until decide is content with what was seen, the deadline passes,
// the peer ends its side or limit bytes were seen. It returns nil only when
// decide was content.
func (c *peekConn) gather(deadline time.Time, limit int, decide func(seen []byte) bool) error {
	if len(c.seen) > 0 && decide(c.seen) {
		return nil
	}
	if err := c.SetReadDeadline(deadline); err != nil {
		return err
	}
	defer c.SetReadDeadline(time.Time{})
	for len(c.seen) < limit {
		if cap(c.seen) == len(c.seen) {
			grown := make([]byte, len(c.seen), min(limit, max(peekStart, 2*len(c.seen))))
			copy(grown, c.seen)
			c.seen = grown
		}
		n, err := c.Conn.Read(c.seen[len(c.seen):cap(c.seen)])
		c.seen = c.seen[:len(c.seen)+n]
		if n > 0 && decide(c.seen) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errPeekLimit
}

var errPeekLimit = errors.New("undecided after as many bytes as are looked at")

// Read gives the bytes seen first.
func (c *peekConn) Read(p []byte) (int, error) {
	if len(c.seen) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.seen)
	c.seen = c.seen[n:]
	if len(c.seen) == 0 {
		c.seen = nil
	}
	return n, nil
}

// CloseWrite ends the sending side where the connection can.
func (c *peekConn) CloseWrite() error {
	if half, ok := c.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return nil
}

// httpConn is a connection given to an HTTP server; its end is the session's end.
type httpConn struct {
	net.Conn
	session *session
}

// Close ends the session too.
func (c *httpConn) Close() error {
	err := c.Conn.Close()
	c.session.end()
	return err
}

// CloseWrite is what net/http uses to let a client read the last answer before a reset.
func (c *httpConn) CloseWrite() error {
	if half, ok := c.Conn.(halfCloser); ok {
		return half.CloseWrite()
	}
	return nil
}

// handoff is a listener whose connections were accepted elsewhere.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give passes a connection on; false when the server is closed.
func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it is idempotent.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return &net.TCPAddr{} }
