package engine

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// followed is a store of Servers alone, and what an event does to it.
func followed() (*policyStore, func(name, version string)) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	kind := &followedKind{lister: cache.NewGenericLister(indexer, api.Servers.GroupResource())}
	p := &policyStore{kinds: map[schema.GroupKind]*followedKind{{Group: api.Group, Kind: api.ServerKind}: kind}, changed: make(chan struct{})}
	return p, func(name, version string) {
		object := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"namespace": "ns", "name": name, "resourceVersion": version}}}
		_ = indexer.Add(object) // what has a name and a namespace has a key
		p.note(kind, object)
	}
}

func TestWhatWasWrittenIsAwaitedBeforeObjectsAreTold(t *testing.T) {
	p, event := followed()
	event("old", "5")
	p.wrote(write{group: api.Group, kind: api.ServerKind, version: 7})
	told := make(chan []*unstructured.Unstructured, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- p.await(t.Context(), time.Minute, []string{"ns"}, nil, func(found []*unstructured.Unstructured) error {
			told <- found
			return nil
		})
	}()
	event("elsewhere", "6")
	select {
	case found := <-told:
		t.Fatalf("%d objects were told before the write was seen", len(found))
	default:
	}
	event("new", "7")
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if found := <-told; len(found) != 3 {
		t.Errorf("%d objects were told, want 3", len(found))
	}
}

func TestAWriteThatNoWatchSeesIsAnError(t *testing.T) {
	p, event := followed()
	event("old", "5")
	p.wrote(write{group: api.Group, kind: api.ServerKind, version: 7})
	asked := false
	err := p.await(context.Background(), time.Millisecond, []string{"ns"}, nil, func([]*unstructured.Unstructured) error {
		asked = true
		return nil
	})
	if err == nil || asked {
		t.Errorf("error %v, objects told: %v", err, asked)
	}
}

func TestObjectsAreLookedAtAgainAfterAChange(t *testing.T) {
	p, event := followed()
	event("first", "5")
	looked := make(chan struct{}, 2)
	failed := make(chan error, 1)
	go func() {
		failed <- p.await(t.Context(), time.Minute, []string{"ns"}, []string{api.ServerKind}, func(found []*unstructured.Unstructured) error {
			looked <- struct{}{}
			if len(found) < 2 {
				return errUnsettled
			}
			return nil
		})
	}()
	<-looked
	event("second", "6")
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}
