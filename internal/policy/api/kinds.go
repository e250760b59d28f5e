package api

import "k8s.io/apimachinery/pkg/runtime/schema"

// GatewayGroup is the API group of the routes that are not Linkerd's own.
const GatewayGroup = "gateway.networking.k8s.io"

// The further kinds, as they are written in manifests and in references.
const (
	AuthorizationPolicyKind      = "AuthorizationPolicy"
	MeshTLSAuthenticationKind    = "MeshTLSAuthentication"
	NetworkAuthenticationKind    = "NetworkAuthentication"
	HTTPLocalRateLimitPolicyKind = "HTTPLocalRateLimitPolicy"
	HTTPRouteKind                = "HTTPRoute"
	GRPCRouteKind                = "GRPCRoute"
	ServiceAccountKind           = "ServiceAccount"
	NamespaceKind                = "Namespace"
)

// The further resources in their storage versions.
var (
	AuthorizationPolicies      = schema.GroupVersionResource{Group: Group, Version: "v1alpha1", Resource: "authorizationpolicies"}
	MeshTLSAuthentications     = schema.GroupVersionResource{Group: Group, Version: "v1alpha1", Resource: "meshtlsauthentications"}
	NetworkAuthentications     = schema.GroupVersionResource{Group: Group, Version: "v1alpha1", Resource: "networkauthentications"}
	HTTPLocalRateLimitPolicies = schema.GroupVersionResource{Group: Group, Version: "v1alpha1", Resource: "httplocalratelimitpolicies"}
	HTTPRoutes                 = schema.GroupVersionResource{Group: Group, Version: "v1beta3", Resource: "httproutes"}
	GatewayHTTPRoutes          = schema.GroupVersionResource{Group: GatewayGroup, Version: "v1", Resource: "httproutes"}
	GatewayGRPCRoutes          = schema.GroupVersionResource{Group: GatewayGroup, Version: "v1", Resource: "grpcroutes"}
)

// Resources lists the kinds whose CRDs are installed, in their storage versions
// and in the order of the rule book; tables derive from it.
func Resources() []schema.GroupVersionResource {
	return []schema.GroupVersionResource{Servers, ServerAuthorizations, AuthorizationPolicies, MeshTLSAuthentications, NetworkAuthentications,
		HTTPLocalRateLimitPolicies, HTTPRoutes, GatewayHTTPRoutes, GatewayGRPCRoutes}
}

// CRDName is the name of the definition of a resource.
func CRDName(resource schema.GroupVersionResource) string {
	return resource.Resource + "." + resource.Group
}

// More annotations and labels that alter inbound policy (rule book 4.2, 4.3).
const (
	InjectAnnotation           = "linkerd.io/inject"
	InjectEnabled              = "enabled"
	InjectDisabled             = "disabled"
	SkipInboundPortsAnnotation = "config.linkerd.io/skip-inbound-ports"
)

// The ports of the proxy itself, and the name of the one that serves metrics.
const (
	InboundPort   = 4143
	ControlPort   = 4190
	AdminPort     = 4191
	AdminPortName = "linkerd-admin"
)

// RouteControllerName is who writes the status of routes and rate limits (S-02).
const RouteControllerName = "linkerd.io/policy-controller"
