package inbound

import (
	"errors"
	"net"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/bare"
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

// SetLinger is for who cuts a connection beneath TLS.
func (c *peekConn) SetLinger(seconds int) error {
	if tcp, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return tcp.SetLinger(seconds)
	}
	return nil
}

// unwatched is the connection without the scheduler's attention to each system call. It
// is for relays of requests: between two connections of bytes the kernel copies, which
// wants them as they are.
func unwatched(c net.Conn) net.Conn {
	if tcp, ok := c.(*net.TCPConn); ok {
		return bare.New(tcp)
	}
	return c
}
