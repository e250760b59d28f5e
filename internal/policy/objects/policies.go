package objects

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// policy takes in a policy object or route.
func (r *reader) policy(o *object, gv schema.GroupVersion, d *definition) {
	version, err := d.version(gv.Version)
	if err != nil {
		r.problem(o.place, "%s: %v", o, err)
		return
	}
	if version == nil {
		served, err := d.serves()
		if err != nil {
			r.problem(o.place, "%s: %v", o, err)
			return
		}
		r.problem(o.line("apiVersion"), "%s: %s is not served in version %s, but in %s", o, o.Kind, gv.Version, strings.Join(served, ", "))
		return
	}
	before := len(r.problems)
	unknown, wrong := version.complete(o.fields)
	for _, found := range append(unknown, wrong...) {
		r.problem(o.line(found.path), "%s: %s", o, found.text)
	}
	if len(wrong) > 0 {
		return
	}
	(&unstructured.Unstructured{Object: o.fields}).SetNamespace(o.Metadata.Namespace)
	into, keep := r.typed(o.Kind)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.fields, into); err != nil {
		r.problem(o.place, "%s: %v", o, err)
		return
	}
	if !r.options.WebhookAway {
		for _, found := range refusals(into) {
			r.problem(o.line(found.path), "%s: %s", o, found.text)
		}
	}
	if len(r.problems) == before {
		r.set.Policies++
		keep()
	}
}

// typed is an empty object of the kind, and how it is kept once it is filled.
func (r *reader) typed(kind string) (into any, keep func()) {
	w := &r.set.World
	switch kind {
	case api.ServerKind:
		return slot(&w.Servers)
	case api.ServerAuthorizationKind:
		return slot(&w.ServerAuthorizations)
	case api.AuthorizationPolicyKind:
		return slot(&w.AuthorizationPolicies)
	case api.MeshTLSAuthenticationKind:
		return slot(&w.MeshTLSAuthentications)
	case api.NetworkAuthenticationKind:
		return slot(&w.NetworkAuthentications)
	case api.HTTPLocalRateLimitPolicyKind:
		return slot(&w.RateLimits)
	case api.HTTPRouteKind:
		return slot(&w.HTTPRoutes)
	case api.GRPCRouteKind:
		return slot(&w.GRPCRoutes)
	}
	panic(fmt.Sprintf("there is a CRD of kind %s and no type", kind))
}

func slot[T any](list *[]*T) (any, func()) {
	object := new(T)
	return object, func() { *list = append(*list, object) }
}
