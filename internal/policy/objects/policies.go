package objects

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// policy takes in a policy object or route.
func (o *object) policy(gv schema.GroupVersion, d *definition, options Options) {
	version, err := d.version(gv.Version)
	if err != nil {
		o.problem(o.place, "%s: %v", o, err)
		return
	}
	if version == nil {
		served, err := d.serves()
		if err != nil {
			o.problem(o.place, "%s: %v", o, err)
			return
		}
		o.problem(o.line("apiVersion"), "%s: %s is not served in version %s, but in %s", o, o.kind, gv.Version, strings.Join(served, ", "))
		return
	}
	unknown, wrong := version.complete(o.fields)
	for _, found := range append(unknown, wrong...) {
		o.problem(o.line(found.path), "%s: %s", o, found.text)
	}
	if len(wrong) > 0 {
		return
	}
	(&unstructured.Unstructured{Object: o.fields}).SetNamespace(o.namespace)
	into, keep := typed(o.kind)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.fields, into); err != nil {
		o.problem(o.place, "%s: %v", o, err)
		return
	}
	if !options.WebhookAway {
		for _, found := range refusals(into) {
			o.problem(o.line(found.path), "%s: %s", o, found.text)
		}
	}
	o.keep = func(r *reader) {
		r.set.Policies++
		r.set.Written = append(r.set.Written, Named{o.group, o.kind, o.namespace, o.name, o.place})
		keep(&r.set.World)
	}
}

// typed is an empty object of the kind, and how it is kept once it is filled.
func typed(kind string) (into any, keep func(*oracle.World)) {
	switch kind {
	case api.ServerKind:
		return slot(func(w *oracle.World) *[]*api.Server { return &w.Servers })
	case api.ServerAuthorizationKind:
		return slot(func(w *oracle.World) *[]*api.ServerAuthorization { return &w.ServerAuthorizations })
	case api.AuthorizationPolicyKind:
		return slot(func(w *oracle.World) *[]*api.AuthorizationPolicy { return &w.AuthorizationPolicies })
	case api.MeshTLSAuthenticationKind:
		return slot(func(w *oracle.World) *[]*api.MeshTLSAuthentication { return &w.MeshTLSAuthentications })
	case api.NetworkAuthenticationKind:
		return slot(func(w *oracle.World) *[]*api.NetworkAuthentication { return &w.NetworkAuthentications })
	case api.HTTPLocalRateLimitPolicyKind:
		return slot(func(w *oracle.World) *[]*api.HTTPLocalRateLimitPolicy { return &w.RateLimits })
	case api.HTTPRouteKind:
		return slot(func(w *oracle.World) *[]*api.HTTPRoute { return &w.HTTPRoutes })
	case api.GRPCRouteKind:
		return slot(func(w *oracle.World) *[]*api.GRPCRoute { return &w.GRPCRoutes })
	}
	panic(fmt.Sprintf("there is a CRD of kind %s and no type", kind))
}

func slot[T any](list func(*oracle.World) *[]*T) (any, func(*oracle.World)) {
	object := new(T)
	return object, func(w *oracle.World) { *list(w) = append(*list(w), object) }
}
