// Package inbound is the inbound half of the proxy: it stands in front of every
// port of a pod and lets through what the policy of that port permits.
//
// What flows through: a redirected (or, on the proxy's own port, direct)
// connection comes in, or one that the outbound half makes to the pod itself
// (own); its original destination names the port, the port names
// the policy, which a watch on the policy controller keeps current (store,
// watch). The connection's protocol is found out as far as the policy leaves it
// open (detect, clienthello), mesh TLS is terminated, and then
//
//	HTTP/1, HTTP/2, gRPC   relays take the requests off the wire (http1, http2); each
//	                       is decided by the policy in force at that moment (call),
//	                       and forwarded (upstream), also as the HTTP/1 that HTTP/2
//	                       carries (carried), or answered (deny)
//	the admin port         is such an application too: the proxy itself (adminport)
//	anything else          the connection is decided once and again with every
//	                       policy message, and cut when nothing covers it (tcp)
//
// Each decision leaves one record (decisions) and one increment (metrics), both
// made from the value that the policy answered with. Series that nobody uses are
// forgotten in time (series).
//
// It refuses: any connection before the first policy of its port is known and
// after the discovery time-out (fail closed), any destination that is not the
// pod's, its own ports as a destination, and any identity that comes from a
// header.
package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// Config is what a Server is made of. Fields without a comment on their zero value must be set.
type Config struct {
	// Identity terminates mesh TLS and names the server name that is ours.
	Identity *identity.Client
	// Policies is the controller; watches begin when PoliciesReady is closed (nil: at once).
	Policies      pb.InboundServerPoliciesClient
	PoliciesReady <-chan struct{}
	// Workload is what the controller knows the pod by (K-04).
	Workload string
	// Ports are watched from start, besides AdminPort (L-01).
	Ports []uint16
	// InboundPort marks direct connections; AdminPort is served by Admin.
	InboundPort, AdminPort uint16
	// OwnPorts are the proxy's other ports, which are never a destination.
	OwnPorts []uint16
	// IPs are the addresses of the pod; empty means any (T-01).
	IPs []netip.Addr
	// Admin answers permitted requests to AdminPort.
	Admin http.Handler
	// Dialect's zero value is `documented`.
	Dialect policy.Dialect
	// Default is what a port without an answer is judged by in dialect linkerd.
	Default func(port uint16) *policy.Port
	// SocketMark is put on connections to the application; 0 for none.
	SocketMark int
	// MaxInFlight bounds requests in progress (H-04); 0 means DefaultMaxInFlight.
	MaxInFlight int64
	// MaxConnections bounds the open connections of clients, the admin port's aside; 0
	// means DefaultMaxConnections, or as many as the process has descriptors for.
	MaxConnections int
	// Metrics and Decisions get an entry for everything decided.
	Metrics   *Metrics
	Decisions *Decisions
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Timeouts' zero fields mean the defaults.
	Timeouts Timeouts

	// OriginalDst replaces SO_ORIGINAL_DST where nothing redirects; nil means the kernel's answer.
	OriginalDst func(*net.TCPConn) (netip.AddrPort, error)

	// watch is defaultWatchLimits outside tests.
	watch watchLimits
	fixed fixed
}

// Server is made by New and runs once.
type Server struct {
	cfg   Config
	log   *policyLog
	store *store
	dial  *net.Dialer

	http1 http1.Relay
	admin *adminPort
	loop  loop

	inFlight atomic.Int64

	// mu guards live, the connections that drain waits for, and draining.
	mu       sync.Mutex
	live     map[*session]struct{}
	draining bool
	// clients and admins are what connections are counted among.
	clients, admins share
	// open counts live; handlers counts the goroutines of accepted connections.
	open, handlers sync.WaitGroup

	tlsPlain, tlsHTTP, tlsDirect *tls.Config
}

