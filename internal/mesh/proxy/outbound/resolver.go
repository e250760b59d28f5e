package outbound

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/intercept/sockopt"
)

const (
	// firstRetry doubles up to lastRetry with each subscription that fails,
	// spread by retryJitter (L-06 has the like for policy).
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 5 * time.Second
	retryJitter = 0.1

	// The kernel asks a silent destination service for a sign of life, so that
	// a connection cut half-way is found within 15 s without its cooperation.
	aliveIdle     = 6 * time.Second
	aliveInterval = 3 * time.Second
	aliveCount    = 3
)

// profile is what the destination service says about one address.
type profile struct {
	// endpoint is set when the address is that of one pod or host.
	endpoint *endpoint
	// service is set when the address is a Service's.
	service *watch[endpoints]
	// opaque means no protocol is to be looked for.
	opaque bool
}

// unknown is an address that the destination service knows nothing of.
func (p profile) unknown() bool { return p.endpoint == nil && p.service == nil }

// target is a watched original destination.
type target struct {
	*watch[profile]
	dst netip.AddrPort
	// plain stands for the address itself, for when nobody knows it.
	plain *endpoint
}

// resolver keeps one watch per original destination and per Service in use.
type resolver struct {
	proxy    *Proxy
	client   pb.DestinationClient
	profiles *watches[netip.AddrPort, profile]
	services *watches[string, endpoints]
	running  sync.WaitGroup
}

func newResolver(ctx context.Context, p *Proxy, client pb.DestinationClient) *resolver {
	r := &resolver{proxy: p, client: client}
	r.profiles = newWatches(ctx, &r.running, p.config.IdleTimeout, r.watchProfile)
	r.services = newWatches(ctx, &r.running, p.config.IdleTimeout, r.watchService)
	return r
}

// wait returns when every watch has ended; the context must have.
func (r *resolver) wait() { r.running.Wait() }

func (r *resolver) acquire(dst netip.AddrPort) *target {
	return &target{watch: r.profiles.acquire(dst), dst: dst, plain: newEndpoint(r.proxy, endpointMeta{addr: dst})}
}

func (r *resolver) release(t *target) {
	r.profiles.release(t.dst, t.watch)
	t.plain.retire()
}

// dialDestination prepares the connection all watches share; it is made when
// the first of them needs it.
func (p *Proxy) dialDestination() (*grpc.ClientConn, error) {
	config := p.config.Destination
	creds := insecure.NewCredentials()
	if p.secured(config.Addr) {
		creds = credentials.NewTLS(p.config.Identity.ClientConfig(config.Name))
	}
	dialer := sockopt.Dialer(p.config.SocketMark)
	dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: aliveIdle, Interval: aliveInterval, Count: aliveCount}
	conn, err := grpc.NewClient("passthrough:///"+config.Addr,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstRetry, Multiplier: 2, Jitter: retryJitter, MaxDelay: lastRetry},
			MinConnectTimeout: p.config.ConnectTimeout,
		}),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to the destination service at %s: %w", config.Addr, err)
	}
	return conn, nil
}

