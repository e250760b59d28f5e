package inbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// serveDirect takes a connection made to the proxy's own port (section 7.3): mesh
// TLS with an identity, then a header that names the target port. The policy of
// that port applies, as if the connection had been redirected from it.
func (s *Server) serveDirect(ctx context.Context, raw *net.TCPConn, dst netip.AddrPort) {
	deadline := time.Now().Add(s.cfg.Timeouts.Detect)
	sess := &session{server: s, raw: raw, dst: dst, client: policy.Client{Addr: peerOf(raw)}}
	if !s.track(sess) {
		return
	}
	conn := &stream{peekConn: peekConn{Conn: raw}}
	var said hello
	err := conn.gather(deadline, maxClientHello, func(seen []byte) bool {
		said = parseHello(seen)
		return said.decided
	})
	if said.long || errors.Is(err, errPeekLimit) {
		s.bite(limitClientHello)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.bite(limitDetectTime)
		s.refuse(sess, errTLSTimeout, "no client hello in time", nil)
		return
	case err != nil && !errors.Is(err, errPeekLimit):
		s.refuse(sess, errIO, "closed before it said anything", err)
		return
	case said.serverName != s.cfg.Identity.LocalName() || !slices.Contains(said.protocols, transport.ALPN): // T-31
		s.refuse(sess, errUnexpected, "direct connection without mesh TLS", nil)
		return
	}
	session, ok := s.terminate(ctx, sess, &conn.peekConn, s.tlsDirect, deadline)
	if !ok {
		return
	}
	if sess.client.Identity == "" {
		s.refuse(sess, errUnexpected, "direct connection without an identity", nil)
		return
	}
	session.SetReadDeadline(deadline)
	header, err := transport.Read(session)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.bite(limitDetectTime)
		}
		kind := errUnexpected
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
			kind = errIO
		}
		s.refuse(sess, kind, "no transport header", err)
		return
	}
	session.SetReadDeadline(time.Time{})
	if header.Name != "" {
		// Gateway mode needs an outbound side for strangers, which this proxy is not.
		s.refuse(sess, "gateway domain invalid", "not a gateway", nil)
		return
	}
	sess.dst, sess.agreed = netip.AddrPortFrom(dst.Addr(), header.Port), ""
	if s.own(header.Port) {
		s.refuse(sess, errLoop, "destination is a port of the proxy", nil)
		return
	}
	snap := s.attach(ctx, sess)
	if snap == nil {
		return
	}
	switch header.Protocol {
	case transport.HTTP1:
		s.serveHTTP1(sess, session)
	case transport.HTTP2:
		s.serveHTTP2(sess, session)
	default:
		s.serveTCP(ctx, sess, session) // an HTTP-only policy has no list for it (T-33)
	}
}