// New checks the configuration. Nothing runs before Serve, watches aside that a question to Policies begins.
func New(cfg Config) (*Server, error) {
	if cfg.Identity == nil || cfg.Policies == nil || cfg.Metrics == nil || cfg.Decisions == nil || cfg.Admin == nil {
		return nil, errors.New("inbound: identity, policies, metrics, decisions and admin handler are needed")
	}
	if cfg.Dialect.JudgeBeforeFirstAnswer && cfg.Default == nil {
		return nil, errors.New("inbound: this dialect needs a default policy")
	}
	cfg.Timeouts.setDefaults()
	cfg.fixed.setDefaults()
	if cfg.watch == (watchLimits{}) {
		cfg.watch = defaultWatchLimits
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = DefaultMaxInFlight
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = connectionsFor(openFiles())
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.OriginalDst == nil {
		cfg.OriginalDst = sockopt.OriginalDst
	}
	s := &Server{
		cfg:  cfg,
		log:  newPolicyLog(cfg.Logger),
		live: map[*session]struct{}{},

		clients: share{most: cfg.MaxConnections, limit: limitConnections},
		admins:  share{most: maxAdminConnections, limit: limitAdminConnections},

		dial:  sockopt.Dialer(cfg.SocketMark),
		admin: newAdminPort(cfg.Admin, cfg.Logger),
	}
	s.dial.Timeout = cfg.Timeouts.Connect
	s.http1.Limits, s.http1.Bitten, s.http1.Malformed = cfg.fixed.http1, s.bitten1, s.malformed
	s.tlsPlain = cfg.Identity.ServerConfig()
	s.tlsHTTP = cfg.Identity.ServerConfig("h2", "http/1.1")
	s.tlsDirect = cfg.Identity.ServerConfig(transport.ALPN)
	s.store = newStore(cfg)
	return s, nil
}

// Policies is the table of ports and what is in force on them, for the control port.
func (s *Server) Policies() *PolicyView { return &PolicyView{s.store} }

// Serve accepts on both listeners until ctx ends, then drains: no new
// connections, GOAWAY, and what is open may finish within the drain time-out.
// It closes the listeners and returns when nothing of it runs any more.
func (s *Server) Serve(ctx context.Context, inbound, admin net.Listener) error {
	// Watches outlive ctx: policy changes count while connections drain.
	s.store.start()
	connCtx, cutConnections := context.WithCancel(context.WithoutCancel(ctx))
	err := s.loop.open(func(raw *net.TCPConn, dst netip.AddrPort) {
		s.handlers.Go(func() { s.serveOwn(connCtx, raw, dst) })
	})
	if err != nil {
		cutConnections()
		s.store.close()
		return err
	}

	var servers sync.WaitGroup
	servers.Go(s.admin.serve)
	failed := make(chan error, 2)
	for _, l := range []struct {
		listener net.Listener
		handle   func(context.Context, *net.TCPConn)
	}{{inbound, s.serveInbound}, {admin, s.serveAdmin}} {
		servers.Go(func() { failed <- s.accept(ctx, connCtx, l.listener, l.handle) })
	}

	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	inbound.Close()
	admin.Close()
	s.loop.close()
	s.drain()
	cutConnections()
	s.admin.close()
	servers.Wait()
	s.handlers.Wait()
	s.store.close()
	return err
}

// drain waits for the open connections up to the drain time-out, then cuts them.
func (s *Server) drain() {
	s.mu.Lock()
	s.draining = true
	count := len(s.live)
	s.mu.Unlock()
	s.cfg.Logger.Info("draining", "connections", count, "limit", s.cfg.Timeouts.Drain)
	s.eachLive((*session).drain)
	timer := time.NewTimer(s.cfg.Timeouts.Drain)
	defer timer.Stop()
	done := make(chan struct{})
	go func() { defer close(done); s.open.Wait() }()
	select {
	case <-done:
	case <-timer.C:
		s.eachLive(func(sess *session) {
			s.bite(limitDrainTime)
			sess.cut()
		})
		<-done
	}
}

// eachLive does something to all open sessions.
func (s *Server) eachLive(do func(*session)) {
	s.mu.Lock()
	open := make([]*session, 0, len(s.live))
	for sess := range s.live {
		open = append(open, sess)
	}
	s.mu.Unlock()
	for _, sess := range open {
		do(sess)
	}
}

// accept runs until the listener is closed. Lack of file descriptors is waited out.
func (s *Server) accept(ctx, connCtx context.Context, l net.Listener, handle func(context.Context, *net.TCPConn)) error {
	wait := acceptRetryMin
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.cfg.Metrics.tcpError("i/o", 0)
			s.cfg.Logger.Warn("accept failed", "error", err, "retry", wait)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil
			}
			wait = min(2*wait, acceptRetryMax)
			continue
		}
		wait = acceptRetryMin
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			conn.Close()
			return fmt.Errorf("accept on %s: a %T is no TCP connection", l.Addr(), conn)
		}
		s.handlers.Go(func() { handle(connCtx, tcp) })
	}
}
