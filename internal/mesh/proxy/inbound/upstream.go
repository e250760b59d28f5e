package inbound

import (
	"context"
	"net"
	"sync"
)

// upstreams are the connections to the application that serve one client
// connection. They are never shared: an answer cannot reach another identity.
type upstreams struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	// ctx is that of dials; stop ends it with the session.
	ctx  context.Context
	stop context.CancelFunc
}

// context is what dials of the session run under.
func (u *upstreams) context() (context.Context, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, net.ErrClosed
	}
	if u.ctx == nil {
		u.ctx, u.stop = context.WithCancel(context.Background())
	}
	return u.ctx, nil
}

// end lets nothing be dialled any more and returns what is open.
func (u *upstreams) end() []net.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.stop != nil {
		u.stop()
	}
	conns := make([]net.Conn, 0, len(u.conns))
	for c := range u.conns {
		conns = append(conns, c)
	}
	return conns
}

// add registers a connection for cut; false when the session is over already.
func (u *upstreams) add(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	if u.conns == nil {
		u.conns = map[net.Conn]struct{}{}
	}
	u.conns[c] = struct{}{}
	return true
}

func (u *upstreams) remove(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
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
	*net.TCPConn
	upstreams *upstreams
}

func (c *trackedConn) Close() error {
	c.upstreams.remove(c)
	return c.TCPConn.Close()
}

// dial connects to what stands behind the session: its original destination, or the
// proxy itself when that is the admin port. It ends with the session.
func (sess *session) dial() (net.Conn, error) { return sess.dialContext(context.Background()) }

// dialContext is dial that also ends with ctx.
func (sess *session) dialContext(ctx context.Context) (net.Conn, error) {
	if sess.admin {
		return sess.server.dialAdmin(sess)
	}
	over, err := sess.upstream.context()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(over, cancel)()
	conn, err := sess.server.dial.DialContext(ctx, "tcp", sess.dst.String())
	if err != nil {
		return nil, err
	}
	tracked := &trackedConn{TCPConn: conn.(*net.TCPConn), upstreams: &sess.upstream}
	if !sess.upstream.add(tracked) {
		conn.Close()
		return nil, net.ErrClosed
	}
	return tracked, nil
}
