// Package policy is the inbound policy of one port as a value, and the decisions
// that follow from it.
//
// A message of io.linkerd.proxy.inbound goes in (Parse); out comes an immutable
// Port, which answers two questions: may this request pass (Request), may this
// connection pass (Connection). Both are pure functions of the Port, the Client
// and the request head: no clock, no network, no lock. A granted question is
// answered with a Permit, the value that carries the names of server, route and
// authorization from here to metrics and decision records, so that neither can
// tell another reason than the one that counted.
//
// It refuses: a message that it does not understand in full (the caller keeps
// the last good one), and, by construction, every client that no authorization
// names.
package policy

import (
	"net/netip"
	"time"
)

// Protocol is how connections to a port are treated.
type Protocol uint8

// The protocols of a Server, in the order of the API's numbers (W-07).
const (
	Detect Protocol = iota
	Opaque
	TLS
	HTTP1
	HTTP2
	GRPC
)

// Protocols lists every Protocol, for tables that must have a row for each.
var Protocols = []Protocol{Detect, Opaque, TLS, HTTP1, HTTP2, GRPC}

// String returns the name used in logs and on the control port.
func (p Protocol) String() string {
	switch p {
	case Detect:
		return "detect"
	case Opaque:
		return "opaque"
	case TLS:
		return "tls"
	case HTTP1:
		return "http1"
	case HTTP2:
		return "http2"
	case GRPC:
		return "grpc"
	}
	return "invalid"
}

// hasTCP tells whether connections that are not HTTP can be permitted at all:
// an HTTP-only protocol has no connection list (T-18, T-33).
func (p Protocol) hasTCP() bool { return p == Detect || p == Opaque || p == TLS }

// hasHTTP tells whether requests can be permitted (L-08, T-34).
func (p Protocol) hasHTTP() bool { return p == Detect || p == HTTP1 || p == HTTP2 || p == GRPC }

// Ref names an object or a built-in default in labels, logs and records (M-01 to M-03).
type Ref struct {
	Group, Kind, Name string
}

// String returns kind/name, as decision records and the authz table show it; "" for the zero Ref.
func (r Ref) String() string {
	if r == (Ref{}) {
		return ""
	}
	return r.Kind + "/" + r.Name
}

// Permit says by which authorization a request (or, without Route, a connection)
// may pass. Permits are made once per Port: equal pointers mean equal reasons.
type Permit struct {
	Server, Route, Authz Ref
	// Audit is set when the grant comes from the audit default: every use is logged (N-14).
	Audit bool
}

// Port is the policy of one port. It is never changed after Parse, but for the
// buckets of its rate limit.
type Port struct {
	// Hash is hex(sha256(deterministic marshal of the message)); "" for a Port that no message made.
	Hash string
	// Server is what selected the port, or the default policy.
	Server   Ref
	Protocol Protocol
	// DetectTimeout bounds HTTP detection; only with protocol Detect.
	DetectTimeout time.Duration

	dialect Dialect
	// permits are what the Server's authorizations and localhost grant to
	// connections; nil when nothing does.
	permits *permits
	routes  []*Route
	// pathSensitive: a named route looks at more of the path than "/", so that
	// requests are judged by their normalised path.
	pathSensitive bool
	// onlyDefaults: no route but the built-in ones, hence judging a connection
	// by the Server-level list is as strict as judging its requests.
	onlyDefaults bool
	// invalid: made of a message that was not understood; nothing is permitted (N-09).
	invalid bool
	limit   *RateLimit
}

// Client is what is known of a connection's peer. Nothing a header says is in it (T-05, I-07).
type Client struct {
	// Addr is the peer's address, IPv4-mapped forms reduced (T-04).
	Addr netip.AddrPort
	TLS  TLSState
	// Identity is the verified identity; "" when none was presented or nothing was terminated.
	Identity string
	// SNI is the server name of a TLS session that was not terminated.
	SNI string
}

// TLSState is what became of TLS on a connection.
type TLSState uint8

// The states, with the metric labels they get (M-05).
const (
	NoTLS       TLSState = iota // tls="no_identity", no_tls_reason="no_tls_from_remote"
	Loopback                    // tls="no_identity", no_tls_reason="loopback"
	PortSkipped                 // tls="no_identity", no_tls_reason="port_skipped"
	Terminated                  // tls="true", client_id if presented
	PassThrough                 // tls="opaque", sni
)

// TLSStates lists every TLSState, for tables that must have a row for each.
var TLSStates = []TLSState{NoTLS, Loopback, PortSkipped, Terminated, PassThrough}

// Verdict is the kind of answer.
type Verdict uint8

// The verdicts. The zero value denies.
const (
	Deny Verdict = iota
	Allow
	// NotFound: no route matches (N-03), or the port serves no HTTP (L-08, T-34).
	NotFound
	// Ambiguous: the path has no single meaning and the port's routes look at paths; answered 400.
	Ambiguous
	// Limited: over the rate limit; answered 429 (N-04).
	Limited
	// Redirect: the route's filter answers (N-05).
	Redirect
	// Fault: a filter that cannot be carried out; answered 500 (N-11, N-12).
	Fault
)

// Verdicts lists every Verdict, for tables that must have a row for each.
var Verdicts = []Verdict{Deny, Allow, NotFound, Ambiguous, Limited, Redirect, Fault}

// String returns the word used in decision records.
func (v Verdict) String() string {
	switch v {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	case NotFound:
		return "not-found"
	case Ambiguous:
		return "ambiguous"
	case Limited:
		return "limited"
	case Redirect:
		return "redirect"
	case Fault:
		return "fault"
	}
	return "invalid"
}

// Decision is the answer for one request.
type Decision struct {
	Verdict Verdict
	// Server is always set. Route is the chosen route, zero when none was.
	Server, Route Ref
	// Permit is set when an authorization matched, also if the filters or the rate
	// limit then answered instead of the application (M-11).
	Permit *Permit
	// Path is what the application is to see of an allowed request in the place of
	// Head.Path: the path in its one meaning. nil is the path as sent. It lies in Head.Scratch.
	Path []byte
	// Edits are the header filters to carry out on an allowed request; nil for none.
	Edits *Edits
	// Location and Status are the answer of a Redirect.
	Location string
	Status   int
	// LimitScope is total or identity when Limited.
	LimitScope string
}

// Connection decides on a connection that is not (known to be) HTTP.
func (p *Port) Connection(c Client) *Permit {
	if !p.Protocol.hasTCP() {
		return nil
	}
	return p.permits.of(c, p.dialect)
}

// HasTCP tells whether connections that are not HTTP can be permitted at all.
func (p *Port) HasTCP() bool { return p.Protocol.hasTCP() }

// OnlyDefaultRoutes tells that judging a connection by Connection is as strict as judging its requests would be.
func (p *Port) OnlyDefaultRoutes() bool { return p.onlyDefaults && p.limit == nil }
