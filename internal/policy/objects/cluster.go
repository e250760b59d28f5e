package objects

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// PolicyKinds lists the kinds of policy objects and routes, sorted. On a cluster
// some may be unknown.
func PolicyKinds() []schema.GroupKind {
	var kinds []schema.GroupKind
	for kind := range definitions() {
		kinds = append(kinds, kind)
	}
	slices.SortFunc(kinds, func(a, b schema.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	return kinds
}

// Join adds the objects of another world.
func Join(world *oracle.World, other oracle.World) {
	world.Namespaces = append(world.Namespaces, other.Namespaces...)
	world.Servers = append(world.Servers, other.Servers...)
	world.ServerAuthorizations = append(world.ServerAuthorizations, other.ServerAuthorizations...)
	world.AuthorizationPolicies = append(world.AuthorizationPolicies, other.AuthorizationPolicies...)
	world.MeshTLSAuthentications = append(world.MeshTLSAuthentications, other.MeshTLSAuthentications...)
	world.NetworkAuthentications = append(world.NetworkAuthentications, other.NetworkAuthentications...)
	world.HTTPRoutes = append(world.HTTPRoutes, other.HTTPRoutes...)
	world.GRPCRoutes = append(world.GRPCRoutes, other.GRPCRoutes...)
	world.RateLimits = append(world.RateLimits, other.RateLimits...)
}

// Keep adds an object of one of PolicyKinds, as a cluster has it, to a world. Of
// its metadata only that stays which rules are about.
func Keep(world *oracle.World, object *unstructured.Unstructured) error {
	into, keep := typed(object.GetKind())
	fields := runtime.DeepCopyJSON(object.Object)
	delete(fields, "status")
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, into); err != nil {
		return fmt.Errorf("understand %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	if meta, ok := into.(metav1.Object); ok {
		meta.SetManagedFields(nil)
		meta.SetResourceVersion("")
		meta.SetUID("")
		meta.SetGeneration(0)
	}
	keep(world)
	return nil
}
