package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
	"github.com/meshproof/meshproof/internal/mesh/kube"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func clients(address string) (watch.Clients, error) {
	access := &rest.Config{Host: address, QPS: -1}
	core, err := kube.For(access, corev1.SchemeGroupVersion)
	if err != nil {
		return watch.Clients{}, err
	}
	custom, err := dynamic.NewForConfig(access)
	return watch.Clients{Core: core, Custom: custom}, err
}

// discarding is a store that keeps nothing.
type discarding struct{ listed func() }

func (discarding) Add(any) error    { return nil }
func (discarding) Update(any) error { return nil }
func (discarding) Delete(any) error { return nil }
func (discarding) Resync() error    { return nil }
func (d discarding) Replace([]any, string) error {
	d.listed()
	return nil
}

// list does what a bare informer does with the objects of the stub: list and
// decode.
func list(ctx context.Context, address string) error {
	c, err := clients(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pods := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return c.Core.Get().Resource("pods").VersionedParams(&options, metav1.ParameterCodec).Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.Watch = true
			return c.Core.Get().Resource("pods").VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
		},
	}
	lists := map[cache.ListerWatcher]any{pods: &corev1.Pod{}}
	for _, resource := range []dynamic.NamespaceableResourceInterface{c.Custom.Resource(api.Servers), c.Custom.Resource(api.ServerAuthorizations)} {
		lists[&cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				return resource.List(ctx, options)
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
				return resource.Watch(ctx, options)
			},
		}] = &unstructured.Unstructured{}
	}
	var running, all sync.WaitGroup
	all.Add(len(lists))
	for lister, expected := range lists {
		reflector := cache.NewReflectorWithOptions(lister, expected, discarding{sync.OnceFunc(all.Done)}, cache.ReflectorOptions{})
		running.Go(func() { reflector.RunWithContext(ctx) })
	}
	done := make(chan struct{})
	go func() { defer close(done); all.Wait() }()
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("list everything: %w", ctx.Err())
	}
	cancel()
	running.Wait()
	return err
}

// following is an index that follows the stub.
type following struct {
	index *index.Index
	// changed counts transactions that changed something.
	changed atomic.Int64
	stop    func()
}

func follow(ctx context.Context, address string) (*following, error) {
	c, err := clients(address)
	if err != nil {
		return nil, err
	}
	f := &following{index: index.New(config())}
	f.index.OnChange(func([]string) { f.changed.Add(1) })
	watcher := watch.New(f.index, c)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { watcher.Run(ctx) })
	f.stop = func() { cancel(); running.Wait() }
	select {
	case <-watcher.Synced():
		return f, nil
	case <-time.After(within):
		f.stop()
		return nil, errors.New("never synchronised")
	}
}

// burst notes where the count stands before authorizations come.
func (f *following) burst(context.Context) (int64, error) {
	if f == nil {
		return 0, errors.New("nothing is followed")
	}
	if _, err := f.index.Watch(burstNamespace, watchedName(0), port); err != nil {
		return 0, err
	}
	f.changed.Store(0)
	return 0, nil
}

// burstNamespace has the Server that a burst is for.
const burstNamespace = "burst"

// over waits until the last of a burst is in force. It returns how many
// transactions that took, and whether the policy is that of an index that was
// given everything at once.
func (f *following) over(ctx context.Context) (transactions int64, right bool) {
	want := index.New(config())
	addWatched(want, burstNamespace, 1)
	want.Update(func(tx *index.Tx) {
		for i := range burst {
			apply(tx, burstOf(i))
		}
	})
	right = poll(ctx, func() bool {
		is, err := f.index.Lookup(burstNamespace, watchedName(0), port)
		should, errWant := want.Lookup(burstNamespace, watchedName(0), port)
		return err == nil && errWant == nil && is.Server.Equal(&should.Server)
	})
	return f.changed.Load(), right
}

func burstOf(i int) *api.ServerAuthorization {
	return authorization(burstNamespace, fmt.Sprintf("burst-%d", i), "server", 256+i)
}

// poll asks until the answer is yes, or it has taken too long.
func poll(ctx context.Context, yes func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
