package inbound

import (
	"context"
	"net"
	"slices"
	"sync"

	"github.com/meshproof/meshproof/internal/mesh/proxy/bare"
)

// upstreams are the connections to the application that serve one client
// connection. They are never shared: an answer cannot reach another identity.
type upstreams struct {
	mu     sync.Mutex
	closed bool
	// conns are open; waits end when the session does.
	conns []net.Conn
	waits []*context.CancelFunc
}

// begin registers something that waits, a dial or the hold for a first policy; false
// when the session is over already.
func (u *upstreams) begin(cancel *context.CancelFunc) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.waits = append(u.waits, cancel)
	}
	return !u.closed
}

// ended forgets it; false when the session is over.
func (u *upstreams) ended(cancel *context.CancelFunc) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.waits, cancel); i >= 0 {
		u.waits = slices.Delete(u.waits, i, i+1)
	}
	return !u.closed
}

// end lets nothing be dialled any more and returns what is open.
func (u *upstreams) end() []net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, cancel := range u.waits {
		(*cancel)()
	}
	return slices.Clone(u.conns)
}

// add registers a connection for cut; false when the session is over already.
func (u *upstreams) add(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.closed {
		u.conns = append(u.conns, c)
	}
	return !u.closed
}

func (u *upstreams) remove(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.conns, c); i >= 0 {
		u.conns = slices.Delete(u.conns, i, i+1)
	}
}

// close ends all connections to the application, as the client's has ended.
func (u *upstreams) close() {
	for _, c := range u.end() {
		c.Close()
	}
}

// cut resets them.
func (u *upstreams) cut() {
	for _, c := range u.end() {
		if tcp, ok := c.(interface{ SetLinger(int) error }); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

// trackedConn forgets itself when a relay closes it.
type trackedConn struct {
	*bare.Conn
	upstreams *upstreams
}

func (c *trackedConn) Close() error {
	c.upstreams.remove(c.TCPConn)
	return c.Conn.Close()
}

// dial connects to what stands behind the session: its original destination, or the
// proxy itself when that is the admin port. It ends with the session.
func (sess *session) dial() (net.Conn, error) { return sess.dialContext(context.Background()) }

// dialContext is dial that also ends with ctx.
func (sess *session) dialContext(ctx context.Context) (net.Conn, error) {
	if sess.admin {
		return sess.server.dialAdmin(sess)
	}
	conn, err := sess.connect(ctx)
	if err != nil {
		return nil, err
	}
	return &trackedConn{Conn: bare.New(conn.(*net.TCPConn)), upstreams: &sess.upstream}, nil
}

// connect connects to the session's destination. Who cuts the session ends the attempt
// and the connection.
func (sess *session) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !sess.upstream.begin(&cancel) {
		return nil, net.ErrClosed
	}
	conn, err := sess.server.dial.DialContext(ctx, "tcp", sess.dst.String())
	switch open := sess.upstream.ended(&cancel); {
	case err != nil && open:
		return nil, err
	case err != nil:
		return nil, net.ErrClosed
	case !sess.upstream.add(conn):
		conn.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}
