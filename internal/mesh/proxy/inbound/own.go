package inbound

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// ErrOwnPort is returned by DialOwn for ports that the proxy serves itself.
var ErrOwnPort = errors.New("a port of the proxy is reached directly")

// DialOwn connects this pod's outbound half to a port of its own pod: a process
// that calls its own Service is judged as a client without TLS from the pod's
// address (B-02). The redirection does not bring such connections back, because
// they are the proxy's own, and by way of 127.0.0.1 they would all be localhost's.
func (s *Server) DialOwn(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	if s.own(dst.Port()) {
		return nil, ErrOwnPort
	}
	return s.loop.dial(ctx, dst)
}

// serveOwn takes the other end of what DialOwn returns.
func (s *Server) serveOwn(ctx context.Context, raw *net.TCPConn, dst netip.AddrPort) {
	if sess, snap := s.admitFrom(ctx, raw, netip.AddrPortFrom(dst.Addr(), peerOf(raw).Port()), dst); sess != nil {
		s.serveByPolicy(ctx, sess, snap)
	}
}

// loop makes pairs of connections. Its listener is there while Serve runs.
type loop struct {
	mu       sync.Mutex
	listener *net.TCPListener
	serve    func(raw *net.TCPConn, dst netip.AddrPort)
}

func (l *loop) open(serve func(raw *net.TCPConn, dst netip.AddrPort)) error {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)))
	if err != nil {
		return fmt.Errorf("listen for calls of the pod's own Services: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener, l.serve = listener, serve
	return nil
}

// close lets nothing start any more.
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
}

// dial makes a pair, has one end served and returns the other one. Whoever else
// connects to the listener gets nothing: only an end that was made here is taken.
func (l *loop) dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, pairTimeout)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener == nil {
		return nil, net.ErrClosed
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", l.listener.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("reach the inbound half: %w", err)
	}
	deadline, _ := ctx.Deadline()
	l.listener.SetDeadline(deadline)
	for {
		raw, err := l.listener.AcceptTCP()
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("reach the inbound half: %w", err)
		}
		if raw.RemoteAddr().String() == conn.LocalAddr().String() {
			l.serve(raw, dst)
			return conn, nil
		}
		raw.Close()
	}
}
