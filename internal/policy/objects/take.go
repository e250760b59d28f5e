package objects

import (
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Take makes of one policy object or namespace of a world what it is in another
// one: there, changed or gone. It reports whether it knows the kind. The lists that
// it changes are new ones: a copy of the world stays as it is.
func Take(world *oracle.World, from oracle.World, kind, namespace, name string) bool {
	switch kind {
	case api.ServerKind:
		take(&world.Servers, from.Servers, namespace, name)
	case api.ServerAuthorizationKind:
		take(&world.ServerAuthorizations, from.ServerAuthorizations, namespace, name)
	case api.AuthorizationPolicyKind:
		take(&world.AuthorizationPolicies, from.AuthorizationPolicies, namespace, name)
	case api.MeshTLSAuthenticationKind:
		take(&world.MeshTLSAuthentications, from.MeshTLSAuthentications, namespace, name)
	case api.NetworkAuthenticationKind:
		take(&world.NetworkAuthentications, from.NetworkAuthentications, namespace, name)
	case api.HTTPRouteKind:
		take(&world.HTTPRoutes, from.HTTPRoutes, namespace, name)
	case api.GRPCRouteKind:
		take(&world.GRPCRoutes, from.GRPCRoutes, namespace, name)
	case api.HTTPLocalRateLimitPolicyKind:
		take(&world.RateLimits, from.RateLimits, namespace, name)
	case api.NamespaceKind:
		take(&world.Namespaces, from.Namespaces, "", name)
	default:
		return false
	}
	return true
}

func take[T interface {
	GetName() string
	GetNamespace() string
}](into *[]T, from []T, namespace, name string) {
	is := func(o T) bool { return o.GetName() == name && o.GetNamespace() == namespace }
	kept := slices.DeleteFunc(slices.Clone(*into), is)
	for _, o := range from {
		if is(o) {
			kept = append(kept, o)
		}
	}
	*into = kept
}
