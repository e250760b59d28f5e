package watch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// The delays between attempts to list or watch; each is drawn out by up to
// retryJitter of itself.
const (
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 5 * time.Second
	retryJitter = 0.5
)

// Clients reach the API server.
type Clients struct {
	// Core serves API group "" with typed objects.
	Core rest.Interface
	// Custom serves policy resources.
	Custom dynamic.Interface
	// Metadata serves pods without a proxy. Nil leaves those out.
	Metadata metadata.Interface
}

// Watcher runs the watches. Make it with New.
type Watcher struct {
	// Marks tells how far the index is.
	Marks *Marks
	// RemovedByList, when set before Run, is told how many objects of a kind a
	// list has shown to be gone that no event had announced.
	RemovedByList func(kind Kind, n int)

	synced chan struct{}
	feeds  []*feed
}

// feed is the watch of one kind.
type feed struct {
	kind Kind
	// start makes a reflector that begins with a list; replaced is called when a
	// list has been taken.
	start func(replaced func()) *cache.Reflector
	// refresh holds a token when a list has been asked for.
	refresh chan struct{}
	// policy is false for kinds that answers do not depend on.
	policy bool
}

// New prepares the watches that fill x.
func New(x *index.Index, clients Clients) *Watcher {
	w := &Watcher{Marks: &Marks{}, synced: make(chan struct{})}
	config := x.Config()
	add(w, x, podAdapter(config), true, &corev1.Pod{}, core(clients.Core, "pods", api.ControlPlaneLabel))
	add(w, x, namespaceAdapter(), true, &corev1.Namespace{}, core(clients.Core, "namespaces", ""))
	add(w, x, serverAdapter(), true, &unstructured.Unstructured{}, custom(clients.Custom, api.Servers))
	add(w, x, authorizationAdapter(config), true, &unstructured.Unstructured{}, custom(clients.Custom, api.ServerAuthorizations))
	if clients.Metadata != nil {
		add(w, x, bystanderAdapter(), false, &metav1.PartialObjectMetadata{}, unmeshed(clients.Metadata))
	}
	return w
}

func add[S any](w *Watcher, x *index.Index, a adapter[S], policy bool, expected runtime.Object, lists cache.ListerWatcher) {
	s := &store[S]{adapter: a, index: x, known: map[types.NamespacedName]bool{}}
	if policy {
		s.marks = w.Marks
	}
	s.removedByList = func(n int) {
		if w.RemovedByList != nil {
			w.RemovedByList(a.kind, n)
		}
	}
	w.feeds = append(w.feeds, &feed{
		kind: a.kind, refresh: make(chan struct{}, 1), policy: policy,
		start: func(replaced func()) *cache.Reflector {
			s.replaced = replaced
			return cache.NewReflectorWithOptions(lists, expected, s, cache.ReflectorOptions{
				Name: string(a.kind),
				Backoff: &wait.Backoff{
					Duration: firstRetry, Cap: lastRetry, Factor: 2, Jitter: retryJitter, Steps: 16,
				},
			})
		},
	})
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	var running sync.WaitGroup
	var missing atomic.Int32
	var runs []func()
	for _, f := range w.feeds {
		first := func() {}
		if f.policy {
			missing.Add(1)
			first = sync.OnceFunc(func() {
				if missing.Add(-1) == 0 {
					close(w.synced)
				}
			})
		}
		runs = append(runs, func() { f.run(ctx, first) })
	}
	// Only now is the number of missing kinds complete.
	for _, run := range runs {
		running.Go(run)
	}
	running.Wait()
}

// Synced is closed once the index holds everything of every kind that policy
// depends on.
func (w *Watcher) Synced() <-chan struct{} { return w.synced }

// Refresh has the kind listed anew, so that its mark reaches whatever the API
// server had written before the call, even where no event would tell. Policy
// stays in force meanwhile.
func (w *Watcher) Refresh(kind Kind) {
	for _, f := range w.feeds {
		if f.kind == kind {
			select {
			case f.refresh <- struct{}{}:
			default:
			}
		}
	}
}

// run watches; after a refresh was asked for it begins again with a list.
func (f *feed) run(ctx context.Context, first func()) {
	for ctx.Err() == nil {
		f.once(ctx, first)
	}
}

func (f *feed) once(ctx context.Context, first func()) {
	ctx, stop := context.WithCancel(ctx)
	listed := make(chan struct{})
	tell := sync.OnceFunc(func() { first(); close(listed) })
	var running sync.WaitGroup
	running.Go(func() { f.start(tell).RunWithContext(ctx) })
	defer running.Wait()
	defer stop()
	select {
	case <-listed:
	case <-ctx.Done():
		return
	}
	select {
	case <-f.refresh:
	case <-ctx.Done():
	}
}

// consistent asks for the present state where the reflector would be content
// with any: a list from a lagging cache could bring back what was revoked.
func consistent(options metav1.ListOptions) metav1.ListOptions {
	if options.ResourceVersion == "0" {
		options.ResourceVersion = ""
	}
	return options
}

func core(client rest.Interface, resource, labels string) cache.ListerWatcher {
	request := func(options metav1.ListOptions) *rest.Request {
		options.LabelSelector = labels
		return client.Get().Resource(resource).VersionedParams(&options, metav1.ParameterCodec)
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return request(consistent(options)).Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return request(options).Watch(ctx)
		},
	}
}

func custom(client dynamic.Interface, resource schema.GroupVersionResource) cache.ListerWatcher {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.Resource(resource).List(ctx, consistent(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.Resource(resource).Watch(ctx, options)
		},
	}
}

// unmeshed lists the pods that have no proxy and may yet be called.
func unmeshed(client metadata.Interface) cache.ListerWatcher {
	pods := client.Resource(corev1.SchemeGroupVersion.WithResource("pods"))
	narrow := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector = "!" + api.ControlPlaneLabel
		options.FieldSelector = "status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed)
		return options
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return pods.List(ctx, narrow(consistent(options)))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return pods.Watch(ctx, narrow(options))
		},
	}
}
