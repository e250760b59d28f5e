package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// Values of the error label of inbound_tcp_errors_total (M-08), and ours.
const (
	errTLSTimeout  = "tls detection timeout"
	errIO          = "i/o"
	errUnexpected  = "unexpected"
	errLoop        = "gateway loop"
	errLoadShed    = "loadshed"
	errNoPolicy    = "policy discovery timeout" // ours: held, then refused
	errHTTPTimeout = "http detection timeout"   // ours: undecided bytes on a port whose routes are stricter than its list
)

// serveInbound takes a connection from the inbound listener.
func (s *Server) serveInbound(ctx context.Context, raw *net.TCPConn) {
	dst, err := s.cfg.OriginalDst(raw)
	if err != nil {
		s.turnAway(raw, errUnexpected, dst, "original destination unknown", err)
		return
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	switch {
	case len(s.cfg.IPs) > 0 && !slices.Contains(s.cfg.IPs, dst.Addr()): // T-01
		s.turnAway(raw, errUnexpected, dst, "destination is not an address of this pod", nil)
	case dst.Port() == s.cfg.InboundPort: // T-03
		s.serveDirect(ctx, raw, dst)
	case s.own(dst.Port()):
		s.turnAway(raw, errLoop, dst, "destination is a port of the proxy", nil)
	default:
		s.serveRedirected(ctx, raw, dst)
	}
}

// serveAdmin takes a connection from the admin listener, which is policed like any port (B-04).
func (s *Server) serveAdmin(ctx context.Context, raw *net.TCPConn) {
	local := raw.LocalAddr().(*net.TCPAddr).AddrPort()
	dst := netip.AddrPortFrom(local.Addr().Unmap(), s.cfg.AdminPort)
	sess, snap := s.admit(ctx, raw, dst)
	if sess == nil {
		return
	}
	sess.admin = true
	s.serveByPolicy(ctx, sess, snap)
}

func (s *Server) serveRedirected(ctx context.Context, raw *net.TCPConn, dst netip.AddrPort) {
	if sess, snap := s.admit(ctx, raw, dst); sess != nil {
		s.serveByPolicy(ctx, sess, snap)
	}
}

// admit makes the session of a connection and waits for the policy of its port.
// It returns nil when there is none to serve.
func (s *Server) admit(ctx context.Context, raw *net.TCPConn, dst netip.AddrPort) (*session, *snapshot) {
	return s.admitFrom(ctx, raw, peerOf(raw), dst)
}

// admitFrom is admit for a connection that counts as this peer's.
func (s *Server) admitFrom(ctx context.Context, raw *net.TCPConn, peer, dst netip.AddrPort) (*session, *snapshot) {
	sess := &session{server: s, raw: raw, dst: dst, client: policy.Client{Addr: peer}}
	if !s.track(sess) {
		return nil, nil
	}
	snap := s.attach(ctx, sess)
	if snap == nil {
		return nil, nil
	}
	return sess, snap
}

// attach gives the session the cell of its destination port, and then reads the
// policy, so that every policy message is either seen by that read or rechecks
// the session. While there is no policy the connection is held; on nil it has
// been refused and the session has ended (fail closed).
func (s *Server) attach(ctx context.Context, sess *session) *snapshot {
	c, err := s.store.acquire(sess.dst.Port())
	if err != nil {
		s.bite(limitPorts)
		s.refuse(sess, errLoadShed, "policy not watched", err)
		return nil
	}
	sess.cell = c
	c.add(sess)
	snap, held := s.hold(ctx, sess)
	if snap == nil {
		if held {
			s.bite(limitDiscoveryTime)
			s.undiscovered(sess)
		}
		sess.end()
	}
	return snap
}

// hold waits for the first policy of the session's port. On nil there was none in time,
// or, when held is false, the session has been cut.
func (s *Server) hold(ctx context.Context, sess *session) (snap *snapshot, held bool) {
	if snap = sess.cell.current.Load(); snap.port != nil {
		return snap, true
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !sess.upstream.begin(&cancel) {
		return nil, false
	}
	snap = sess.cell.await(ctx, s.cfg.Timeouts.Discovery)
	return snap, sess.upstream.ended(&cancel)
}

// own tells the proxy's ports, which are never a destination.
func (s *Server) own(port uint16) bool {
	return port == s.cfg.InboundPort || port == s.cfg.AdminPort || slices.Contains(s.cfg.OwnPorts, port)
}

// turnAway closes a connection that never got as far as a session.
func (s *Server) turnAway(raw *net.TCPConn, kind string, dst netip.AddrPort, why string, err error) {
	s.refused(&session{server: s, raw: raw, dst: dst, client: policy.Client{Addr: peerOf(raw)}}, kind, why, err)
	raw.Close()
}

// refuse ends a session that no policy was asked about.
func (s *Server) refuse(sess *session, kind, why string, err error) {
	s.refused(sess, kind, why, err)
	sess.end()
}

// peerOf is the client's address, IPv4-mapped forms reduced (T-04).
func peerOf(raw *net.TCPConn) netip.AddrPort {
	peer := raw.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

// serveByPolicy finds out what is spoken, as far as the protocol of the port leaves it open.
func (s *Server) serveByPolicy(ctx context.Context, sess *session, snap *snapshot) {
	if snap.port.Protocol == policy.Opaque {
		sess.client.TLS = policy.PortSkipped // T-10
		s.serveTCP(ctx, sess, sess.raw)
		return
	}
	conn, ok := s.detectTLS(ctx, sess, snap)
	if !ok {
		return
	}
	if snap = sess.cell.current.Load(); snap.port == nil { // cannot be: it was there before
		sess.end()
		return
	}
	terminated := sess.client.TLS == policy.Terminated
	switch snap.port.Protocol {
	case policy.HTTP1:
		switch {
		case sess.client.TLS == policy.PassThrough:
			s.serveTCP(ctx, sess, conn) // refused there: no list for it (T-18)
		case terminated:
			s.detectHTTP(ctx, sess, snap, conn)
		default:
			s.serveHTTP1(sess, conn)
		}
	case policy.HTTP2, policy.GRPC:
		if sess.client.TLS == policy.PassThrough {
			s.serveTCP(ctx, sess, conn)
			return
		}
		s.serveHTTP2(sess, conn)
	case policy.Detect:
		if sess.client.TLS == policy.PassThrough || conn.silent {
			s.serveTCP(ctx, sess, conn)
			return
		}
		s.detectHTTP(ctx, sess, snap, conn)
	default:
		s.serveTCP(ctx, sess, conn)
	}
}

// stream is a connection after TLS detection.
type stream struct {
	peekConn
	// silent: the client sent nothing within the detect time-out, and its connection is taken as opaque.
	silent bool
	// unheard: the connection became opaque before the client said anything.
	unheard bool
}

// detectTLS looks for a ClientHello and terminates TLS that is meant for us
// (T-11 to T-13). ok is false when the session has ended.
func (s *Server) detectTLS(ctx context.Context, sess *session, snap *snapshot) (conn *stream, ok bool) {
	conn = &stream{peekConn: peekConn{Conn: sess.raw}}
	limit := s.cfg.Timeouts.Detect
	if sess.admin {
		limit = s.cfg.Timeouts.AdminDetect
	}
	deadline := time.Now().Add(limit)
	declared := snap.port.Protocol == policy.HTTP1 || snap.port.Protocol == policy.HTTP2 || snap.port.Protocol == policy.GRPC
	if declared && !s.cfg.Dialect.CloseSilentClient && !sess.admin {
		// Nothing is detected on such a port, so a client that speaks late is merely idle.
		first := func(seen []byte) bool { return true }
		if err := conn.gather(time.Now().Add(s.cfg.fixed.idle), maxClientHello, first); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.bite(limitIdle)
			}
			sess.end()
			return nil, false
		}
		deadline = time.Now().Add(limit)
	}
	var said hello
	err := conn.gather(deadline, maxClientHello, func(seen []byte) bool {
		said = parseHello(seen)
		return said.decided
	})
	if said.long || errors.Is(err, errPeekLimit) {
		s.bite(limitClientHello)
	}
	switch {
	case err == nil || errors.Is(err, errPeekLimit):
	case errors.Is(err, os.ErrDeadlineExceeded):
		if len(conn.seen) == 0 && snap.port.Protocol == policy.Detect && !s.cfg.Dialect.CloseSilentClient && !sess.admin {
			conn.silent, conn.unheard = true, true
			s.cfg.Metrics.detected(snap, sess, detectTimeout)
			break
		}
		s.bite(limitDetectTime)
		s.refuse(sess, errTLSTimeout, "no client hello in time", nil)
		return nil, false
	case errors.Is(err, io.EOF) && len(conn.seen) > 0:
		// Too short for a ClientHello for ever: judged as what it is.
	default:
		s.refuse(sess, errIO, "closed before it said anything", err)
		return nil, false
	}
	if !said.tls || said.serverName == "" {
		sess.client.TLS = policy.NoTLS
		if sess.client.Addr.Addr().IsLoopback() || sess.client.Addr.Addr() == sess.dst.Addr() {
			sess.client.TLS = policy.Loopback
		}
		return conn, true
	}
	if said.serverName != s.cfg.Identity.LocalName() {
		sess.client.TLS, sess.client.SNI = policy.PassThrough, said.serverName
		return conn, true
	}
	config := s.tlsPlain
	if slices.Contains(said.protocols, "h2") || slices.Contains(said.protocols, "http/1.1") {
		config = s.tlsHTTP
	}
	session, ok := s.terminate(ctx, sess, &conn.peekConn, config, deadline)
	if !ok {
		return nil, false
	}
	return &stream{peekConn: peekConn{Conn: session}}, true
}

// terminate does the mesh handshake. ok is false when the session has ended.
func (s *Server) terminate(ctx context.Context, sess *session, conn *peekConn, config *tls.Config, deadline time.Time) (*tls.Conn, bool) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn.Conn = unwatched(conn.Conn)
	session := tls.Server(conn, config)
	if err := session.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			s.bite(limitDetectTime)
		}
		s.refuse(sess, errUnexpected, "mesh handshake failed", err)
		return nil, false
	}
	state := session.ConnectionState()
	sess.client.TLS = policy.Terminated
	sess.client.Identity = identity.PeerIdentity(state)
	sess.agreed = state.NegotiatedProtocol
	return session, true
}

