package kube

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// watchJitter draws the delay before an attempt to watch out by up to this much of
// itself, so that an API server that is back is not met by all at once.
const watchJitter = 0.5

// Sink receives the objects of one kind. Calls come one at a time. Whoever
// implements it must not change the objects.
type Sink[T any] interface {
	// Put is called for an object that was created or changed.
	Put(T)
	// Remove is called for one that was deleted, with its last state.
	Remove(T)
	// Replace is called with all that exist, at first and after a break in the
	// watch: whatever is not among them is gone.
	Replace([]T)
}

// Scope narrows a watch.
type Scope struct {
	// Namespace is the only one watched; "" means all.
	Namespace string
	// Fields is a field selector such as metadata.name=x; "" means none.
	Fields string
}

// Watch feeds sink with the objects of a resource until ctx ends. synced, when
// not nil, is called after the first Replace. Failures are logged and tried
// again with growing delays.
func Watch[T runtime.Object](ctx context.Context, client rest.Interface, resource string, scope Scope, sink Sink[T], synced func()) {
	request := func(options *metav1.ListOptions) *rest.Request {
		options.FieldSelector = scope.Fields
		return client.Get().Namespace(scope.Namespace).Resource(resource).VersionedParams(options, metav1.ParameterCodec)
	}
	var kind T
	run(ctx, resource, kind, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return request(&options).Do(ctx).Get()
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			return request(&options).Watch(ctx)
		},
	}, sink, synced)
}

// WatchCustom is Watch for custom resources, whose objects come without a type.
func WatchCustom(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, sink Sink[*unstructured.Unstructured], synced func()) {
	objects := client.Resource(resource)
	// Its reflector looks inside what it is given as an example.
	run(ctx, resource.Resource, &unstructured.Unstructured{}, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, options)
		},
	}, sink, synced)
}

func run[T runtime.Object](ctx context.Context, name string, kind T, lists *cache.ListWatch, sink Sink[T], synced func()) {
	if synced == nil {
		synced = func() {}
	}
	into := &store[T]{sink: sink, synced: sync.OnceFunc(synced)}
	cache.NewReflectorWithOptions(lists, kind, into, cache.ReflectorOptions{
		Name:    name,
		Backoff: delays(),
	}).RunWithContext(ctx)
}

// delays are those between two attempts to list or watch. The library's own grow to
// a minute, for which proxies would be told of addresses that nobody has any more.
func delays() *wait.Backoff {
	return &wait.Backoff{Duration: firstRetry, Cap: lastRetry, Factor: 2, Jitter: watchJitter, Steps: 16}
}

// store is a Sink as the reflector wants it.
type store[T any] struct {
	sink   Sink[T]
	synced func()
}

func (s *store[T]) Add(obj any) error    { return s.each(obj, s.sink.Put) }
func (s *store[T]) Update(obj any) error { return s.each(obj, s.sink.Put) }
func (s *store[T]) Delete(obj any) error { return s.each(obj, s.sink.Remove) }
func (s *store[T]) Resync() error        { return nil }

func (s *store[T]) Replace(objects []any, _ string) error {
	all := make([]T, 0, len(objects))
	for _, obj := range objects {
		if err := s.each(obj, func(t T) { all = append(all, t) }); err != nil {
			return err
		}
	}
	s.sink.Replace(all)
	s.synced()
	return nil
}

func (s *store[T]) each(obj any, do func(T)) error {
	t, ok := obj.(T)
	if !ok {
		return fmt.Errorf("watched object is a %T, not a %T", obj, t)
	}
	do(t)
	return nil
}
