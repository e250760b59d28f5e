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

// watchedAs are the names by which controllers know what they watch.
var watchedAs = map[schema.GroupKind]string{
	{Kind: "Pod"}:                                              "pods",
	{Kind: "Namespace"}:                                        "namespaces",
	{Group: api.Group, Kind: api.ServerKind}:                   api.Servers.Resource,
	{Group: api.Group, Kind: api.ServerAuthorizationKind}:      api.ServerAuthorizations.Resource,
	{Group: api.Group, Kind: api.AuthorizationPolicyKind}:      api.AuthorizationPolicies.Resource,
	{Group: api.Group, Kind: api.MeshTLSAuthenticationKind}:    api.MeshTLSAuthentications.Resource,
	{Group: api.Group, Kind: api.NetworkAuthenticationKind}:    api.NetworkAuthentications.Resource,
	{Group: api.Group, Kind: api.HTTPLocalRateLimitPolicyKind}: api.HTTPLocalRateLimitPolicies.Resource,
	{Group: api.Group, Kind: api.HTTPRouteKind}:                api.HTTPRoutes.Resource,
	{Group: api.GatewayGroup, Kind: api.HTTPRouteKind}:         api.GatewayHTTPRoutes.GroupResource().String(),
	{Group: api.GatewayGroup, Kind: api.GRPCRouteKind}:         api.GatewayGRPCRoutes.GroupResource().String(),
}

// isPolicy says whether writes of a kind are waited for, and deletions followed.
func isPolicy(kind schema.GroupKind) bool {
	return slices.ContainsFunc(policies, func(p schema.GroupVersionKind) bool { return p.GroupKind() == kind })
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
