// Package proxy is the sidecar of a meshed pod as one process: it reads its
// environment, gets itself certified, follows the policies of its ports, and
// runs the inbound and outbound halves, the admin port and the control port.
//
//	            certificate         policies
//	identity <-----------> Main <------------- policy controller
//	                        |
//	 clients -> 4143 -> inbound -> application -> outbound -> 4140
//	            4191 -> inbound -> admin: /metrics /live /ready /logs.json
//	  127.0.0.1:4192 -> observe: what is in force, what was decided
//
// On SIGTERM it is not ready any more, accepts nothing new, lets open
// connections end within a limit, and leaves.
//
// It refuses to start with a value it does not understand, and never falls back
// to a weaker setting.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

const (
	defaultDetect = inbound.DefaultDetect

	// Connections to the policy controller: a controller that vanished without
	// a word is found within the sum of these.
	controlKeepAlive        = 10 * time.Second
	controlKeepAliveTimeout = 4 * time.Second
	controlConnect          = 3 * time.Second
	controlRetryMin         = 100 * time.Millisecond
	controlRetryMax         = 5 * time.Second
	controlJitter           = 0.1
	// controlBuffer is small: policies are, and there is one proxy per pod.
	controlBuffer = 4 << 10

	// readHeader bounds request heads on the control port.
	readHeader = 5 * time.Second
)

// Main is the role `proxy`.
func Main(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected arguments %q: the proxy is configured by its environment", args)
	}
	cfg, log, err := prepare()
	if err != nil {
		return err
	}
	return Run(ctx, cfg, log)
}

// prepare makes this process a proxy's, as far as that comes before its connections.
func prepare() (Config, *Log, error) {
	tuneRuntime()
	cfg, err := ReadConfig(os.LookupEnv)
	if err != nil {
		return Config{}, nil, fmt.Errorf("proxy environment:\n%w", err)
	}
	log := NewLog(os.Stderr)
	slog.SetDefault(log.Logger)
	return cfg, log, nil
}

