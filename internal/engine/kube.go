package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// fieldManager owns what the engine applies.
const fieldManager = "meshproof"

// kube is the API server as the engine uses it.
type kube struct {
	config  *rest.Config
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	watch   *policyWatch
	// store is nil where worlds are read by lists.
	store *policyStore
	// registry, when it is not empty, is where the images of all pods are.
	registry string
	// pullPolicy, when it is not empty, is that of all containers.
	pullPolicy corev1.PullPolicy
}

func newKube(config *rest.Config) (*kube, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = -1, -1 // the engine is the only one who asks
	config.WarningHandler = rest.NoWarnings{}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &kube{config: config, typed: typed, dynamic: dyn,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(typed.Discovery()))}, nil
}

const policyGroup = "policy.linkerd.io"

// write is an accepted change of an object.
type write struct {
	kind, namespace, name string
	group                 string
	// version is the resourceVersion after the write, of a deletion too.
	version uint64
	// called is when it was asked for, and accepted when the API server's answer was
	// there.
	called, accepted time.Time
	verb             string
	// object is what the API server has answered; nil when it was deleted.
	object *unstructured.Unstructured
}

func (w write) String() string {
	where := w.name
	if w.namespace != "" {
		where = w.namespace + "/" + w.name
	}
	return w.verb + " " + w.kind + " " + where
}

// policy reports whether the controller has to observe it.
func (w write) policy() bool { return isPolicy(w.groupKind()) }

func (w write) groupKind() schema.GroupKind { return schema.GroupKind{Group: w.group, Kind: w.kind} }

func (k *kube) resource(gvk schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, bool, error) {
	mapping, err := k.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		// Installed since the last look, perhaps.
		k.mapper.Reset()
		mapping, err = k.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, false, fmt.Errorf("find the resource of kind %s in %s: %w", gvk.Kind, gvk.GroupVersion(), err)
	}
	namespaced := mapping.Scope.Name() == meta.RESTScopeNameNamespace
	if !namespaced {
		return k.dynamic.Resource(mapping.Resource), false, nil
	}
	return k.dynamic.Resource(mapping.Resource).Namespace(namespace), true, nil
}

// refusedError is an object that the API server did not take: the input's
// fault, as opposed to a server that cannot be reached.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "refused: " + e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// unknownField is in the message about an object whose kind has no such field:
// server-side apply answers it with a 500 that has no reason.
const unknownField = "failed to create typed patch object"

func refusal(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err
	}
	switch code := status.Status().Code; {
	case code == 500 && status.Status().Reason == metav1.StatusReasonUnknown && strings.Contains(status.Status().Message, unknownField):
		return &refusedError{err}
	case code == 409, code == 429, code >= 500, code == 401:
		return err
	}
	return &refusedError{err}
}

// apply does what kubectl apply --server-side does. namespace is for objects
// that name none.
func (k *kube) apply(ctx context.Context, content map[string]any, namespace string, dryRun bool) (write, error) {
	object := &unstructured.Unstructured{Object: content}
	gvk := object.GroupVersionKind()
	if object.GetNamespace() != "" {
		namespace = object.GetNamespace()
	}
	resource, namespaced, err := k.resource(gvk, namespace)
	if err != nil {
		return write{}, &refusedError{err}
	}
	if namespaced {
		object.SetNamespace(namespace)
	} else {
		namespace = ""
	}
	k.relocate(object.Object)
	body, err := json.Marshal(object)
	if err != nil {
		return write{}, fmt.Errorf("encode %s %s: %w", gvk.Kind, object.GetName(), err)
	}
	force := true
	options := metav1.PatchOptions{FieldManager: fieldManager, Force: &force}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	called := time.Now()
	done, err := resource.Patch(ctx, object.GetName(), types.ApplyPatchType, body, options)
	if err != nil {
		return write{}, fmt.Errorf("apply %s %s: %w", gvk.Kind, object.GetName(), refusal(err))
	}
	w := written("applied", called, done)
	if !dryRun {
		k.store.wrote(w)
	}
	return w, nil
}

func written(verb string, called time.Time, object *unstructured.Unstructured) write {
	version, _ := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	return write{kind: object.GetKind(), group: object.GroupVersionKind().Group, namespace: object.GetNamespace(), name: object.GetName(), version: version,
		called: called, accepted: time.Now(), verb: verb, object: object}
}

