package engine

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// policies are the kinds of policy; of two with one name the mesh's own comes
// first.
var policies = []schema.GroupVersionKind{
	api.Servers.GroupVersion().WithKind(api.ServerKind),
	api.ServerAuthorizations.GroupVersion().WithKind(api.ServerAuthorizationKind),
	api.AuthorizationPolicies.GroupVersion().WithKind(api.AuthorizationPolicyKind),
	api.MeshTLSAuthentications.GroupVersion().WithKind(api.MeshTLSAuthenticationKind),
	api.NetworkAuthentications.GroupVersion().WithKind(api.NetworkAuthenticationKind),
	api.HTTPLocalRateLimitPolicies.GroupVersion().WithKind(api.HTTPLocalRateLimitPolicyKind),
	api.HTTPRoutes.GroupVersion().WithKind(api.HTTPRouteKind),
	api.GatewayHTTPRoutes.GroupVersion().WithKind(api.HTTPRouteKind),
	api.GatewayGRPCRoutes.GroupVersion().WithKind(api.GRPCRouteKind),
}

// kindOf resolves the kind that a scenario names, KIND or KIND.GROUP: those of
// policies, of apps and of core.
func kindOf(kind string) schema.GroupVersionKind {
	name, group, qualified := strings.Cut(kind, ".")
	at := slices.IndexFunc(policies, func(p schema.GroupVersionKind) bool { return p.Kind == name && (!qualified || p.Group == group) })
	if at >= 0 {
		return policies[at]
	}
	switch name {
	case "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet":
		return schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: name}
	}
	return schema.GroupVersionKind{Group: group, Version: "v1", Kind: name}
}
