package index

// HTTPRoute tells requests apart. Its authorizations are those that it adds to
// the Server's (W-14, X-48).
type HTTPRoute struct {
	Reference      Reference
	Authorizations []Authorization
	// Hosts is empty when the route is for all hosts.
	Hosts []HostMatch
	// Rules is empty when the route matches nothing.
	Rules []HTTPRule
}

// HostMatch is a host name in lower case, or what must follow at least one
// further label when Suffix is set (H-12).
type HostMatch struct {
	Name   string
	Suffix bool
}

// HTTPRule is some matches, one of which must hold, and what is done then.
type HTTPRule struct {
	Matches []HTTPMatch
	Filters []Filter
}

// HTTPMatch holds when all that is given holds (H-14).
type HTTPMatch struct {
	Path                 PathMatch
	Headers, QueryParams []ValueMatch
	// Method is empty when every method is meant.
	Method string
}

// PathMatch compares a path (H-13).
type PathMatch struct {
	Kind  MatchKind
	Value string
}

// MatchKind enumerates how a path is compared.
type MatchKind string

// The ways to compare a path.
const (
	Exact  MatchKind = "exact"
	Prefix MatchKind = "prefix"
	Regex  MatchKind = "regex"
)

// ValueMatch compares a header or a query parameter, exactly unless Regex is set.
type ValueMatch struct {
	Name, Value string
	Regex       bool
}

// GRPCRoute tells gRPC calls apart; else it is as an HTTPRoute.
type GRPCRoute struct {
	Reference      Reference
	Authorizations []Authorization
	Hosts          []HostMatch
	Rules          []GRPCRule
}

// GRPCRule is some matches, one of which must hold, and what is done then. Its
// filters only modify headers.
type GRPCRule struct {
	Matches []GRPCMatch
	Filters []Filter
}

// GRPCMatch holds when all that is given holds.
type GRPCMatch struct {
	// RPC is nil for the one match that proxies refuse.
	RPC     *RPCMatch
	Headers []ValueMatch
}

// RPCMatch compares service and method; what is empty matches all.
type RPCMatch struct{ Service, Method string }

// Filter is what is done with a request: exactly one field is set.
type Filter struct {
	Headers  *HeaderModifier
	Redirect *Redirect
}

// HeaderModifier edits the request's headers.
type HeaderModifier struct {
	Add, Set []Header
	Remove   []string
}

// Header is one header field.
type Header struct{ Name, Value string }

// Redirect answers the request. What is empty or zero stays as the request had
// it.
type Redirect struct {
	Scheme, Host string
	// Path replaces the whole path, or with PrefixOnly the part that the rule's
	// prefix matched; it is nil when the path stays.
	Path       *string
	PrefixOnly bool
	Port       uint16
	Status     uint32
}

// RateLimit bounds the requests per second that each proxy lets through. A limit
// of zero is none.
type RateLimit struct {
	Reference       Reference
	Total, Identity uint32
	Overrides       []RateOverride
}

// RateOverride is one limit that the named clients share.
type RateOverride struct {
	Limit      uint32
	Identities []string
}
