package watch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
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
	"github.com/meshproof/meshproof/internal/mesh/kube"
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
	// Core serves API group "" with typed objects, and discovery.
	Core rest.Interface
	// Custom serves policy resources.
	Custom dynamic.Interface
	// Metadata serves pods without a proxy and ServiceAccounts. Nil leaves those
	// out.
	Metadata metadata.Interface
}

// Watcher runs the watches. Make it with New.
type Watcher struct {
	// Marks tells how far the index is.
	Marks *Marks
	// RemovedByList, when set before Run, is told how many objects of a kind a
	// list has shown to be gone that no event had announced.
	RemovedByList func(kind Kind, n int)

	index   *index.Index
	intake  *intake
	clients Clients
	synced  chan struct{}

	// mu guards feeds, which grow once, when it is known what there is to watch.
	mu    sync.Mutex
	feeds []*feed
}

// feed is the watch of one kind.
type feed struct {
	kind Kind
	// start makes a reflector that begins with a list; replaced is called when a
	// list has been taken.
	start func(replaced func()) *cache.Reflector
	// refresh holds a token when a list has been asked for.
	refresh chan struct{}
	// listed is closed once the first list has been taken.
	listed chan struct{}
	// policy is false for kinds that answers do not depend on.
	policy bool
	// lists reaches the kind; asking is about its present version.
	lists  cache.ListerWatcher
	asking asking
}

// New prepares the watches that fill x.
func New(x *index.Index, clients Clients) *Watcher {
	w := &Watcher{Marks: &Marks{}, index: x, intake: newIntake(x), clients: clients, synced: make(chan struct{})}
	config := x.Config()
	w.feeds = []*feed{
		newFeed(w, podAdapter(config), true, &corev1.Pod{}, core(clients.Core, "pods", api.ControlPlaneLabel)),
		newFeed(w, namespaceAdapter(), true, &corev1.Namespace{}, core(clients.Core, "namespaces", "")),
		newFeed(w, serverAdapter(), true, &unstructured.Unstructured{}, custom(clients.Custom, api.Servers)),
		newFeed(w, authorizationAdapter(config), true, &unstructured.Unstructured{}, custom(clients.Custom, api.ServerAuthorizations)),
	}
	if clients.Metadata != nil {
		w.feeds = append(w.feeds,
			newFeed(w, bystanderAdapter(), false, &metav1.PartialObjectMetadata{}, unmeshed(clients.Metadata)),
			newFeed(w, accountAdapter(), false, &metav1.PartialObjectMetadata{}, accounts(clients.Metadata)))
	}
	return w
}

func newFeed[S any](w *Watcher, a adapter[S], policy bool, expected runtime.Object, lists cache.ListerWatcher) *feed {
	s := &store[S]{adapter: a, intake: w.intake, known: map[types.NamespacedName]bool{}}
	if policy {
		s.marks = w.Marks
	}
	s.removedByList = func(n int) {
		if w.RemovedByList != nil {
			w.RemovedByList(a.kind, n)
		}
	}
	return &feed{
		kind: a.kind, refresh: make(chan struct{}, 1), listed: make(chan struct{}), policy: policy, lists: lists,
		start: func(replaced func()) *cache.Reflector {
			s.replaced = replaced
			return cache.NewReflectorWithOptions(lists, expected, s, cache.ReflectorOptions{
				Name: string(a.kind),
				Backoff: &wait.Backoff{
					Duration: firstRetry, Cap: lastRetry, Factor: 2, Jitter: retryJitter, Steps: 16,
				},
			})
		},
	}
}

// Run watches until ctx ends. It begins with the kinds without which there is no
// policy. Once these are listed, hence their CRDs are in place, it finds out which
// of the others exist, and watches those until it ends (C-30).
func (w *Watcher) Run(ctx context.Context) {
	var taking sync.WaitGroup
	defer taking.Wait()
	ended := make(chan struct{})
	taking.Go(func() { w.intake.run(ended) })
	defer close(ended) // once no feed runs any more
	var running sync.WaitGroup
	defer running.Wait()
	for _, f := range w.feeds {
		running.Go(func() { f.run(ctx) })
	}
	if !listed(ctx, w.feeds) {
		return
	}
	more, err := w.discover(ctx)
	if err != nil {
		// Only the context's end is an error here.
		return
	}
	w.mu.Lock()
	w.feeds = append(w.feeds, more...)
	w.mu.Unlock()
	for _, f := range more {
		running.Go(func() { f.run(ctx) })
	}
	if listed(ctx, more) {
		close(w.synced)
	}
}

// listed waits until the first list of each feed that policy depends on has been
// taken, or ctx ends.
func listed(ctx context.Context, feeds []*feed) bool {
	for _, f := range feeds {
		if !f.policy {
			continue
		}
		select {
		case <-f.listed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// discover makes the feeds of the optional kinds that are served.
func (w *Watcher) discover(ctx context.Context) ([]*feed, error) {
	all := optionals(w.index.Config())
	var resources []schema.GroupResource
	for _, o := range all {
		resources = append(resources, o.resource)
	}
	var served map[schema.GroupResource]schema.GroupVersionResource
	err := kube.Retry(ctx, "find out which kinds there are", func(ctx context.Context) (err error) {
		served, err = discover(ctx, w.clients.Core, resources)
		return err
	})
	if err != nil {
		return nil, err
	}
	var feeds []*feed
	for _, o := range all {
		resource, found := served[o.resource]
		if !found {
			slog.Warn("there is no such CRD, it will be watched after a restart only", "resource", o.resource.String())
			continue
		}
		feeds = append(feeds, o.add(w, custom(w.clients.Custom, resource)))
	}
	return feeds, nil
}

// Watched reports whether the kind is watched. It is final once Synced is closed.
func (w *Watcher) Watched(kind Kind) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.feeds, func(f *feed) bool { return f.kind == kind })
}

// Synced is closed once the index holds everything of every kind that policy
// depends on.
func (w *Watcher) Synced() <-chan struct{} { return w.synced }

// Refresh has the kind listed anew, so that its mark reaches whatever the API
// server had written before the call, even where no event would tell. Policy
// stays in force meanwhile.
func (w *Watcher) Refresh(kind Kind) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
func (f *feed) run(ctx context.Context) {
	first := sync.OnceFunc(func() { close(f.listed) })
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

func accounts(client metadata.Interface) cache.ListerWatcher {
	accounts := client.Resource(corev1.SchemeGroupVersion.WithResource("serviceaccounts"))
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return accounts.List(ctx, consistent(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return accounts.Watch(ctx, options)
		},
	}
}
