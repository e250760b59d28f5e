package oracle

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// World is everything that policy depends on besides the pod and the client.
// The zero value is a cluster without policies; see DefaultSettings.
type World struct {
	Settings   Settings
	Namespaces []*corev1.Namespace
	// Origins tell of pods that run, by namespace/name, how they were asked for.
	// What is known of a pod counts before what the injector made of it, so that
	// the injector is judged too.
	Origins map[string]Origin `json:",omitempty"`

	Servers                []*api.Server
	ServerAuthorizations   []*api.ServerAuthorization
	AuthorizationPolicies  []*api.AuthorizationPolicy
	MeshTLSAuthentications []*api.MeshTLSAuthentication
	NetworkAuthentications []*api.NetworkAuthentication
	// HTTPRoutes are of both groups; their apiVersion tells which.
	HTTPRoutes []*api.HTTPRoute
	GRPCRoutes []*api.GRPCRoute
	RateLimits []*api.HTTPLocalRateLimitPolicy
}

// Origin is how a pod was asked for.
type Origin struct {
	// Pod as its manifest or template had it, and the namespace and the settings of
	// that moment.
	Pod       *corev1.Pod
	Namespace *corev1.Namespace
	Settings  Settings
	// Annotations that the pod had when it was created; what differs from them was
	// edited later.
	Annotations map[string]string
}

// Settings are those of the mesh's installation.
type Settings struct {
	DefaultPolicy   api.PolicyName
	ClusterNetworks []netip.Prefix
	// ProbeNetworks are where probes may come from; none means no probe routes (D-05).
	ProbeNetworks         []netip.Prefix
	ControlPlaneNamespace string
	TrustDomain           string
}

// DefaultSettings are those of an installation without options (D-03 to D-05, X-70).
func DefaultSettings() Settings {
	return Settings{
		DefaultPolicy: api.AllUnauthenticated,
		ClusterNetworks: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00::/8"),
		},
		ProbeNetworks:         everywhere(),
		ControlPlaneNamespace: "linkerd",
		TrustDomain:           "cluster.local",
	}
}

func everywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// Way is how a client comes to the port.
type Way string

// The ways. Only Meshed and MeshedDirect have an identity.
const (
	// Plain: without TLS, or with nothing that a proxy would look into.
	Plain Way = "plain"
	// Meshed: through a proxy of its own, which sends the transport header (T-30).
	Meshed Way = "meshed"
	// MeshedDirect: with mesh TLS to the redirected port itself (T-30).
	MeshedDirect Way = "meshed-direct"
	// TLSNoIdentity: mesh TLS without a client certificate (I-03).
	TLSNoIdentity Way = "tls-no-identity"
	// ForeignRoot: mesh TLS with a certificate that no trust anchor has signed (I-02).
	ForeignRoot Way = "foreign-root"
	// ForeignTLS: TLS that is meant for the application (T-13).
	ForeignTLS Way = "foreign-tls"
)

// Ways lists all of them; tables derive from it.
func Ways() []Way {
	return []Way{Plain, Meshed, MeshedDirect, TLSNoIdentity, ForeignRoot, ForeignTLS}
}

// Client is who calls.
type Client struct {
	Way Way
	// Address is the TCP peer's, as the pod sees it (T-05).
	Address netip.Addr
	// Identity is the name in the client's certificate: DNS or SPIFFE.
	Identity string
	// Self says that the client is the pod that is called (B-02).
	Self bool
}

// Protocol is what a client speaks.
type Protocol string

// The protocols.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2"
	GRPC  Protocol = "grpc"
	// TCP: the client speaks first, and not HTTP.
	TCP Protocol = "tcp"
	// Silent: the client says nothing, or waits for the server to speak.
	Silent Protocol = "tcp-silent"
)

// Protocols lists all of them; tables derive from it.
func Protocols() []Protocol { return []Protocol{HTTP1, HTTP2, GRPC, TCP, Silent} }

// HTTP reports whether p is some version of HTTP.
func (p Protocol) HTTP() bool { return p == HTTP1 || p == HTTP2 || p == GRPC }

// Request is what is asked. The zero values of the fields of HTTP are GET /.
type Request struct {
	Protocol Protocol
	Method   string
	// Path with its query, or /package.Service/Method.
	Path string
	// Host is the authority; a route without hostnames does not care.
	Host string
	// Headers by their names in any case.
	Headers map[string]string
	// Dribbled: the first segment holds fewer than 14 bytes (T-21).
	Dribbled bool
	// Announced is what the transport header says of a client that writes its own;
	// empty for one that has none, or whose proxy decides (T-36).
	Announced Announcement
}

