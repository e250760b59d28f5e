// Package outbound is the client side of the proxy: what the pod's processes
// send arrives here, redirected, and leaves for the endpoint the destination
// service names.
//
// For each connection: its original destination is looked up (one shared watch
// per target), the protocol is found out unless the target is opaque, and then
// every HTTP request, or else the whole connection, is given to one of the
// target's endpoints. A meshed endpoint is reached over mutual TLS with a
// transport header; HTTP/1 travels over HTTP/2 there. An endpoint that is not
// meshed gets the bytes in the clear, as does a target nobody knows.
//
// It refuses: plain text to an endpoint that is known to be meshed, be it for
// want of a certificate of one's own or of the peer's right one; connections
// made to its own port; and headers by which an application could pose as a
// proxy. It authorizes nothing: that is the other side's part.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
)

// Defaults of the durations in Config.
const (
	// DefaultAddr is where redirected traffic arrives.
	DefaultAddr = "127.0.0.1:4140"
	// DefaultDetectTimeout is how long a client may keep silent before its
	// connection counts as opaque.
	DefaultDetectTimeout = 10 * time.Second
	// DefaultDiscoveryTimeout is how long the first connections to a target
	// wait for what the destination service says about it, and how long a
	// request waits for an endpoint.
	DefaultDiscoveryTimeout = 5 * time.Second
	// DefaultConnectTimeout bounds reaching an endpoint, handshake included.
	DefaultConnectTimeout = 3 * time.Second
	// DefaultIdleTimeout is how long a target is watched after its last use.
	DefaultIdleTimeout = 90 * time.Second
	// DefaultDrainTimeout is how long Run lets connections finish at its end.
	DefaultDrainTimeout = 5 * time.Second

	// acceptPause follows a failed accept, most likely for want of file
	// descriptors, so that the loop does not spin.
	acceptPause = 50 * time.Millisecond
)

// Destination says where the destination service is.
type Destination struct {
	// Addr is host:port. A loopback address is spoken to without TLS (K-07).
	Addr string
	// Name is the identity it must prove.
	Name string
	// Context is the token sent with each look-up.
	Context string
}