// Run runs the proxy until ctx ends and it has drained.
func Run(ctx context.Context, cfg Config, lines *Log) error {
	log := lines.Logger
	id, err := identity.NewClient(identity.ClientConfig{
		Addr: cfg.IdentityAddr, ServerName: cfg.IdentityName, TokenFile: cfg.TokenFile, LocalName: cfg.LocalName,
		TrustAnchors: []byte(cfg.TrustAnchors), SocketMark: cfg.SocketMark,
		MinRefresh: cfg.MinRefresh, MaxRefresh: cfg.MaxRefresh, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("set up identity: %w", err)
	}
	control, err := dialPolicy(cfg, id)
	if err != nil {
		return fmt.Errorf("set up the policy client: %w", err)
	}
	defer control.Close()

	registry := newRegistry(id)
	metrics := inbound.NewMetrics(registry)
	decisions := &inbound.Decisions{}
	ctx, shutdown := context.WithCancel(ctx)
	defer shutdown()
	adminServer := &admin{registry: registry, ready: id.Ready(), ending: ctx.Done(), shutdown: shutdown, log: lines}
	server, err := inbound.New(inbound.Config{
		Identity: id, Policies: pb.NewInboundServerPoliciesClient(control), PoliciesReady: policiesReady(cfg, id),
		Workload: cfg.Workload, Ports: cfg.Ports,
		InboundPort: cfg.Inbound.Port(), AdminPort: cfg.Admin.Port(),
		OwnPorts: []uint16{cfg.Outbound.Port(), cfg.Control.Port(), cfg.Observe.Port()},
		IPs:      cfg.IPs, Admin: adminServer.handler(), Dialect: cfg.Dialect, Default: fallbackOf(cfg), OriginalDst: cfg.OriginalDst,
		SocketMark: cfg.SocketMark, MaxInFlight: cfg.MaxInFlight, Metrics: metrics, Decisions: decisions, Logger: log,
		Timeouts: inbound.Timeouts{Detect: cfg.DetectTimeout, PortIdle: cfg.PolicyIdle},
	})
	if err != nil {
		return err
	}

	var listeners listening
	defer listeners.close()
	inboundListener := cfg.Listener
	if inboundListener == nil {
		inboundListener = listeners.open(cfg.Inbound)
	}
	adminListener, observeListener := listeners.open(cfg.Admin), listeners.open(cfg.Observe)
	if listeners.err != nil {
		return listeners.err
	}
	log.Info("proxy starts", "identity", cfg.LocalName, "inbound", cfg.Inbound.String(), "admin", cfg.Admin.String(),
		"ports", cfg.Ports, "dialect", cfg.DialectName)

	// The identity client and the control port outlive ctx: they are needed while connections drain.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { id.Run(background) })
	helpers.Go(func() { trimMemory(background, id.Ready()) })
	helpers.Go(func() { serveObserve(background, observeListener, server.Policies(), decisions) })

	halves, halvesCtx := errgroup.WithContext(ctx)
	halves.Go(func() error { return server.Serve(halvesCtx, inboundListener, adminListener) })
	halves.Go(func() error { return runOutbound(halvesCtx, cfg, id, server.DialOwn, registry, log) })
	err = halves.Wait()
	stopBackground()
	helpers.Wait()
	log.Info("proxy ends", "error", err)
	return err
}

// listening opens listeners and closes all of them when one fails.
type listening struct {
	opened []net.Listener
	err    error
}

func (l *listening) open(addr netip.AddrPort) net.Listener {
	if l.err != nil {
		return nil
	}
	listener, err := net.Listen("tcp", addr.String())
	if err != nil {
		l.err = fmt.Errorf("listen on %s: %w", addr, err)
		return nil
	}
	l.opened = append(l.opened, listener)
	return listener
}

func (l *listening) close() {
	for _, listener := range l.opened {
		listener.Close()
	}
}

// fallbackOf is the default policy of a port without an answer; nil unless the dialect judges by it.
func fallbackOf(cfg Config) func(uint16) *policy.Port {
	if !cfg.Dialect.JudgeBeforeFirstAnswer {
		return nil
	}
	return func(port uint16) *policy.Port {
		p, err := cfg.fallback(slices.Contains(cfg.OpaquePorts, port))
		if err != nil {
			return nil // ReadConfig has made sure of it
		}
		return p
	}
}

// policiesReady is when watches can begin: mesh TLS needs a certificate first.
func policiesReady(cfg Config, id *identity.Client) <-chan struct{} {
	if isLoopback(cfg.PolicyAddr) {
		return nil
	}
	return id.Ready()
}

// dialPolicy makes the connection to the policy controller. The name is looked
// up at each dial, so that a controller that has moved is found at once.
func dialPolicy(cfg Config, id *identity.Client) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if !isLoopback(cfg.PolicyAddr) {
		creds = credentials.NewTLS(id.ClientConfig(cfg.PolicyName, "h2"))
	}
	dialer := sockopt.Dialer(cfg.SocketMark)
	return grpc.NewClient("passthrough:///"+cfg.PolicyAddr,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: controlRetryMin, Multiplier: 2, Jitter: controlJitter, MaxDelay: controlRetryMax},
			MinConnectTimeout: controlConnect,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: controlKeepAlive, Timeout: controlKeepAliveTimeout}),
		grpc.WithReadBufferSize(controlBuffer), grpc.WithWriteBufferSize(controlBuffer),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(),
	)
}

// serveObserve serves the control port until ctx ends.
func serveObserve(ctx context.Context, l net.Listener, policies *inbound.PolicyView, decisions *inbound.Decisions) {
	server := &http.Server{
		Handler: observeHandler(policies, decisions), ReadHeaderTimeout: readHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		slog.Warn("control port ended", "error", err)
	}
}

// newRegistry holds the metrics of all parts.
func newRegistry(id *identity.Client) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(processMetrics()...)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "identity_cert_expiration_timestamp_seconds",
		Help: "When the mesh certificate ends, in seconds since the epoch; 0 for none.",
	}, func() float64 {
		end := id.NotAfter()
		if end.IsZero() {
			return 0
		}
		return float64(end.UnixMilli()) / 1000
	}))
	return registry
}
