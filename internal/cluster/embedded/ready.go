package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/ready"
)

// readyTimeout bounds the whole start; it is for machines that are busy with
// something else, not a goal.
const readyTimeout = 3 * time.Minute

// readyPoll is how often what has no watch is asked for.
const readyPoll = 25 * time.Millisecond

var nodes = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}

// readiness waits for a cluster's components and tells about it.
type readiness struct {
	cluster  *Cluster
	begun    time.Time
	progress func(cluster.Event)
	dynamic  dynamic.Interface
	config   *rest.Config

	mu sync.Mutex // progress and timings
}

// waitReady returns when the cluster is what Create promises.
func (c *Cluster) waitReady(ctx context.Context, begun time.Time, options cluster.Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the cluster is not ready after %s", readyTimeout))
	defer cancel()
	// The cluster's own end ends every wait.
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-c.done:
			lost(errors.New("the cluster has ended"))
		case <-ctx.Done():
		}
	}()
	defer func() { lost(nil); <-watching }()

	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	r := &readiness{cluster: c, begun: begun, progress: options.Progress, dynamic: client, config: config}
	if err := r.step(ctx, "namespaces", func(ctx context.Context) error { return c.awaitStatus(ctx, layout.Namespaces) }); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return r.step(ctx, "DNS", func(ctx context.Context) error {
			return c.awaitStatus(ctx, layout.DNSReady)
		})
	})
	group.Go(func() error {
		if err := r.step(ctx, "API server", r.apiServer); err != nil {
			return err
		}
		group.Go(func() error { return r.step(ctx, "node", r.node) })
		group.Go(func() error {
			return r.step(ctx, "default service account", func(ctx context.Context) error { return ready.DefaultAccount(ctx, r.dynamic) })
		})
		if len(options.Manifests) > 0 {
			group.Go(func() error {
				return r.step(ctx, "manifests", func(ctx context.Context) error { return ready.Manifests(ctx, r.config, options.Manifests) })
			})
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	c.timings = append(c.timings, cluster.Timing{Component: "ready", Elapsed: time.Since(begun)})
	return nil
}

// step runs one wait between two events.
func (r *readiness) step(ctx context.Context, component string, wait func(context.Context) error) error {
	r.tell(cluster.Event{Component: component})
	if err := wait(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("wait for %s: %w", component, err)
	}
	r.tell(cluster.Event{Component: component, Done: true})
	return nil
}

func (r *readiness) tell(event cluster.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	event.Elapsed = time.Since(r.begun)
	if event.Done {
		r.cluster.timings = append(r.cluster.timings, cluster.Timing{Component: event.Component, Elapsed: event.Elapsed})
	}
	if r.progress != nil {
		r.progress(event)
	}
}

// awaitStatus waits for a line of the first process. It has one caller at a
// time.
func (c *Cluster) awaitStatus(ctx context.Context, component string) error {
	for {
		select {
		case s, open := <-c.status:
			if !open {
				return errors.New("the cluster has ended")
			}
			if s.Component == component {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *readiness) apiServer(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(r.config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return ready.Until(ctx, readyPoll, func(ctx context.Context) error {
		_, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (r *readiness) node(ctx context.Context) error {
	return ready.Until(ctx, readyPoll, func(ctx context.Context) error {
		node, err := r.dynamic.Resource(nodes).Get(ctx, layout.NodeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return ready.Condition(node, "Ready")
	})
}