// secured tells whether a control address is spoken to with TLS: all but the
// pod's own loopback are (K-07).
func (p *Proxy) secured(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || host == "localhost" {
		return err != nil
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback()
}

func (r *resolver) watchProfile(ctx context.Context, dst netip.AddrPort, w *watch[profile]) {
	// What the last message named, held until the next names something else.
	var name string
	var service *watch[endpoints]
	var single *endpoint
	set := func(p profile, newName string) {
		if newName != name {
			oldName, oldService := name, service
			if name, service = newName, nil; name != "" {
				service = r.services.acquire(name)
			}
			if oldName != "" {
				defer r.services.release(oldName, oldService)
			}
		}
		single = single.replacedBy(p.endpoint)
		p.endpoint, p.service = single, service
		w.set(p)
	}
	defer func() {
		single.retire()
		if name != "" {
			r.services.release(name, service)
		}
	}()
	r.subscribe(ctx, "profile of "+dst.String(), func(ctx context.Context, heard func()) error {
		stream, err := r.client.GetProfile(ctx, r.request(dst.String()), grpc.WaitForReady(true))
		for err == nil {
			var m *pb.DestinationProfile
			if m, err = stream.Recv(); err != nil {
				break
			}
			heard()
			p := profile{opaque: m.GetOpaqueProtocol()}
			var service string
			if m.GetEndpoint() != nil {
				if meta, ok := r.proxy.parseEndpoint(m.GetEndpoint(), nil); ok {
					p.endpoint = newEndpoint(r.proxy, meta)
				}
			} else if m.GetFullyQualifiedName() != "" {
				service = net.JoinHostPort(m.GetFullyQualifiedName(), strconv.Itoa(int(dst.Port())))
			}
			set(p, service)
		}
		if notThere(err) {
			set(profile{}, "")
		}
		return err
	})
}

func (r *resolver) watchService(ctx context.Context, name string, w *watch[endpoints]) {
	members := map[netip.AddrPort]*endpoint{}
	defer func() {
		for _, e := range members {
			e.retire()
		}
	}()
	// replace makes want the members, keeping those that have not changed.
	replace := func(want map[netip.AddrPort]*endpoint, exists bool) {
		for addr, old := range members {
			if e := want[addr]; e != old {
				if kept := old.replacedBy(e); kept != nil {
					want[addr] = kept
				}
			}
		}
		members = want
		w.set(newEndpoints(members, exists))
	}
	r.subscribe(ctx, "endpoints of "+name, func(ctx context.Context, heard func()) error {
		stream, err := r.client.Get(ctx, r.request(name), grpc.WaitForReady(true))
		for first := true; err == nil; first = false {
			var m *pb.Update
			if m, err = stream.Recv(); err != nil {
				break
			}
			heard()
			// The first message of a subscription replaces what an earlier one
			// told; removals during the cut are not told otherwise.
			want := map[netip.AddrPort]*endpoint{}
			if !first {
				for addr, e := range members {
					want[addr] = e
				}
			}
			exists := true
			switch update := m.GetUpdate().(type) {
			case *pb.Update_Add:
				for _, a := range update.Add.GetAddrs() {
					if meta, ok := r.proxy.parseEndpoint(a, update.Add.GetMetricLabels()); ok {
						want[meta.addr] = newEndpoint(r.proxy, meta)
					}
				}
			case *pb.Update_Remove:
				for _, a := range update.Remove.GetAddrs() {
					if addr, ok := parseAddr(a); ok {
						delete(want, addr)
					}
				}
			case *pb.Update_NoEndpoints:
				clear(want)
				exists = update.NoEndpoints.GetExists()
			default:
				r.proxy.log.Warn("update of endpoints not understood", "service", name)
				continue
			}
			replace(want, exists)
		}
		if notThere(err) {
			replace(map[netip.AddrPort]*endpoint{}, false)
		}
		return err
	})
}

func (r *resolver) request(path string) *pb.GetDestination {
	return &pb.GetDestination{Scheme: "k8s", Path: path, ContextToken: r.proxy.config.Destination.Context}
}

// notThere tells an answer about the target from trouble with the service.
func notThere(err error) bool {
	code := status.Code(err)
	return code == codes.InvalidArgument || code == codes.NotFound
}

// subscribe repeats follow until ctx ends, after a pause that grows while no
// subscription hears anything. What was heard stays in force meanwhile.
func (r *resolver) subscribe(ctx context.Context, what string, follow func(ctx context.Context, heard func()) error) {
	retry := firstRetry
	for {
		err := follow(ctx, func() { retry = firstRetry })
		if ctx.Err() != nil {
			return
		}
		wait := time.Duration(float64(retry) * (1 + retryJitter*(2*rand.Float64()-1)))
		r.proxy.log.Debug("watch ended", "of", what, "error", err, "retry", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		retry = min(2*retry, lastRetry)
	}
}
