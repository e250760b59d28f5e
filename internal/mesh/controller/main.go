package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/admin"
	"github.com/meshproof/meshproof/internal/mesh/controller/admission"
	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/observe"
	"github.com/meshproof/meshproof/internal/mesh/controller/report"
	"github.com/meshproof/meshproof/internal/mesh/controller/status"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/mesh/webhook"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// The objects of the webhook, which the manifests name likewise.
const (
	webhookService       = "linkerd-policy-validator"
	webhookSecret        = "linkerd-policy-validator-k8s-tls"
	webhookConfiguration = "linkerd-policy-validator-webhook-config"
)

const (
	userAgent = "meshproof-policy"
	// headerTimeout bounds the head of a loopback request; closeTimeout is what
	// running ones get when the role ends.
	headerTimeout = 5 * time.Second
	closeTimeout  = time.Second
)

// Main runs the role until ctx ends.
func Main(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	access, err := kube.Config(o.kubeconfig, userAgent)
	if err != nil {
		return err
	}
	c, err := newController(ctx, o, access)
	if err != nil {
		return err
	}
	return c.run(ctx)
}

// controller is the role with everything found and nothing started.
type controller struct {
	options options
	core    rest.Interface
	custom  dynamic.Interface
	index   *index.Index
	watcher *watch.Watcher
	report  *report.Reporter
	status  *status.Controller
	// hook is nil when the webhook is switched off.
	hook  *webhook.Server
	admin *admin.Server
	// serving is closed when proxies can connect.
	serving chan struct{}
}

func newController(ctx context.Context, o options, access *rest.Config) (*controller, error) {
	core, err := kube.For(access, corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	custom, err := dynamic.NewForConfig(access)
	if err != nil {
		return nil, fmt.Errorf("make a client of policy resources: %w", err)
	}
	heads, err := metadata.NewForConfig(access)
	if err != nil {
		return nil, fmt.Errorf("make a client of object metadata: %w", err)
	}
	var v values.Values
	if err := kube.Retry(ctx, "read the configuration", func(ctx context.Context) error {
		v, err = readValues(ctx, core, o.namespace)
		return err
	}); err != nil {
		return nil, err
	}
	config, err := o.config(v)
	if err != nil {
		return nil, err
	}
	o.identities(v, config)
	slog.Info("configuration", "default_policy", config.DefaultPolicy, "cluster_networks", config.ClusterNetworks,
		"probe_networks", config.ProbeNetworks, "identity_domain", config.IdentityDomain, "dialect", config.Dialect.String())
	registration, err := kube.For(access, admissionregistrationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	coordination, err := kube.For(access, coordinationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	// A pod's name, which is another one for each replica.
	holder, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find out this replica's name: %w", err)
	}
	c := &controller{options: o, core: core, custom: custom, index: index.New(config), admin: admin.New(), serving: make(chan struct{})}
	c.watcher = watch.New(c.index, watch.Clients{Core: core, Custom: custom, Metadata: heads})
	c.report = report.New(c.index, report.Events{Core: core}, c.admin.Registry)
	c.index.OnChange(c.report.Note)
	c.status = status.New(status.Clients{Custom: custom, Coordination: coordination},
		status.Options{Namespace: o.namespace, Holder: holder, Dialect: config.Dialect}, c.admin.Registry)
	if o.webhookAddr != "" {
		c.hook = &webhook.Server{
			Core: core, Registration: registration, Namespace: o.namespace, Service: webhookService, Secret: webhookSecret,
			Configuration: webhookConfiguration, Handle: admission.Handle,
		}
		c.admin.Check("webhook", c.hook.Ready)
	}
	c.metrics()
	return c, nil
}

// run starts every part and waits for all of them.
func (c *controller) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	c.admin.Await("synced", c.watcher.Synced())
	c.admin.Await("serving", c.serving)
	c.admin.Await("lease", c.status.Settled())
	group.Go(func() error { c.follow(ctx); return nil })
	group.Go(func() error { c.report.Run(ctx, c.watcher.Synced()); return nil })
	if c.hook != nil {
		group.Go(func() error { return c.hook.Run(ctx, c.options.webhookAddr) })
	}
	group.Go(func() error { return c.admin.Run(ctx, c.options.adminAddr) })
	group.Go(func() error { return c.serveObserved(ctx) })
	group.Go(func() error { return c.servePolicy(ctx, group) })
	return group.Wait()
}

// follow takes the cluster's objects in, and writes statuses, until ctx ends.
func (c *controller) follow(ctx context.Context) {
	if awaitCRDs(ctx, c.core, c.custom) != nil {
		return // only the context's end is an error there
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { c.status.Run(ctx) })
	c.watcher.Run(ctx)
}

// servePolicy answers proxies once there is a certificate to answer with.
func (c *controller) servePolicy(ctx context.Context, group *errgroup.Group) error {
	var config *tls.Config
	if !c.options.plaintext {
		client, err := c.identity(ctx)
		if err != nil || client == nil {
			return err
		}
		group.Go(func() error { return client.Run(ctx) })
		select {
		case <-client.Ready():
		case <-ctx.Done():
			return nil
		}
		config = client.ServerConfig("h2")
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.options.grpcAddr)
	if err != nil {
		return fmt.Errorf("listen for proxies: %w", err)
	}
	close(c.serving)
	slog.Info("serving policy", "address", listener.Addr().String(), "mesh_tls", config != nil)
	service := &inbound.Service{Index: c.index, Synced: c.watcher.Synced(), Reach: c.watcher.Reach, Stopping: ctx.Done()}
	return inbound.Serve(ctx, listener, config, service, admin.GRPCMetrics(c.admin.Registry)...)
}

// identity is the mesh client of this process, nil when ctx ended first.
func (c *controller) identity(ctx context.Context) (*identity.Client, error) {
	anchors, err := kube.TrustAnchors(ctx, c.core, c.options.namespace)
	if ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	client, err := identity.NewClient(identity.ClientConfig{
		Addr: c.options.identityAddr, ServerName: c.options.identityName, TokenFile: c.options.tokenFile,
		LocalName: c.options.localName, TrustAnchors: anchors,
	})
	if err != nil {
		return nil, fmt.Errorf("become %s: %w", c.options.localName, err)
	}
	return client, nil
}

// serveObserved answers /observed on loopback.
func (c *controller) serveObserved(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /observed", &observe.Handler{Index: c.index, Watcher: c.watcher})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.options.observeAddr)
	if err != nil {
		return fmt.Errorf("listen for questions: %w", err)
	}
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	})
	err = server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("answer questions on %s: %w", listener.Addr(), err)
}
