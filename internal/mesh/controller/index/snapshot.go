package index

import (
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/revision"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// InboundServer is the whole policy of one pod port. It is a value: nobody
// changes one that has been published, and two are the same policy exactly when
// Equal says so.
type InboundServer struct {
	// Reference says where the policy comes from.
	Reference Reference
	Protocol  Protocol
	// Authorizations hold for every connection and request on the port; any one
	// suffices. Loopback is not among them: the proxy adds it (H-20).
	Authorizations []Authorization
	// HTTPRoutes is empty unless the protocol is HTTP-capable, GRPCRoutes unless
	// it is gRPC. They are the accepted routes of the Server, oldest first,
	// or the built-in ones, of which "default" is the first (W-17).
	HTTPRoutes []HTTPRoute
	GRPCRoutes []GRPCRoute
	// RateLimit is nil unless the protocol is HTTP-capable and the Server has an
	// accepted limit.
	RateLimit *RateLimit
}

// Equal compares whole values.
func (s *InboundServer) Equal(other *InboundServer) bool { return reflect.DeepEqual(s, other) }

// Reference names a resource, or a built-in policy when its kind is Default.
type Reference struct {
	Kind Kind
	Name string
}

// Kind is what a Reference refers to.
type Kind string

// The kinds that a policy's parts may come from. Those of the Gateway API are
// written with their group, as in KIND.GROUP.
const (
	Default             Kind = "default"
	Server              Kind = "server"
	ServerAuthorization Kind = "serverauthorization"
	AuthorizationPolicy Kind = "authorizationpolicy"
	PolicyHTTPRoute     Kind = api.HTTPRouteKind
	GatewayHTTPRoute    Kind = api.HTTPRouteKind + "." + api.GatewayGroup
	GatewayGRPCRoute    Kind = api.GRPCRouteKind + "." + api.GatewayGroup
	RateLimitPolicy     Kind = api.HTTPLocalRateLimitPolicyKind
)

// RouteKinds lists the kinds of routes.
func RouteKinds() []Kind { return []Kind{PolicyHTTPRoute, GatewayHTTPRoute, GatewayGRPCRoute} }

// GroupKind returns the API group and the kind as proxies are told them: routes
// and rate limits in manifest spelling, the others in lower case (M-01 to M-03).
// What is built in has no group.
func (k Kind) GroupKind() (group, kind string) {
	if k == Default {
		return "", string(k)
	}
	if kind, group, qualified := strings.Cut(string(k), "."); qualified {
		return group, kind
	}
	return api.Group, string(k)
}

// Names of built-in parts.
const (
	DefaultRoute = "default"
	ProbeRoute   = "probe"
)

// Protocol is what the proxy expects on a port.
type Protocol struct {
	Kind ProtocolKind
	// DetectTimeout is set for Detect and zero for all others.
	DetectTimeout time.Duration
}

// DetectTimeout is how long a proxy may take to find out the protocol (W-20).
const DetectTimeout = 10 * time.Second

// ProtocolKind enumerates the protocols of a port.
type ProtocolKind string

// The protocols; their names are used in logs only.
const (
	Detect ProtocolKind = "detect"
	HTTP1  ProtocolKind = "http1"
	HTTP2  ProtocolKind = "http2"
	GRPC   ProtocolKind = "grpc"
	Opaque ProtocolKind = "opaque"
	TLS    ProtocolKind = "tls"
)

// httpCapable reports whether HTTP routes can apply to the protocol.
func (k ProtocolKind) httpCapable() bool { return k == Detect || k == HTTP1 || k == HTTP2 }

// Authorization admits clients from Networks that fulfil Authentication.
type Authorization struct {
	Reference Reference
	// Networks is never empty: proxies reject a message with an empty list (W-10).
	Networks       []Network
	Authentication Authentication
}

// Network is an address range less some of its parts. Host bits are zero.
type Network struct {
	Prefix netip.Prefix
	Except []netip.Prefix
}

// Authentication is what a client must have shown.
type Authentication struct {
	Kind AuthenticationKind
	// Identities and Suffixes are set for Identified only; one match suffices. A
	// suffix without labels matches every identity.
	Identities []string
	Suffixes   [][]string
}

// AuthenticationKind enumerates what a client can be asked for.
type AuthenticationKind string

// The authentication kinds, from the widest to the narrowest.
const (
	Unauthenticated    AuthenticationKind = "unauthenticated"
	TLSUnauthenticated AuthenticationKind = "tls-unauthenticated"
	Identified         AuthenticationKind = "identified"
)

// Snapshot is one published InboundServer. Pods whose ports have the same policy
// share it.
type Snapshot struct {
	Server InboundServer

	once    sync.Once
	derived any
}

// Published is a snapshot and what the index was of when it was published. It is
// shared by many watches.
type Published struct {
	Snapshot *Snapshot
	// Stamp is nil where nobody has told the index what it is of.
	Stamp *Stamp
}

// Stamp says what an index was computed from.
type Stamp struct {
	Revision revision.Revision

	once    sync.Once
	derived any
}

// Derive is Snapshot's, for a stamp.
func (s *Stamp) Derive(build func(revision.Revision) any) any {
	s.once.Do(func() { s.derived = build(s.Revision) })
	return s.derived
}

// Derive returns what build makes of the server, made at most once for all who
// hold the snapshot; every caller must pass the same function. It is how one
// encoded message is shared between the streams of many proxies.
func (s *Snapshot) Derive(build func(*InboundServer) any) any {
	s.once.Do(func() { s.derived = build(&s.Server) })
	return s.derived
}