// Announcement is what a transport header that the client has written itself
// says of what is spoken.
type Announcement string

// The announcements.
const (
	AnnouncesNothing Announcement = "nothing"
	AnnouncesHTTP    Announcement = "http"
)

// Outcome is what becomes of a request: a closed set, listed by Outcomes.
type Outcome string

// The outcomes.
const (
	// Delivered to the application.
	Delivered Outcome = "delivered"
	// Unpoliced: delivered, past any policy (D-19, D-21).
	Unpoliced Outcome = "unpoliced"
	// Redirected: allowed, and answered by the proxy with another location (N-05).
	Redirected Outcome = "redirected"
	// Forbidden: HTTP 403 (N-01).
	Forbidden Outcome = "http-403"
	// PermissionDenied: gRPC status 7 in HTTP 200 (N-02).
	PermissionDenied Outcome = "grpc-7"
	// NotFound: HTTP 404 (N-03).
	NotFound Outcome = "http-404"
	// GRPCNotFound: gRPC status 5 (N-03, and N-05 for a redirect of gRPC).
	GRPCNotFound Outcome = "grpc-5"
	// Closed: the connection is accepted and closed without a byte (N-08).
	Closed Outcome = "closed"
	// HandshakeFailed: the TLS handshake fails (I-02).
	HandshakeFailed Outcome = "tls-failure"
	// ProtocolError: what is spoken is not what the port speaks (T-18, T-19).
	ProtocolError Outcome = "protocol-error"
	// BadRequest: HTTP 400, for a path that could mean two things.
	BadRequest Outcome = "http-400"
)

// Outcomes lists all of them; tables derive from it.
func Outcomes() []Outcome {
	return []Outcome{Delivered, Unpoliced, Redirected, Forbidden, PermissionDenied, NotFound, GRPCNotFound, Closed, HandshakeFailed, ProtocolError, BadRequest}
}

// Allowed reports whether policy lets the request through.
func (o Outcome) Allowed() bool { return o == Delivered || o == Unpoliced || o == Redirected }

// Label names a Server, a route or an authorization as metrics do (M-01 to M-03).
type Label struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
}

// String is kind/name.
func (l Label) String() string {
	if l.Kind == "" {
		return ""
	}
	return l.Kind + "/" + l.Name
}

// Step is one link of the chain: what a rule found.
type Step struct {
	// Topic is what was looked at: pod, server, default, route, authorization,
	// connection, answer, limit.
	Topic string `json:"topic"`
	// Rule is its ID in the rule book.
	Rule string `json:"rule"`
	// Holds says that what the step is about was found to hold.
	Holds bool   `json:"holds"`
	Text  string `json:"text"`
}

// Verdict is what becomes of a request and why.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Course is what the proxy made of the connection; empty where it came to none.
	Course Course `json:"course,omitempty"`
	// CourseRule is the rule that decided it.
	CourseRule string `json:"courseRule,omitempty"`
	// TLS is what metrics call the connection's TLS state (M-05).
	TLS string `json:"tls,omitempty"`
	// Status is the HTTP status that the proxy itself answers with, if it does.
	Status int `json:"status,omitempty"`
	// Server, Route and Authorization are those that decided; Route is empty
	// where no route is looked at, Authorization where nothing admits the client.
	Server        Label `json:"server,omitzero"`
	Route         Label `json:"route,omitzero"`
	Authorization Label `json:"authorization,omitzero"`
	// Fitting are all authorizations that admit the client. Which one gets the
	// credit is unspecified unless the dialect orders them.
	Fitting []Label `json:"fitting,omitempty"`
	// Logged says that the request is written to the log as audited (N-14).
	Logged bool `json:"logged,omitempty"`
	// Limits are those that the request counts against: it may be limited (N-04).
	Limits []Limit `json:"limits,omitempty"`
	Steps  []Step  `json:"steps"`
}

// Allowed reports whether policy lets the request through.
func (v Verdict) Allowed() bool { return v.Outcome.Allowed() }

// Limit is a rate that a request counts against.
type Limit struct {
	Policy Label `json:"policy"`
	// Scope is total, identity or override.
	Scope string `json:"scope"`
	// Entry is the override's place in its list.
	Entry             int   `json:"entry,omitempty"`
	RequestsPerSecond int64 `json:"requestsPerSecond"`
}