// Config is what a Proxy needs. Zero durations mean the defaults above.
type Config struct {
	// Listener is where redirected connections arrive; when nil, ListenAddr is
	// listened on, DefaultAddr when that is empty. Run closes it.
	Listener    net.Listener
	ListenAddr  string
	Destination Destination
	// Identity is run by the caller.
	Identity *identity.Client
	// LocalIPs are the pod's own addresses, reached in the clear (B-02).
	LocalIPs []netip.Addr
	// DialOwn, when set, reaches a port of the pod itself by way of the inbound
	// half, which judges the connection; without it the port is dialled.
	DialOwn func(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
	// Registerer gets the metrics; none are kept when it is nil.
	Registerer prometheus.Registerer
	// SocketMark is put on every connection the proxy makes, 0 for none.
	SocketMark int
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// OriginalDst tells where a connection was meant to go; it defaults to what
	// the kernel remembers of the redirection.
	OriginalDst func(net.Conn) (netip.AddrPort, error)

	DetectTimeout    time.Duration
	DiscoveryTimeout time.Duration
	ConnectTimeout   time.Duration
	IdleTimeout      time.Duration
	DrainTimeout     time.Duration
}

// Proxy is made by New and runs once.
type Proxy struct {
	config   Config
	log      *slog.Logger
	listener net.Listener
	dialer   *net.Dialer
	metrics  *metrics
	resolver *resolver
	http1    *http.Server
	http2    *http2.Server
	feed     *feed
	remote   remoteErrors

	// force ends when connections have had their time to finish.
	force    context.Context
	endForce context.CancelFunc
	// handlers counts the connections being served.
	handlers sync.WaitGroup
}

// New checks config, listens unless a listener is given, and registers metrics.
func New(config Config) (*Proxy, error) {
	if config.Identity == nil || config.Destination.Addr == "" {
		return nil, errors.New("outbound proxy needs an identity and the address of a destination service")
	}
	orDefault := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	orDefault(&config.DetectTimeout, DefaultDetectTimeout)
	orDefault(&config.DiscoveryTimeout, DefaultDiscoveryTimeout)
	orDefault(&config.ConnectTimeout, DefaultConnectTimeout)
	orDefault(&config.IdleTimeout, DefaultIdleTimeout)
	orDefault(&config.DrainTimeout, DefaultDrainTimeout)
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.OriginalDst == nil {
		config.OriginalDst = kernelOriginalDst
	}
	p := &Proxy{config: config, log: config.Logger.With("direction", "outbound"), dialer: sockopt.Dialer(config.SocketMark)}
	p.force, p.endForce = context.WithCancel(context.Background())
	var err error
	if p.metrics, err = newMetrics(config.Registerer); err != nil {
		return nil, fmt.Errorf("outbound proxy: %w", err)
	}
	if p.listener = config.Listener; p.listener == nil {
		addr := config.ListenAddr
		if addr == "" {
			addr = DefaultAddr
		}
		var listen net.ListenConfig
		listen.SetMultipathTCP(false) // the original destination is asked of a plain TCP socket
		if p.listener, err = listen.Listen(context.Background(), "tcp", addr); err != nil {
			return nil, fmt.Errorf("outbound proxy: listen on %s: %w", addr, err)
		}
	}
	p.remote.init()
	p.makeServers()
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() net.Addr { return p.listener.Addr() }

// Run serves until ctx ends, lets connections finish for the drain time-out, and
// returns when everything it started has ended. The error is nil unless the
// destination service cannot be spoken to at all.
func (p *Proxy) Run(ctx context.Context) error {
	conn, err := p.dialDestination()
	if err != nil {
		p.listener.Close()
		return err
	}
	defer conn.Close()
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	p.resolver = newResolver(watching, p, pb.NewDestinationClient(conn))
	defer p.resolver.wait()
	defer stopWatching()

	var servers sync.WaitGroup
	servers.Go(func() { p.http1.Serve(p.feed) })
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	p.accept(ctx)
	p.drain(&servers)
	return nil
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if conn != nil {
				conn.Close()
			}
			return
		}
		if err != nil {
			p.log.Warn("accept failed", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		p.handlers.Go(func() { p.serve(conn) })
	}
}

// drain ends idle connections at once and the others when they are done or out
// of time.
func (p *Proxy) drain(servers *sync.WaitGroup) {
	limit := time.AfterFunc(p.config.DrainTimeout, p.endForce)
	defer limit.Stop()
	p.http1.Shutdown(p.force)
	p.handlers.Wait()
	p.endForce()
	p.http1.Close()
	servers.Wait()
}

// session is one accepted connection.
type session struct {
	proxy  *Proxy
	conn   *peekedConn
	client netip.AddrPort
	// dst is where the client meant to go.
	dst    netip.AddrPort
	target *target
	log    *slog.Logger
}

// serve owns conn and closes it.
func (p *Proxy) serve(raw net.Conn) {
	conn := newPeekedConn(raw, p.metrics.source)
	defer conn.Close()
	defer context.AfterFunc(p.force, func() { abort(conn) })()
	dst, err := p.config.OriginalDst(raw)
	if err != nil {
		p.log.Warn("connection without original destination", "error", err)
		return
	}
	s := &session{proxy: p, conn: conn, client: addrPort(raw.RemoteAddr()), dst: dst}
	conn.session = s
	s.log = p.log.With("client", s.client.String(), "target_addr", dst.String())
	if p.isItself(dst) {
		s.log.Warn("connection to the proxy's own port refused")
		abort(conn)
		return
	}
	if p.isLocal(dst.Addr()) {
		s.forward(p.force, newEndpoint(p, endpointMeta{addr: dst, reason: reasonLoopback, own: true}))
		return
	}
	s.target = p.resolver.acquire(dst)
	defer p.resolver.release(s.target)
	if s.opaque(p.force) {
		s.relay(p.force)
		return
	}
	switch protocol, err := s.detect(); {
	case err != nil:
		s.log.Debug("connection closed during protocol detection", "error", err)
	case protocol == http1Protocol:
		p.feed.serve(s)
	case protocol == http2Protocol:
		p.serveHTTP2(s)
	default:
		s.relay(p.force)
	}
}

// isItself tells a connection that was made to the proxy's own port, which has
// no other destination and would only come back.
func (p *Proxy) isItself(dst netip.AddrPort) bool {
	own := addrPort(p.listener.Addr())
	return dst.Port() == own.Port() && (dst.Addr() == own.Addr() || dst.Addr().IsLoopback() || p.isLocal(dst.Addr()))
}

func (p *Proxy) isLocal(addr netip.Addr) bool { return slices.Contains(p.config.LocalIPs, addr) }

func kernelOriginalDst(conn net.Conn) (netip.AddrPort, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: connection is a %T", conn)
	}
	return sockopt.OriginalDst(tcp)
}

func addrPort(addr net.Addr) netip.AddrPort {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}

// peekedConn is a client's connection of which detection has read the first
// bytes; they are read again first. closed tells its owner of its end, whoever
// closes it.
type peekedConn struct {
	net.Conn
	session *session
	metrics *connMetrics
	peeked  []byte
	once    sync.Once
	closed  chan struct{}
}

func newPeekedConn(conn net.Conn, m *connMetrics) *peekedConn {
	m.open()
	return &peekedConn{Conn: conn, metrics: m, closed: make(chan struct{})}
}

func (c *peekedConn) Read(b []byte) (int, error) {
	if len(c.peeked) > 0 {
		n := copy(b, c.peeked)
		c.metrics.read.Add(float64(n))
		if c.peeked = c.peeked[n:]; len(c.peeked) == 0 {
			c.peeked = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.metrics.read.Add(float64(n))
	return n, err
}

func (c *peekedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.metrics.written.Add(float64(n))
	return n, err
}

// CloseWrite half-closes the connection.
func (c *peekedConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *peekedConn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = c.Conn.Close()
		c.metrics.close()
		close(c.closed)
	})
	return err
}
