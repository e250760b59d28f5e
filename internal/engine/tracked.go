package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// trackedWorld is the world as it follows from what the API server has answered,
// so that nothing needs to be listed after each write. Whether it is the real one
// is looked at now and then. Its pods are those of the pod store at any moment.
type trackedWorld struct {
	s *scenarioRun

	mu    sync.Mutex
	world oracle.World
	// elsewhere are the namespaces whose objects are part of it only because
	// policies refer to them.
	elsewhere []string
	// seen is when it was compared with the real one last.
	seen time.Time
}

// verifyEvery is between two looks at the real world: each costs a list of every
// kind of policy.
const verifyEvery = 2 * time.Second

// current is the world as it is now, pods aside.
func (t *trackedWorld) current() oracle.World {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.world
}

// start takes the world as it was read.
func (t *trackedWorld) start(world oracle.World) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.world = arranged(world)
	t.elsewhere, t.seen = referredTo(world, t.s.spaces()), time.Now()
}

// resettle takes over the mesh's settings.
func (t *trackedWorld) resettle() error {
	settings, err := t.s.e.settings()
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.world.Settings = settings
	return nil
}

// counting are the kinds that count only once their status says so.
var counting = []string{api.HTTPRouteKind, api.GRPCRouteKind, api.HTTPLocalRateLimitPolicyKind}

// named is an object by its name.
type named struct{ group, kind, namespace, name string }

// take makes a write part of the world. pending are the objects that come to count
// by it, and only once their status says so.
func (t *trackedWorld) take(ctx context.Context, w write) (pending []named, err error) {
	switch {
	case w.kind == "Namespace" && w.group == "":
		return nil, t.namespace(w)
	case !w.policy():
		return nil, nil // pods are read where they are needed
	}
	before := t.current()
	after := without(before, []named{{w.group, w.kind, w.namespace, w.name}})
	if w.object != nil {
		object, err := t.preferred(ctx, w)
		if err != nil {
			return nil, err
		}
		if err := objects.Keep(&after, object); err != nil {
			return nil, err
		}
	}
	if elsewhere := referredTo(after, t.s.spaces()); !slices.Equal(elsewhere, t.elsewhere) {
		// What policies refer to from now on was of no interest before.
		read, err := t.s.readWorld(ctx)
		if err != nil {
			return nil, err
		}
		after = read.World
		t.mu.Lock()
		t.elsewhere = elsewhere
		t.mu.Unlock()
	}
	after = arranged(after)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.world = after
	isNew := w.kind == api.ServerKind && w.object != nil && !slices.ContainsFunc(before.Servers, func(s *api.Server) bool { return s.Namespace == w.namespace && s.Name == w.name })
	if !isNew {
		return nil, nil
	}
	return attached(after, w.namespace, w.name), nil
}

// namespace takes over labels and annotations of a namespace.
func (t *trackedWorld) namespace(w write) error {
	if w.object == nil {
		return fmt.Errorf("namespace %s was deleted while streams flow", w.name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.world.Namespaces = slices.Clone(t.world.Namespaces)
	for i, n := range t.world.Namespaces {
		if n.Name == w.name {
			t.world.Namespaces[i] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.name, Labels: w.object.GetLabels(), Annotations: w.object.GetAnnotations()}}
		}
	}
	return nil
}

// preferred is an object that was written in the version in which worlds have it.
func (t *trackedWorld) preferred(ctx context.Context, w write) (*unstructured.Unstructured, error) {
	kube := t.s.e.kube
	mapping, err := kube.mapper.RESTMapping(w.groupKind())
	if err != nil {
		return nil, fmt.Errorf("find the resource of kind %s: %w", w.groupKind(), err)
	}
	if mapping.GroupVersionKind.Version == w.object.GroupVersionKind().Version {
		return w.object, nil
	}
	object, err := kube.dynamic.Resource(mapping.Resource).Namespace(w.namespace).Get(ctx, w.name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", w.kind, w.namespace, w.name, err)
	}
	return object, nil
}

// verified is verify, where the last look was some time ago.
func (t *trackedWorld) verified(ctx context.Context) error {
	if time.Since(t.seen) < verifyEvery {
		return nil
	}
	t.seen = time.Now()
	return t.verify(ctx)
}

// verify compares the world with the real one. A difference means that somebody
// else writes too, or that what writes do is not understood here.
func (t *trackedWorld) verify(ctx context.Context) error {
	read, err := t.s.readWorld(ctx)
	if err != nil {
		return err
	}
	real, tracked := arranged(read.World), t.current()
	real.Origins, tracked.Origins = nil, nil
	is, err := json.Marshal(real)
	if err != nil {
		return err
	}
	should, err := json.Marshal(tracked)
	if err != nil {
		return err
	}
	if string(is) != string(should) {
		return fmt.Errorf("the world is not what follows from what was written: it is %s, and should be %s", differing(is, should), differing(should, is))
	}
	return nil
}

