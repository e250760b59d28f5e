package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// FieldManager owns the fields that are written (S-02).
const FieldManager = api.RouteControllerName

// Times of writing (S-03).
const (
	// resync is how often everything is looked over without a cause.
	resync = 10 * time.Second
	// patchTimeout bounds one patch.
	patchTimeout = 5 * time.Second
	// patches is how many are under way at the same time.
	patches = 4
)

// Controller is made with New and run once.
type Controller struct {
	custom  dynamic.Interface
	lease   *lease
	dialect api.Dialect
	metrics *metrics

	mu    sync.Mutex
	world World
	// wake has a token when there may be something to write.
	wake chan struct{}
	// settled is closed when somebody holds the Lease.
	settled chan struct{}
}

// Clients reach the API server.
type Clients struct {
	// Custom serves policies and routes, Coordination API group
	// coordination.k8s.io/v1.
	Custom       dynamic.Interface
	Coordination rest.Interface
}

// Options say who writes and how.
type Options struct {
	// Namespace of the Lease, and Holder: this replica's name, of its own.
	Namespace, Holder string
	Dialect           api.Dialect
}

// New prepares a controller and registers its metrics.
func New(clients Clients, o Options, registry prometheus.Registerer) *Controller {
	c := &Controller{custom: clients.Custom, lease: newLease(clients.Coordination, o.Namespace, o.Holder), dialect: o.Dialect,
		world: newWorld(), wake: make(chan struct{}, 1), settled: make(chan struct{})}
	c.metrics = newMetrics(registry, c.Holds)
	return c
}

// Settled is closed once somebody holds the Lease: until then no route or rate
// limit is accepted.
func (c *Controller) Settled() <-chan struct{} { return c.settled }

// Holds says whether this replica writes.
func (c *Controller) Holds() bool { return c.lease.held() }

// Run watches and writes until ctx ends, and gives the Lease back then.
func (c *Controller) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	settle := sync.OnceFunc(func() { close(c.settled) })
	parts.Go(func() { c.lease.run(ctx, c.note) })
	synced := c.watch(ctx, &parts)
	tick := time.NewTicker(resync)
	defer tick.Stop()
	complete := false
	for {
		if c.lease.taken() {
			settle()
		}
		if complete && c.lease.held() {
			c.write(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-synced:
			complete, synced = true, nil
		case <-c.wake:
		case <-tick.C:
		}
	}
}

// note asks for a look.
func (c *Controller) note() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watch starts a watch of each kind that there is and returns what is closed when
// all of them have listed.
func (c *Controller) watch(ctx context.Context, parts *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	var lists sync.WaitGroup
	start := func(resource schema.GroupVersionResource, s *sink) {
		lists.Add(1)
		parts.Go(func() {
			listed := sync.OnceFunc(lists.Done)
			defer listed()
			if resource.Group == api.GatewayGroup && !c.served(ctx, resource) {
				slog.Info("not installed, not watched", "resource", resource.GroupResource().String())
				return
			}
			kube.WatchCustom(ctx, c.custom, resource, s, listed)
		})
	}
	start(api.Servers, c.servers())
	for _, resource := range []schema.GroupVersionResource{api.HTTPRoutes, api.GatewayHTTPRoutes, api.GatewayGRPCRoutes} {
		start(resource, c.routes(resource))
	}
	start(api.HTTPLocalRateLimitPolicies, c.limits())
	parts.Go(func() { lists.Wait(); close(done) })
	return done
}

// served says whether the API server has a resource; it is asked once, when the
// controller starts (C-30).
func (c *Controller) served(ctx context.Context, resource schema.GroupVersionResource) bool {
	there := true
	err := kube.Retry(ctx, "look for "+resource.GroupResource().String(), func(ctx context.Context) error {
		_, err := c.custom.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
		there = !apierrors.IsNotFound(err)
		if !there {
			return nil
		}
		return err
	})
	return err == nil && there
}

// write patches all that is not as it should be.
func (c *Controller) write(ctx context.Context) {
	c.mu.Lock()
	changes := Wanted(c.world, time.Now())
	c.mu.Unlock()
	slots := make(chan struct{}, patches)
	var group sync.WaitGroup
	for _, change := range changes {
		slots <- struct{}{}
		if ctx.Err() != nil || !c.lease.held() {
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			c.patch(ctx, change)
		})
	}
	group.Wait()
}

// patch writes one status. A conflict means that the object has changed
// meanwhile, which its watch tells of; other failures are left to the next look.
func (c *Controller) patch(ctx context.Context, change Change) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": change.Version}, "status": change.Status})
	if err != nil {
		slog.Error("a status cannot be encoded", "object", change.Key.String(), "error", err)
		return
	}
	bounded, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	object, err := c.custom.Resource(change.Key.Resource).Namespace(change.Key.Namespace).
		Patch(bounded, change.Key.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: FieldManager}, "status")
	c.metrics.patched(err)
	switch {
	case err == nil:
		c.take(change.Key.Resource, object)
	case ctx.Err() != nil, apierrors.IsConflict(err), apierrors.IsNotFound(err):
	default:
		slog.Warn("a status is not written", "object", change.Key.String(), "error", fmt.Errorf("patch: %w", err))
	}
}

// take notes what a patch has made of an object, so that the same is not written
// again before the watch tells. The watch may have told already that the object
// is gone: then it stays gone.
func (c *Controller) take(resource schema.GroupVersionResource, object *unstructured.Unstructured) {
	key, s := Key{resource, nameOf(object)}, c.routes(resource)
	if resource == api.HTTPLocalRateLimitPolicies {
		s = c.limits()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, isRoute := c.world.Routes[key]
	if _, isLimit := c.world.Limits[key]; isRoute || isLimit {
		s.put(object)
	}
}
