package discovery

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// errSync means that ctx ended before the first snapshot was complete.
var errSync = errors.New("services and endpoints were not listed in time")

// Watch calls apply with the state of all services, first when it is complete
// and then after each change, until ctx ends. Changes that come while apply
// runs are one change. It is an error when apply returns one.
func Watch(ctx context.Context, config *rest.Config, apply func(*Snapshot) error) error {
	services, err := informer(config, corev1.SchemeGroupVersion, "services", &corev1.Service{})
	if err != nil {
		return err
	}
	endpoints, err := informer(config, discoveryv1.SchemeGroupVersion, "endpointslices", &discoveryv1.EndpointSlice{})
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() }}
	group, ctx := errgroup.WithContext(ctx)
	for _, i := range []cache.SharedIndexInformer{services, endpoints} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch services: %w", err)
		}
		group.Go(func() error {
			i.RunWithContext(ctx)
			return nil
		})
	}
	group.Go(func() error {
		if !cache.WaitForCacheSync(ctx.Done(), services.HasSynced, endpoints.HasSynced) {
			return errSync
		}
		for {
			if err := apply(Build(list[*corev1.Service](services), list[*discoveryv1.EndpointSlice](endpoints))); err != nil {
				return err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
	err = group.Wait()
	if errors.Is(err, errSync) {
		return nil // the caller ended it
	}
	return err
}

// informer watches one kind with a client that knows no other: the full client
// set would take more memory than everything else in the node's programs.
func informer(config *rest.Config, version schema.GroupVersion, resource string, kind runtime.Object) (cache.SharedIndexInformer, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	config = rest.CopyConfig(config)
	config.GroupVersion = &version
	config.APIPath = "/apis"
	if version.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make client for %s: %w", resource, err)
	}
	i := cache.NewSharedIndexInformer(cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything()), kind, 0, cache.Indexers{})
	if err := i.SetTransform(strip); err != nil {
		return nil, fmt.Errorf("watch %s: %w", resource, err)
	}
	return i, nil
}

// strip drops what nobody reads here before it is kept.
func strip(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetAnnotations(nil)
	}
	return object, nil
}

func list[T any](i cache.SharedIndexInformer) []T {
	var out []T
	for _, object := range i.GetStore().List() {
		out = append(out, object.(T))
	}
	return out
}
