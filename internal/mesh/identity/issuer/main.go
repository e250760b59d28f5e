package issuer

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/mesh/admin"
	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// serviceAccount is the role's own, from which its name follows.
const serviceAccount = "linkerd-identity"

type options struct {
	namespace, trustDomain string
	listen, admin          string
	kubeconfig             string
	lifetime, skew         time.Duration
}

// Main is the role `identity`.
func Main(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("identity", flag.ContinueOnError)
	flags.StringVar(&o.namespace, "namespace", "linkerd", "namespace of the control plane")
	flags.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "last part of every identity")
	flags.StringVar(&o.listen, "listen", ":8080", "address of the gRPC service")
	flags.StringVar(&o.admin, "admin", ":9990", "address of /live, /ready and /metrics")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "access to the API server when not in a pod")
	flags.DurationVar(&o.lifetime, "issuance-lifetime", DefaultLifetime, "life of a certificate")
	flags.DurationVar(&o.skew, "clock-skew-allowance", DefaultSkew, "by how much a certificate's beginning is put back")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.lifetime <= 0 || o.skew < 0 {
		return fmt.Errorf("certificates cannot live %v with %v allowed for skew", o.lifetime, o.skew)
	}
	return o.run(ctx)
}

func (o options) run(ctx context.Context) error {
	config, err := kube.Config(o.kubeconfig, "meshproof-identity")
	if err != nil {
		return err
	}
	core, err := kube.For(config, corev1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	authentication, err := kube.For(config, authenticationv1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	service := &Service{
		Reviewer: TokenReviewer{authentication},
		Name:     func(a Account) string { return values.Identity(a.Name, a.Namespace, o.namespace, o.trustDomain) },
		Lifetime: o.lifetime, Skew: o.skew,
	}
	server := admin.New()
	metrics(server.Registry, service)
	serving := make(chan struct{})
	server.Await("serving", serving)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx, o.admin) })
	group.Go(func() error {
		kept := store{core: core, namespace: o.namespace, trustDomain: o.trustDomain}
		var ca *CA
		if err := kube.Retry(ctx, "load the issuer", func(ctx context.Context) error {
			m, err := kept.load(ctx)
			if err != nil {
				return err
			}
			if ca, err = NewCA(m, time.Now()); err != nil {
				return fmt.Errorf("use Secret %s/%s: %w", o.namespace, SecretName, err)
			}
			return kept.publish(ctx, ca.Anchors())
		}); err != nil {
			return ended(ctx, err)
		}
		service.Use(ca)
		self, err := identity.NewLocalClient(identity.ClientConfig{
			LocalName:    service.Name(Account{Namespace: o.namespace, Name: serviceAccount}),
			TrustAnchors: ca.Anchors(),
		}, service.Sign)
		if err != nil {
			return err
		}
		group.Go(func() error { return self.Run(ctx) })
		group.Go(func() error {
			kube.Watch(ctx, core, "secrets", kube.Scope{Namespace: o.namespace, Fields: "metadata.name=" + SecretName},
				kube.Latest[*corev1.Secret](func(secret *corev1.Secret) { rotate(ctx, kept, service, secret) }), nil)
			return nil
		})
		return serve(ctx, o.listen, self, service, admin.GRPCMetrics(server.Registry), serving)
	})
	return group.Wait()
}

// rotate follows the Secret. One that vanished or cannot be used leaves the
// issuer as it is: certificates it signed are still trusted. New anchors are
// published at once, but this process and every running proxy learn them only
// when they start.
func rotate(ctx context.Context, kept store, service *Service, secret *corev1.Secret) {
	if secret == nil {
		slog.Warn("the issuer's Secret is gone, the issuer in memory stays in use", "secret", SecretName)
		return
	}
	ca, err := NewCA(material(secret), time.Now())
	if err != nil {
		slog.Error("the issuer's Secret cannot be used, the issuer in memory stays in use", "secret", SecretName, "error", err)
		return
	}
	if bytes.Equal(ca.certificate.Raw, service.Issuer().certificate.Raw) {
		return
	}
	if err := kept.publish(ctx, ca.Anchors()); err != nil {
		slog.Error("the rotated issuer is not used", "error", err)
		return
	}
	service.Use(ca)
	slog.Info("the issuer was rotated", "not_after", ca.NotAfter())
}

// serve answers until ctx ends. serving is closed once requests can succeed.
func serve(ctx context.Context, address string, self *identity.Client, service *Service, options []grpc.ServerOption, serving chan<- struct{}) error {
	select {
	case <-self.Ready():
	case <-ctx.Done():
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for certificate requests: %w", err)
	}
	server := grpc.NewServer(append(options, grpc.Creds(credentials.NewTLS(self.ServerConfig("h2"))))...)
	pb.RegisterIdentityServer(server, service)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	close(serving)
	slog.Info("serving", "address", listener.Addr().String())
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve certificate requests on %s: %w", address, err)
	}
	return nil
}

// ended is err unless it came from the process being told to end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func metrics(registry prometheus.Registerer, service *Service) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "identity_issuer_not_after_seconds", Help: "End of the issuer's life, seconds since the epoch; 0 without an issuer.",
	}, func() float64 {
		if ca := service.Issuer(); ca != nil {
			return float64(ca.NotAfter().Unix())
		}
		return 0
	}))
}
