package status

import (
	"log/slog"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// sink takes one kind into the world. Its functions are called with the world
// locked.
type sink struct {
	c *Controller
	// put takes an object, remove forgets one, clear forgets all.
	put    func(*unstructured.Unstructured)
	remove func(types.NamespacedName)
	clear  func()
	// lazily means that a deletion is no cause to look: what follows from it is
	// found by the next resync (S-07).
	lazily bool
}

// Put implements kube.Sink.
func (s *sink) Put(object *unstructured.Unstructured) {
	s.c.mu.Lock()
	s.put(object)
	s.c.mu.Unlock()
	s.c.note()
}

// Remove implements kube.Sink.
func (s *sink) Remove(object *unstructured.Unstructured) {
	s.c.mu.Lock()
	s.remove(nameOf(object))
	s.c.mu.Unlock()
	if !s.lazily {
		s.c.note()
	}
}

// Replace implements kube.Sink.
func (s *sink) Replace(all []*unstructured.Unstructured) {
	s.c.mu.Lock()
	s.clear()
	for _, object := range all {
		s.put(object)
	}
	s.c.mu.Unlock()
	s.c.note()
}

func nameOf(object *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}
}

func (c *Controller) servers() *sink {
	return &sink{c: c,
		put:    func(object *unstructured.Unstructured) { c.world.Servers[nameOf(object)] = true },
		remove: func(name types.NamespacedName) { delete(c.world.Servers, name) },
		clear:  func() { clear(c.world.Servers) },
	}
}

func (c *Controller) routes(resource schema.GroupVersionResource) *sink {
	s := sinkOf(c, resource, func() map[Key]Route { return c.world.Routes }, readRoute, func(r Route) string { return r.Version })
	s.lazily = !c.dialect.StatusAtOnce
	return s
}

func (c *Controller) limits() *sink {
	return sinkOf(c, api.HTTPLocalRateLimitPolicies, func() map[Key]Limit { return c.world.Limits }, readLimit, func(l Limit) string { return l.Version })
}

// sinkOf keeps objects of one resource among those of a map. One that cannot be
// read has no status.
func sinkOf[T any](c *Controller, resource schema.GroupVersionResource, all func() map[Key]T, read func(*unstructured.Unstructured) (T, error), version func(T) string) *sink {
	return &sink{c: c,
		put: func(object *unstructured.Unstructured) {
			key := Key{resource, nameOf(object)}
			if old, there := all()[key]; there && older(object.GetResourceVersion(), version(old)) {
				return // the answer to a patch came first
			}
			t, err := read(object)
			if err != nil {
				slog.Warn("no status is written of what cannot be read", "object", key.String(), "error", err)
				delete(all(), key)
				return
			}
			all()[key] = t
		},
		remove: func(name types.NamespacedName) { delete(all(), Key{resource, name}) },
		clear: func() {
			for key := range all() {
				if key.Resource == resource {
					delete(all(), key)
				}
			}
		},
	}
}

// older compares resourceVersions, which are numbers in every API server that
// stores in etcd; where they are not, nothing is older.
func older(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	return errX == nil && errY == nil && x < y
}