// differing is the part of a text around where it begins to differ from another.
func differing(text, other []byte) string {
	const around = 60
	at := 0
	for at < len(text) && at < len(other) && text[at] == other[at] {
		at++
	}
	return "..." + string(text[max(0, at-around):min(len(text), at+around)]) + "..."
}

// without is the world without some objects. The one that is given stays as it is.
func without(w oracle.World, these []named) oracle.World {
	w.Servers = left(w.Servers, these, api.ServerKind)
	w.ServerAuthorizations = left(w.ServerAuthorizations, these, api.ServerAuthorizationKind)
	w.AuthorizationPolicies = left(w.AuthorizationPolicies, these, api.AuthorizationPolicyKind)
	w.MeshTLSAuthentications = left(w.MeshTLSAuthentications, these, api.MeshTLSAuthenticationKind)
	w.NetworkAuthentications = left(w.NetworkAuthentications, these, api.NetworkAuthenticationKind)
	w.HTTPRoutes = left(w.HTTPRoutes, these, api.HTTPRouteKind)
	w.GRPCRoutes = left(w.GRPCRoutes, these, api.GRPCRouteKind)
	w.RateLimits = left(w.RateLimits, these, api.HTTPLocalRateLimitPolicyKind)
	return w
}

// policyObject is what every type of policy object is.
type policyObject interface {
	metav1.Object
	GroupVersionKind() schema.GroupVersionKind
}

func left[T policyObject](list []T, these []named, kind string) []T {
	return slices.DeleteFunc(slices.Clone(list), func(one T) bool {
		return slices.Contains(these, named{one.GroupVersionKind().Group, kind, one.GetNamespace(), one.GetName()})
	})
}

// arranged is the world with its objects in an order that does not depend on when
// they were written.
func arranged(w oracle.World) oracle.World {
	w.Servers = sortedObjects(w.Servers)
	w.ServerAuthorizations = sortedObjects(w.ServerAuthorizations)
	w.AuthorizationPolicies = sortedObjects(w.AuthorizationPolicies)
	w.MeshTLSAuthentications = sortedObjects(w.MeshTLSAuthentications)
	w.NetworkAuthentications = sortedObjects(w.NetworkAuthentications)
	w.HTTPRoutes = sortedObjects(w.HTTPRoutes)
	w.GRPCRoutes = sortedObjects(w.GRPCRoutes)
	w.RateLimits = sortedObjects(w.RateLimits)
	w.Origins = maps.Clone(w.Origins)
	return w
}

func sortedObjects[T policyObject](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GroupVersionKind().Group, b.GroupVersionKind().Group), cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return list
}

// detached is the world in which some routes and rate limits do not count yet for a
// Server. They count for others still.
func detached(w oracle.World, server named, these []named) oracle.World {
	out := without(w, these)
	others := func(own string, refs []api.ParentReference) []api.ParentReference {
		return slices.DeleteFunc(slices.Clone(refs), func(ref api.ParentReference) bool {
			return value(ref.Kind) == server.kind && parent(ref, own) == server.namespace+"/"+server.name
		})
	}
	for _, route := range w.HTTPRoutes {
		if refs := others(route.Namespace, route.Spec.ParentRefs); len(refs) > 0 && len(refs) < len(route.Spec.ParentRefs) {
			route = route.DeepCopy()
			route.Spec.ParentRefs = refs
			out.HTTPRoutes = append(out.HTTPRoutes, route)
		}
	}
	for _, route := range w.GRPCRoutes {
		if refs := others(route.Namespace, route.Spec.ParentRefs); len(refs) > 0 && len(refs) < len(route.Spec.ParentRefs) {
			route = route.DeepCopy()
			route.Spec.ParentRefs = refs
			out.GRPCRoutes = append(out.GRPCRoutes, route)
		}
	}
	return arranged(out)
}

// attached are the routes and rate limits of a Server.
func attached(w oracle.World, namespace, server string) []named {
	var out []named
	refers := func(own string, refs []api.ParentReference) bool {
		return slices.ContainsFunc(refs, func(ref api.ParentReference) bool {
			return value(ref.Kind) == api.ServerKind && parent(ref, own) == namespace+"/"+server
		})
	}
	for _, route := range w.HTTPRoutes {
		if refers(route.Namespace, route.Spec.ParentRefs) {
			out = append(out, named{route.GroupVersionKind().Group, api.HTTPRouteKind, route.Namespace, route.Name})
		}
	}
	for _, route := range w.GRPCRoutes {
		if refers(route.Namespace, route.Spec.ParentRefs) {
			out = append(out, named{route.GroupVersionKind().Group, api.GRPCRouteKind, route.Namespace, route.Name})
		}
	}
	for _, limit := range w.RateLimits {
		if limit.Namespace == namespace && limit.Spec.TargetRef.Name == server {
			out = append(out, named{limit.GroupVersionKind().Group, api.HTTPLocalRateLimitPolicyKind, limit.Namespace, limit.Name})
		}
	}
	return out
}