// detectHTTP finds out whether HTTP is spoken (T-15 to T-18, and the rows of the dialect).
func (s *Server) detectHTTP(ctx context.Context, sess *session, snap *snapshot, conn *stream) {
	limit := snap.port.DetectTimeout
	switch {
	case sess.admin:
		limit = s.cfg.Timeouts.AdminDetect
	case snap.port.Protocol != policy.Detect:
		limit = s.cfg.Timeouts.Detect
	}
	decide, size := sniff, sniffLimit
	if s.cfg.Dialect.FirstReadDecides {
		decide, size = firstRead, firstReadLimit
	}
	said := undecided
	err := conn.gather(time.Now().Add(limit), size, func(seen []byte) bool {
		said = decide(seen)
		return said != undecided
	})
	late := errors.Is(err, os.ErrDeadlineExceeded)
	httpOnly := snap.port.Protocol != policy.Detect
	switch {
	case err == nil:
	case errors.Is(err, errPeekLimit):
		said = isHTTP1 // an endless request line: the HTTP server refuses it
	case late && sess.admin: // B-05
		said = isHTTP1
		if sess.client.TLS == policy.Terminated {
			said = isHTTP2
		}
	case late && httpOnly:
		said = isHTTP1
	case late && len(conn.seen) > 0 && !bytesAsStrict(sess.cell.current.Load().port):
		// It may yet become HTTP, whose routes are stricter than the list: no weaker judgement.
		s.cfg.Metrics.detected(snap, sess, detectTimeout)
		s.bite(limitHTTPDetectTime)
		s.refuse(sess, errHTTPTimeout, "protocol undecided in time", nil)
		return
	case late || errors.Is(err, io.EOF) && len(conn.seen) > 0:
		said = notHTTP
		conn.unheard = len(conn.seen) == 0
		sess.setLoose(late && !conn.unheard)
	default:
		s.cfg.Metrics.detected(snap, sess, detectError)
		s.refuse(sess, errIO, "closed before it said anything", err)
		return
	}
	result := map[spoken]string{isHTTP1: detectHTTP1, isHTTP2: detectHTTP2, notHTTP: detectNotHTTP}[said]
	if late {
		result = detectTimeout
	}
	s.cfg.Metrics.detected(snap, sess, result)
	if sess.agreed == "h2" && said != isHTTP2 || sess.agreed == "http/1.1" && said == isHTTP2 {
		s.refuse(sess, errUnexpected, "spoke something else than was agreed", nil)
		return
	}
	switch {
	case said == isHTTP1:
		s.serveHTTP1(sess, conn)
	case said == isHTTP2:
		s.serveHTTP2(sess, conn)
	case sess.admin:
		s.refuse(sess, errUnexpected, "non-HTTP connection", nil)
	default:
		s.serveTCP(ctx, sess, conn)
	}
}
