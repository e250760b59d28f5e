package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// HTTPRoute tells apart the requests at the Servers (or other parents) that it
// is attached to. The kind exists in the groups policy.linkerd.io and
// gateway.networking.k8s.io; both are read into this type, which holds the
// union of the fields of all served versions (C-26, C-29).
//
// +kubebuilder:object:root=true
type HTTPRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HTTPRouteSpec `json:"spec"`
	// +optional
	Status RouteStatus `json:"status,omitempty"`
}

// HTTPRouteSpec says to what the route is attached and what it matches.
type HTTPRouteSpec struct {
	// What the route is attached to.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	ParentRefs []ParentReference `json:"parentRefs,omitempty"`
	// Hosts whose requests are meant, *. and a suffix allowed; all when absent.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Hostnames []Hostname `json:"hostnames,omitempty"`
	// A request is matched by the most specific rule of all routes. A route without rules matches nothing.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Rules []HTTPRouteRule `json:"rules,omitempty"`
}

// Hostname is a DNS name, or *. followed by one.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type Hostname string

// ParentReference names what a route is attached to. The kind has to be given:
// by default it is Gateway, which is nothing to inbound policy (C-27).
type ParentReference struct {
	// Group of the parent.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group *string `json:"group,omitempty"`
	// Kind of the parent: Server, for inbound policy.
	// +optional
	// +kubebuilder:default=Gateway
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind *string `json:"kind,omitempty"`
	// Namespace of the parent; a Server must be in the route's own.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace *string `json:"namespace,omitempty"`
	// Name of the parent.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Section of the parent; none for a Server.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SectionName *string `json:"sectionName,omitempty"`
	// Port of the parent; none for a Server.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// HTTPRouteRule is some matches, one of which must hold, and what is done with
// the requests.
type HTTPRouteRule struct {
	// Name of the rule, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name *string `json:"name,omitempty"`
	// One of these must hold; every path when absent.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:default={{path: {type: "PathPrefix", value: "/"}}}
	Matches []HTTPRouteMatch `json:"matches,omitempty"`
	// What is done with a request before it goes on.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Filters []HTTPRouteFilter `json:"filters,omitempty"`
	// Where requests go; without meaning on a route of a Server.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	BackendRefs []HTTPBackendReference `json:"backendRefs,omitempty"`
	// Time-outs; without meaning on a route of a Server.
	// +optional
	Timeouts *HTTPRouteTimeouts `json:"timeouts,omitempty"`
}

// HTTPRouteMatch holds when all that is given holds (H-14).
type HTTPRouteMatch struct {
	// The request's path.
	// +optional
	// +kubebuilder:default={type: "PathPrefix", value: "/"}
	Path *HTTPPathMatch `json:"path,omitempty"`
	// The request's headers, all of these.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Headers []HTTPValueMatch `json:"headers,omitempty"`
	// The parameters of the request's query, all of these.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	QueryParams []HTTPValueMatch `json:"queryParams,omitempty"`
	// The request's method.
	// +optional
	Method *HTTPMethod `json:"method,omitempty"`
}

// HTTPMethod is a method of HTTP.
// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;DELETE;CONNECT;OPTIONS;TRACE;PATCH
type HTTPMethod string

// MatchType says how a value is compared.
type MatchType string

// The ways to compare; PathPrefix is for paths alone.
const (
	MatchExact             MatchType = "Exact"
	MatchPathPrefix        MatchType = "PathPrefix"
	MatchRegularExpression MatchType = "RegularExpression"
)

// HTTPPathMatch compares a path (H-13).
type HTTPPathMatch struct {
	// How the path is compared.
	// +optional
	// +kubebuilder:default=PathPrefix
	// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
	Type *MatchType `json:"type,omitempty"`
	// What it is compared with.
	// +optional
	// +kubebuilder:default=/
	// +kubebuilder:validation:MaxLength=1024
	Value *string `json:"value,omitempty"`
}

// HTTPValueMatch compares a header or a parameter of the query.
type HTTPValueMatch struct {
	// How the value is compared.
	// +optional
	// +kubebuilder:default=Exact
	// +kubebuilder:validation:Enum=Exact;RegularExpression
	Type *MatchType `json:"type,omitempty"`
	// Name of the header, in any case, or of the parameter.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// What the value is compared with.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// FilterType says which field of a filter counts.
type FilterType string

// The filters of HTTP routes (X-55 says which work inbound).
const (
	FilterRequestHeaderModifier  FilterType = "RequestHeaderModifier"
	FilterResponseHeaderModifier FilterType = "ResponseHeaderModifier"
	FilterRequestMirror          FilterType = "RequestMirror"
	FilterRequestRedirect        FilterType = "RequestRedirect"
	FilterURLRewrite             FilterType = "URLRewrite"
	FilterExtensionRef           FilterType = "ExtensionRef"
)

// HTTPRouteFilter is what is done with a request or its answer.
type HTTPRouteFilter struct {
	// Which of the other fields counts.
	// +kubebuilder:validation:Enum=RequestHeaderModifier;ResponseHeaderModifier;RequestMirror;RequestRedirect;URLRewrite;ExtensionRef
	Type FilterType `json:"type"`
	// +optional
	RequestHeaderModifier *HeaderModifier `json:"requestHeaderModifier,omitempty"`
	// +optional
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier,omitempty"`
	// +optional
	RequestMirror *RequestMirror `json:"requestMirror,omitempty"`
	// +optional
	RequestRedirect *RequestRedirect `json:"requestRedirect,omitempty"`
	// +optional
	URLRewrite *URLRewrite `json:"urlRewrite,omitempty"`
	// +optional
	ExtensionRef *LocalTargetReference `json:"extensionRef,omitempty"`
}

// HeaderModifier edits headers.
type HeaderModifier struct {
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Set []HTTPHeader `json:"set,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Add []HTTPHeader `json:"add,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Remove []string `json:"remove,omitempty"`
}

// HTTPHeader is a header's name and value.
type HTTPHeader struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value"`
}

// RequestMirror sends a copy elsewhere; a route with it is ignored inbound.
type RequestMirror struct {
	BackendRef BackendReference `json:"backendRef"`
	// +optional
	Percent *int32 `json:"percent,omitempty"`
	// +optional
	Fraction *Fraction `json:"fraction,omitempty"`
}

// Fraction is a share of requests.
type Fraction struct {
	Numerator int32 `json:"numerator"`
	// +optional
	// +kubebuilder:default=100
	Denominator *int32 `json:"denominator,omitempty"`
}

// RequestRedirect answers instead of the application (N-05).
type RequestRedirect struct {
	// +optional
	// +kubebuilder:validation:Enum=http;https
	Scheme *string `json:"scheme,omitempty"`
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Hostname *string `json:"hostname,omitempty"`
	// +optional
	Path *HTTPPathModifier `json:"path,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
	// The answer's status.
	// +optional
	// +kubebuilder:default=302
	// +kubebuilder:validation:Enum=301;302
	StatusCode *int `json:"statusCode,omitempty"`
}

// URLRewrite edits the request's URL; a route with it is ignored inbound.
type URLRewrite struct {
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Hostname *string `json:"hostname,omitempty"`
	// +optional
	Path *HTTPPathModifier `json:"path,omitempty"`
}

// HTTPPathModifier replaces a path or the part of it that matched.
type HTTPPathModifier struct {
	// +kubebuilder:validation:Enum=ReplaceFullPath;ReplacePrefixMatch
	Type string `json:"type"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReplaceFullPath *string `json:"replaceFullPath,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
}

// BackendReference names where requests go.
type BackendReference struct {
	// +optional
	// +kubebuilder:default=""
	// +kubebuilder:validation:MaxLength=253
	Group *string `json:"group,omitempty"`
	// +optional
	// +kubebuilder:default=Service
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind *string `json:"kind,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace *string `json:"namespace,omitempty"`
	// Port of a Service, which needs one.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// HTTPBackendReference is a backend with its share of the requests.
type HTTPBackendReference struct {
	BackendReference `json:",inline"`
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Filters []HTTPRouteFilter `json:"filters,omitempty"`
}

// HTTPRouteTimeouts are durations as in 10s or 1m30s.
type HTTPRouteTimeouts struct {
	// +optional
	Request *string `json:"request,omitempty"`
	// +optional
	BackendRequest *string `json:"backendRequest,omitempty"`
}

// RouteStatus says of each parent whether the route is attached to it (S-04).
type RouteStatus struct {
	// +kubebuilder:validation:MaxItems=32
	Parents []RouteParentStatus `json:"parents"`
}

// RouteParentStatus is one controller's word about one parent.
type RouteParentStatus struct {
	ParentRef ParentReference `json:"parentRef"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ControllerName string `json:"controllerName"`
	// +optional
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// GRPCRoute is to gRPC Servers what an HTTPRoute is to the others.
//
// +kubebuilder:object:root=true
type GRPCRoute struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec GRPCRouteSpec `json:"spec"`
	// +optional
	Status RouteStatus `json:"status,omitempty"`
}

// GRPCRouteSpec says to what the route is attached and what it matches.
type GRPCRouteSpec struct {
	// What the route is attached to.
	// +optional
	// +kubebuilder:validation:MaxItems=32
	ParentRefs []ParentReference `json:"parentRefs,omitempty"`
	// Hosts whose calls are meant, *. and a suffix allowed; all when absent.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Hostnames []Hostname `json:"hostnames,omitempty"`
	// A call is matched by the most specific rule of all routes.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Rules []GRPCRouteRule `json:"rules,omitempty"`
}

// GRPCRouteRule is some matches, one of which must hold.
type GRPCRouteRule struct {
	// Name of the rule, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name *string `json:"name,omitempty"`
	// One of these must hold; every call when absent.
	// +optional
	// +kubebuilder:validation:MaxItems=8
	Matches []GRPCRouteMatch `json:"matches,omitempty"`
	// What is done with a call before it goes on.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Filters []GRPCRouteFilter `json:"filters,omitempty"`
	// Where calls go; without meaning on a route of a Server.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	BackendRefs []GRPCBackendReference `json:"backendRefs,omitempty"`
}

// GRPCRouteMatch holds when all that is given holds (H-17).
type GRPCRouteMatch struct {
	// The service and method that are called; any when absent.
	// +optional
	Method *GRPCMethodMatch `json:"method,omitempty"`
	// The call's headers, all of these.
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Headers []HTTPValueMatch `json:"headers,omitempty"`
}

// GRPCMethodMatch compares service and method, case-sensitively.
type GRPCMethodMatch struct {
	// How they are compared; regular expressions are refused.
	// +optional
	// +kubebuilder:default=Exact
	// +kubebuilder:validation:Enum=Exact;RegularExpression
	Type *MatchType `json:"type,omitempty"`
	// Service with its package; any when absent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Service *string `json:"service,omitempty"`
	// Method; any when absent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Method *string `json:"method,omitempty"`
}

// GRPCRouteFilter is what is done with a call or its answer.
type GRPCRouteFilter struct {
	// Which of the other fields counts.
	// +kubebuilder:validation:Enum=RequestHeaderModifier;ResponseHeaderModifier;RequestMirror;ExtensionRef
	Type FilterType `json:"type"`
	// +optional
	RequestHeaderModifier *HeaderModifier `json:"requestHeaderModifier,omitempty"`
	// +optional
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier,omitempty"`
	// +optional
	RequestMirror *RequestMirror `json:"requestMirror,omitempty"`
	// +optional
	ExtensionRef *LocalTargetReference `json:"extensionRef,omitempty"`
}

// GRPCBackendReference is a backend with its share of the calls.
type GRPCBackendReference struct {
	BackendReference `json:",inline"`
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Weight *int32 `json:"weight,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Filters []GRPCRouteFilter `json:"filters,omitempty"`
}
