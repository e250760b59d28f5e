package outbound

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// dialError is a failure before a byte of the application's was sent, so that
// another endpoint may be tried.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// dial reaches e for a session of the given protocol. The connection is plain,
// or mesh TLS with the transport header sent; there is nothing between the two.
func (e *endpoint) dial(ctx context.Context, session transport.SessionProtocol) (net.Conn, error) {
	conn, err := e.connect(ctx, session)
	if err != nil {
		// A caller who has gone says nothing about the endpoint.
		if ctx.Err() == nil {
			e.failed()
		}
		return nil, &dialError{fmt.Errorf("reach endpoint %s: %w", e.addr, err)}
	}
	e.succeeded()
	return newCountedConn(conn, e), nil
}

func (e *endpoint) connect(ctx context.Context, session transport.SessionProtocol) (net.Conn, error) {
	p := e.proxy
	if e.identity != "" {
		if err := p.awaitCertificate(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.ConnectTimeout)
	defer cancel()
	if e.own && p.config.DialOwn != nil {
		return p.config.DialOwn(ctx, e.addr)
	}
	addr := e.addr
	if e.inboundPort != 0 {
		addr = netip.AddrPortFrom(addr.Addr(), e.inboundPort)
	}
	raw, err := p.dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil || e.identity == "" {
		return raw, err
	}
	conn, err := e.secure(ctx, raw, session)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// secure makes mesh TLS of raw and, where the peer understands it, names the
// target port. A peer that does not agree to the header's protocol would take
// the header for the application's bytes.
func (e *endpoint) secure(ctx context.Context, raw net.Conn, session transport.SessionProtocol) (net.Conn, error) {
	var alpn []string
	if e.inboundPort != 0 {
		alpn = []string{transport.ALPN}
	}
	conn := tls.Client(raw, e.proxy.config.Identity.ClientConfigSNI(e.identity, e.sni, alpn...))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("handshake with %s: %w", e.identity, err)
	}
	if e.inboundPort == 0 {
		return conn, nil
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != transport.ALPN {
		return nil, fmt.Errorf("handshake with %s: it speaks %q, not %q", e.identity, got, transport.ALPN)
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetWriteDeadline(deadline)
	}
	if err := (transport.Header{Port: e.addr.Port(), Protocol: session}).Write(conn); err != nil {
		return nil, err
	}
	conn.SetWriteDeadline(time.Time{})
	return conn, nil
}

// awaitCertificate holds until the proxy has its first certificate, bounded by
// the discovery time-out.
func (p *Proxy) awaitCertificate(ctx context.Context) error {
	select {
	case <-p.config.Identity.Ready():
		return nil
	default:
	}
	timer := time.NewTimer(p.config.DiscoveryTimeout)
	defer timer.Stop()
	select {
	case <-p.config.Identity.Ready():
		return nil
	case <-timer.C:
		return fmt.Errorf("%w for %s: none after %v", identity.ErrNotCertified, p.config.Identity.LocalName(), p.config.DiscoveryTimeout)
	case <-ctx.Done():
		return fmt.Errorf("await the proxy's own certificate: %w", ctx.Err())
	}
}