// merge sends a JSON merge patch, of a subresource when one is named.
func (k *kube) merge(ctx context.Context, kind, namespace, name string, patch map[string]any, subresources ...string) (write, error) {
	resource, _, err := k.resource(kindOf(kind), namespace)
	if err != nil {
		return write{}, &refusedError{err}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return write{}, fmt.Errorf("encode the patch of %s %s: %w", kind, name, err)
	}
	called := time.Now()
	done, err := resource.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	if err != nil {
		return write{}, fmt.Errorf("patch %s %s: %w", kind, name, refusal(err))
	}
	w := written("patched", called, done)
	k.store.wrote(w)
	return w, nil
}

// remove deletes an object; for policy objects the version of the deletion is
// learnt from a watch, because the API's answer does not tell it.
func (k *kube) remove(ctx context.Context, kind, namespace, name string) (write, error) {
	gvk := kindOf(kind)
	resource, namespaced, err := k.resource(gvk, namespace)
	if err != nil {
		return write{}, &refusedError{err}
	}
	if !namespaced {
		namespace = ""
	}
	var deleted <-chan uint64
	if isPolicy(gvk.GroupKind()) && k.watch != nil {
		var stop func()
		deleted, stop = k.watch.deletion(gvk.GroupKind(), namespace, name)
		defer stop()
	}
	called := time.Now()
	if err := resource.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return write{}, fmt.Errorf("delete %s %s: %w", kind, name, refusal(err))
	}
	w := write{kind: gvk.Kind, group: gvk.Group, namespace: namespace, name: name, called: called, accepted: time.Now(), verb: "deleted"}
	if deleted == nil {
		return w, nil
	}
	timer := time.NewTimer(inForceBudget)
	defer timer.Stop()
	select {
	case w.version = <-deleted:
		k.store.wrote(w)
		return w, nil
	case <-timer.C:
		return w, fmt.Errorf("the deletion of %s %s/%s was not seen by a watch within %s", kind, namespace, name, inForceBudget)
	case <-ctx.Done():
		return w, ctx.Err()
	}
}

// policyWatch follows the policy objects of all namespaces to learn the
// versions of deletions.
type policyWatch struct {
	mu      sync.Mutex
	waiting map[string][]chan uint64
	stop    context.CancelFunc
	done    sync.WaitGroup
}

func (k *kube) startPolicyWatch(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	p := &policyWatch{waiting: map[string][]chan uint64{}, stop: stop}
	k.watch = p
	for _, kind := range policies {
		ready := make(chan struct{})
		p.done.Go(func() { p.follow(ctx, k, kind, ready) })
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
}

// follow watches one kind, anew whenever the watch ends.
func (p *policyWatch) follow(ctx context.Context, k *kube, kind schema.GroupVersionKind, ready chan<- struct{}) {
	announced := false
	announce := func() {
		if !announced {
			announced = true
			close(ready)
		}
	}
	defer announce()
	for ctx.Err() == nil {
		resource, _, err := k.resource(kind, "")
		if err == nil {
			list, listErr := resource.List(ctx, metav1.ListOptions{Limit: 1})
			if err = listErr; err == nil {
				w, watchErr := resource.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
				if err = watchErr; err == nil {
					announce()
					for event := range w.ResultChan() {
						if object, ok := event.Object.(*unstructured.Unstructured); ok && event.Type == "DELETED" {
							p.tell(object)
						}
					}
					w.Stop()
					continue
				}
			}
		}
		// No such kind on this cluster, or no server: nobody waits for long.
		announce()
		rest := pollInterval
		if meta.IsNoMatchError(err) {
			rest = unknownRest
		}
		_ = pause(ctx, rest)
	}
}

// unknownRest is between two looks for a kind that the cluster does not know:
// each reads all that it does know.
const unknownRest = 10 * time.Second

func (p *policyWatch) tell(object *unstructured.Unstructured) {
	version, _ := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	key := deletionKey(object.GroupVersionKind().GroupKind(), object.GetNamespace(), object.GetName())
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, channel := range p.waiting[key] {
		select {
		case channel <- version:
		default:
		}
	}
}

func deletionKey(kind schema.GroupKind, namespace, name string) string {
	return kind.String() + " " + namespace + "/" + name
}

func (p *policyWatch) deletion(kind schema.GroupKind, namespace, name string) (<-chan uint64, func()) {
	key, channel := deletionKey(kind, namespace, name), make(chan uint64, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[key] = append(p.waiting[key], channel)
	return channel, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, one := range p.waiting[key] {
			if one == channel {
				p.waiting[key] = append(p.waiting[key][:i], p.waiting[key][i+1:]...)
				break
			}
		}
		if len(p.waiting[key]) == 0 {
			delete(p.waiting, key)
		}
	}
}

func (p *policyWatch) close() {
	p.stop()
	p.done.Wait()
}

// pause waits; it returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
