package inbound

import (
	"errors"
	"io"
)

// errLateHTTP ends a connection that became opaque and turned out to be HTTP.
var errLateHTTP = errors.New("HTTP after the connection had become opaque")

// lateConn is a connection whose client was silent for the whole of detection,
// as one is whose server speaks first. It was judged as bytes, by the list of its
// port; where the port's routes may be stricter than that, a client must not get
// around them by waiting. So its first bytes are looked at when they come, however
// late: bytes that are HTTP, or may yet be, do not reach the application.
type lateConn struct {
	*stream
	session *session
	heard   bool
}

// Read gives nothing before it is known that HTTP is not spoken, or does not matter.
func (c *lateConn) Read(p []byte) (int, error) {
	for !c.heard {
		b := make([]byte, peekStart)
		n, err := c.stream.Conn.Read(b)
		c.seen = append(c.seen, b[:n]...)
		if n > 0 {
			c.heard = c.harmless()
			if said := sniff(c.seen); !c.heard && (said == isHTTP1 || said == isHTTP2 || len(c.seen) >= sniffLimit) {
				c.session.server.refused(c.session, errHTTPTimeout, "HTTP after the time of its detection", nil)
				c.session.cut()
				return 0, errLateHTTP
			} else if said == notHTTP {
				c.heard = true
				c.session.setLoose(false)
			}
		}
		if errors.Is(err, io.EOF) { // too short for a request for ever
			c.heard = true
		} else if err != nil {
			return 0, err
		}
	}
	return c.stream.Read(p)
}

// harmless tells whether requests would be judged as the connection was. If so they
// pass as bytes until a policy comes that is stricter with them.
func (c *lateConn) harmless() bool {
	c.session.setLoose(true) // before the policy is looked at: the next one finds it
	if bytesAsStrict(c.session.cell.current.Load().port) {
		return true
	}
	c.session.setLoose(false)
	return false
}
