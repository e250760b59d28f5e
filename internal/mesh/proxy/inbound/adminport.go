package inbound

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// adminPort is the application behind the admin port, which is the proxy itself: a
// server of its own that relays reach over pipes, so that its requests are judged,
// changed and counted like all others.
type adminPort struct {
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
}

func newAdminPort(handler http.Handler, log *slog.Logger) *adminPort {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &adminPort{
		server: &http.Server{Handler: handler, Protocols: protocols, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)},
		conns:  make(chan net.Conn), done: make(chan struct{}),
	}
}

// Accept implements net.Listener.
func (a *adminPort) Accept() (net.Conn, error) {
	select {
	case c := <-a.conns:
		return c, nil
	case <-a.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it is idempotent.
func (a *adminPort) Close() error {
	a.once.Do(func() { close(a.done) })
	return nil
}

// Addr implements net.Listener.
func (a *adminPort) Addr() net.Addr { return &net.TCPAddr{} }

// pipeEnd is the server's end of a pipe; its other end is the session's client.
type pipeEnd struct {
	net.Conn
	client net.Addr
}

// RemoteAddr is what the handler knows the client by (B-06).
func (c pipeEnd) RemoteAddr() net.Addr { return c.client }

// dialAdmin connects a session with the admin port's server.
func (s *Server) dialAdmin(sess *session) (net.Conn, error) {
	conn, served := net.Pipe()
	if !sess.upstream.add(conn) {
		conn.Close()
		return nil, net.ErrClosed
	}
	select {
	case s.admin.conns <- pipeEnd{served, net.TCPAddrFromAddrPort(sess.client.Addr)}:
		return &trackedPipe{conn, &sess.upstream}, nil
	case <-s.admin.done:
		sess.upstream.remove(conn)
		conn.Close()
		return nil, net.ErrClosed
	}
}

// trackedPipe forgets itself when a relay closes it.
type trackedPipe struct {
	net.Conn
	upstreams *upstreams
}

func (c *trackedPipe) Close() error {
	c.upstreams.remove(c.Conn)
	return c.Conn.Close()
}

// serve runs until close, and then waits for the requests in progress to end.
func (a *adminPort) serve() { a.server.Serve(a) }

func (a *adminPort) close() {
	a.Close()
	a.server.Shutdown(context.Background())
}
