package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/policy/objects"
)

// policyStore follows all policy objects, for those who read worlds so often that
// lists of every kind would be most of what the API server does. What it tells is
// never older than what this program has written: with the last write of a kind
// every earlier event of that kind was seen.
type policyStore struct {
	kinds   map[schema.GroupKind]*followedKind
	factory dynamicinformer.DynamicSharedInformerFactory
	stop    context.CancelFunc

	mu      sync.Mutex
	changed chan struct{}
}

// followedKind is one kind of policy.
type followedKind struct {
	lister cache.GenericLister
	// seen is the newest version of which the lister knows, and written the newest
	// that this program has made; under the store's mu.
	seen, written uint64
}

// startPolicyStore follows the kinds that the cluster knows, in the versions that
// it prefers.
func startPolicyStore(ctx context.Context, k *kube) (*policyStore, error) {
	ctx, stop := context.WithCancel(ctx)
	p := &policyStore{kinds: map[schema.GroupKind]*followedKind{}, stop: stop, changed: make(chan struct{}),
		factory: dynamicinformer.NewDynamicSharedInformerFactory(k.dynamic, 0)}
	for _, kind := range objects.PolicyKinds() {
		mapping, err := k.mapper.RESTMapping(kind)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			stop()
			return nil, fmt.Errorf("find the resource of kind %s: %w", kind, err)
		}
		informer := p.factory.ForResource(mapping.Resource)
		one := &followedKind{lister: informer.Lister()}
		p.kinds[kind] = one
		if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(object any) { p.note(one, object) }, UpdateFunc: func(_, object any) { p.note(one, object) }, DeleteFunc: func(object any) { p.note(one, object) },
		}); err != nil {
			stop()
			return nil, fmt.Errorf("follow the objects of kind %s: %w", kind, err)
		}
	}
	p.factory.Start(ctx.Done())
	for resource, synced := range p.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			p.close()
			return nil, fmt.Errorf("list the %s: %w", resource.Resource, context.Cause(ctx))
		}
	}
	return p, nil
}

// close ends it; a nil *policyStore, which follows nothing, may be closed too.
func (p *policyStore) close() {
	if p != nil {
		p.stop()
		p.factory.Shutdown()
	}
}

// note takes in an event of which the lister knows already.
func (p *policyStore) note(kind *followedKind, event any) {
	object, ok := event.(*unstructured.Unstructured)
	if !ok {
		return // a deletion that was missed; the list that told of it has newer objects
	}
	version, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kind.seen = max(kind.seen, version)
	close(p.changed)
	p.changed = make(chan struct{})
}

// wrote raises what must have been seen before anybody is told of objects; a nil
// *policyStore need not see anything.
func (p *policyStore) wrote(w write) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if kind := p.kinds[w.groupKind()]; kind != nil {
		kind.written = max(kind.written, w.version)
	}
}

// behind is an error that names a kind of which something that was written was not
// seen; nil when there is none. The caller holds mu.
func (p *policyStore) behind() error {
	for name, kind := range p.kinds {
		if kind.seen < kind.written {
			return fmt.Errorf("what was written of kind %s was not seen by a watch", name.Kind)
		}
	}
	return nil
}

// await has f look at the objects of some namespaces once all that was written is
// among them, and again after every change until it returns no error or the budget
// is spent. Kinds nil means all; the objects must not be changed.
func (p *policyStore) await(ctx context.Context, budget time.Duration, namespaces, kinds []string, f func([]*unstructured.Unstructured) error) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for {
		p.mu.Lock()
		changed, err := p.changed, p.behind()
		p.mu.Unlock()
		if err == nil {
			var found []*unstructured.Unstructured
			if found, err = p.list(namespaces, kinds); err == nil {
				err = f(found)
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w, after %s", err, budget)
			}
			return ctx.Err()
		}
	}
}

// list returns the objects as they are known.
func (p *policyStore) list(namespaces, kinds []string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, kind := range objects.PolicyKinds() {
		followed := p.kinds[kind]
		if followed == nil || kinds != nil && !slices.Contains(kinds, kind.Kind) {
			continue
		}
		for _, namespace := range namespaces {
			found, err := followed.lister.ByNamespace(namespace).List(labels.Everything())
			if err != nil {
				return nil, fmt.Errorf("list the objects of kind %s in namespace %s: %w", kind, namespace, err)
			}
			for _, object := range found {
				all = append(all, object.(*unstructured.Unstructured))
			}
		}
	}
	return all, nil
}
