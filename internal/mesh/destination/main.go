package destination

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/admin"
	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	serviceAccount = "linkerd-destination"

	// keepAlive finds clients that vanished without closing; minPing is how often
	// a client may ask the same of us.
	keepAlive = 30 * time.Second
	minPing   = 5 * time.Second
)

type options struct {
	config, listen, admin      string
	tokenFile, identityAddress string
	kubeconfig                 string
	plaintext                  bool
}

// Main is the role `destination`.
func Main(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("destination", flag.ContinueOnError)
	flags.StringVar(&o.config, "config", filepath.Join("/var/run/linkerd/config", values.Key), "file with the mesh's configuration")
	flags.StringVar(&o.listen, "listen", ":8086", "address of the gRPC service")
	flags.StringVar(&o.admin, "admin", ":9997", "address of /live, /ready and /metrics")
	flags.StringVar(&o.tokenFile, "token-file", "/var/run/secrets/tokens/linkerd-identity-token", "token to be certified with")
	flags.StringVar(&o.identityAddress, "identity-addr", "", "address of the identity service; empty: the one of the configuration's namespace")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "access to the API server when not in a pod")
	flags.BoolVar(&o.plaintext, "plaintext", false, "serve without mesh TLS, for tests")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return o.run(ctx)
}

func (o options) run(ctx context.Context) error {
	text, err := os.ReadFile(o.config)
	if err != nil {
		return fmt.Errorf("read the mesh's configuration: %w", err)
	}
	v, err := values.Parse(text)
	if err != nil {
		return err
	}
	index, err := NewIndex(v)
	if err != nil {
		return err
	}
	access, err := kube.Config(o.kubeconfig, "meshproof-destination")
	if err != nil {
		return err
	}
	core, err := kube.For(access, corev1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	discovery, err := kube.For(access, discoveryv1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	custom, err := dynamic.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("make a client of policy resources: %w", err)
	}

	server := admin.New()
	synced, serving := make(chan struct{}), make(chan struct{})
	server.Await("synced", synced)
	server.Await("serving", serving)
	metrics(server.Registry, index)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx, o.admin) })
	watchAll(ctx, group, index, core, discovery, custom, synced)
	group.Go(func() error {
		options := admin.GRPCMetrics(server.Registry)
		if !o.plaintext {
			self, err := o.certified(ctx, core, v)
			if self == nil {
				return err
			}
			group.Go(func() error { return self.Run(ctx) })
			select {
			case <-self.Ready():
			case <-ctx.Done():
				return nil
			}
			options = append(options, grpc.Creds(credentials.NewTLS(self.ServerConfig("h2"))))
		}
		// An answer from half of the objects would send clients astray.
		select {
		case <-synced:
		case <-ctx.Done():
			return nil
		}
		return serve(ctx, o.listen, &Server{Index: index, Done: ctx.Done()}, options, serving)
	})
	return group.Wait()
}

// watchAll feeds the index; synced is closed once it has every kind.
func watchAll(ctx context.Context, group *errgroup.Group, index *Index, core, discovery rest.Interface, custom dynamic.Interface, synced chan<- struct{}) {
	watches := []func(done func()){
		func(done func()) {
			kube.Watch(ctx, core, "namespaces", kube.Scope{}, index.Namespaces(), done)
		},
		func(done func()) {
			kube.Watch(ctx, core, "services", kube.Scope{}, index.Services(), done)
		},
		func(done func()) {
			kube.Watch(ctx, core, "pods", kube.Scope{}, index.Pods(), done)
		},
		func(done func()) {
			kube.Watch(ctx, discovery, "endpointslices", kube.Scope{}, index.EndpointSlices(), done)
		},
		func(done func()) {
			kube.WatchCustom(ctx, custom, api.Servers, index.Servers(), done)
		},
	}
	var missing atomic.Int32
	missing.Store(int32(len(watches)))
	for _, watch := range watches {
		group.Go(func() error {
			watch(func() {
				if missing.Add(-1) == 0 {
					slog.Info("synced")
					close(synced)
				}
			})
			return nil
		})
	}
}

// certified returns the client that keeps the role's certificate, nil when ctx
// ended meanwhile.
func (o options) certified(ctx context.Context, core rest.Interface, v values.Values) (*identity.Client, error) {
	anchors, err := kube.TrustAnchors(ctx, core, v.ControlPlaneNamespace)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	address := o.identityAddress
	if address == "" {
		address = "linkerd-identity-headless." + v.ControlPlaneNamespace + ".svc." + v.ClusterDomain + ":8080"
	}
	return identity.NewClient(identity.ClientConfig{
		Addr: address, ServerName: v.Identity("linkerd-identity", v.ControlPlaneNamespace),
		TokenFile: o.tokenFile, LocalName: v.Identity(serviceAccount, v.ControlPlaneNamespace), TrustAnchors: anchors,
	})
}

// serve answers until ctx ends. serving is closed once requests can succeed.
func serve(ctx context.Context, address string, service *Server, options []grpc.ServerOption, serving chan<- struct{}) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for destination requests: %w", err)
	}
	server := grpc.NewServer(append(options,
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepAlive}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}))...)
	pb.RegisterDestinationServer(server, service)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	close(serving)
	slog.Info("serving", "address", listener.Addr().String())
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve destinations on %s: %w", address, err)
	}
	return nil
}

func metrics(registry prometheus.Registerer, x *Index) {
	gauge := func(name, help string, read func() int) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			x.mu.Lock()
			defer x.mu.Unlock()
			return float64(read())
		}))
	}
	gauge("destination_watches", "Open streams.", func() int { return len(x.watches) })
	gauge("destination_pods", "Pods known.", func() int { return len(x.pods) })
	gauge("destination_services", "Services known.", func() int { return len(x.services) })
}
