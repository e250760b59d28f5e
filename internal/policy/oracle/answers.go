package oracle

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// callLike reports whether the request counts as gRPC in N-02: HTTP/2 with a
// content type that says so, whatever the Server's protocol is.
func callLike(request Request) bool {
	if request.Protocol == GRPC {
		return true
	}
	return request.Protocol == HTTP2 && slices.ContainsFunc(headerValues(request, "content-type"), func(v string) bool {
		return strings.HasPrefix(v, "application/grpc")
	})
}

// DenialForm is N-01, N-02 and N-08: what an unauthorized request gets.
func DenialForm(request Request) Outcome {
	switch {
	case !request.Protocol.HTTP():
		return Closed
	case callLike(request):
		return PermissionDenied
	default:
		return Forbidden
	}
}

// NotFoundForm is N-03: what a request without a route gets.
func NotFoundForm(request Request) Outcome {
	if callLike(request) {
		return GRPCNotFound
	}
	return NotFound
}

// RedirectForm is N-05, with W-21 for a status that was never set: in the linkerd
// dialect that is 200.
func RedirectForm(request Request, redirect *api.RequestRedirect, dialect api.Dialect) (Outcome, int) {
	switch {
	case callLike(request):
		return GRPCNotFound, 200
	case redirect.StatusCode != nil:
		return Redirected, *redirect.StatusCode
	case dialect.QuirksRepaired:
		return Redirected, 302
	default:
		return Redirected, 200
	}
}

// statusOf is the HTTP status of what the proxy answers itself.
func statusOf(outcome Outcome) int {
	return map[Outcome]int{Forbidden: 403, PermissionDenied: 200, NotFound: 404, GRPCNotFound: 200, BadRequest: 400}[outcome]
}

// AdminLocal is B-06: some paths of the admin port are for the pod itself, in
// spite of any grant.
func AdminLocal(port uint16, path string, address netip.Addr) bool {
	local := []string{"/proxy-log-level", "/logs.json", "/shutdown"}
	return port == api.AdminPort && slices.Contains(local, path) && !address.IsLoopback()
}

// AdminSpeaks is B-05: the admin port closes what is not HTTP.
func AdminSpeaks(port uint16) bool { return port == api.AdminPort }

// Limitable is R-01: detect, HTTP/1 and HTTP/2 have limits.
func Limitable(p api.ProxyProtocol) bool {
	return p == api.ProtocolUnknown || p == api.ProtocolHTTP1 || p == api.ProtocolHTTP2
}

// OlderLimit is S-09 and R-02: of several on one Server the oldest is accepted,
// then the one whose name comes first.
func OlderLimit(a, b *api.HTTPLocalRateLimitPolicy) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// LimitsOf is: the total, and then either the override that
// names the client or the limit per identity.
func LimitsOf(p *api.HTTPLocalRateLimitPolicy, identity string, account func(namespace, name string) string) []Limit {
	label := Label{Group: api.Group, Kind: api.HTTPLocalRateLimitPolicyKind, Name: p.Name}
	var limits []Limit
	if p.Spec.Total != nil {
		limits = append(limits, Limit{Policy: label, Scope: "total", RequestsPerSecond: p.Spec.Total.RequestsPerSecond})
	}
	for entry, override := range p.Spec.Overrides {
		for _, ref := range override.ClientRefs {
			namespace := ref.Namespace
			if namespace == "" {
				namespace = p.Namespace
			}
			if identity != "" && account(namespace, ref.Name) == identity {
				return append(limits, Limit{Policy: label, Scope: "override", Entry: entry, RequestsPerSecond: override.RequestsPerSecond})
			}
		}
	}
	if p.Spec.Identity != nil {
		limits = append(limits, Limit{Policy: label, Scope: "identity", RequestsPerSecond: p.Spec.Identity.RequestsPerSecond})
	}
	return limits
}

// limit is the accepted policy of the Server, or nil.
func (o Oracle) limit(server *api.Server, protocol api.ProxyProtocol, steps *[]Step) *api.HTTPLocalRateLimitPolicy {
	var oldest *api.HTTPLocalRateLimitPolicy
	for _, p := range o.World.RateLimits {
		ref := p.Spec.TargetRef
		if p.Namespace != server.Namespace || !isPolicy(ref.Group, ref.Kind, api.ServerKind) || ref.Name != server.Name {
			continue
		}
		if !o.Rules.Limitable(protocol) {
			note(steps, "limit", "R-01", false, "HTTPLocalRateLimitPolicy %s has no meaning where the protocol is %s", p.Name, protocol)
			continue
		}
		if oldest == nil || o.Rules.OlderLimit(p, oldest) {
			oldest, p = p, oldest
		}
		if p != nil {
			note(steps, "limit", "S-09", false, "HTTPLocalRateLimitPolicy %s is not accepted: %s came first", p.Name, oldest.Name)
		}
	}
	return oldest
}
