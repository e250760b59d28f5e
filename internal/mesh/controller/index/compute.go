package index

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// defaultKey is all that the policy of a port without a Server depends on.
type defaultKey struct {
	policy api.PolicyName
	opaque bool
	probes string
}

// maxShared bounds the snapshots kept for sharing, of one Server and of ports
// without one. Beyond it the memory is dropped: it saves work and decides nothing.
const maxShared = 4096

// snapshot is the policy of the port as it follows from the specs. server is who
// decides on it, "" if nobody does.
func (x *Index) snapshot(ns *namespace, p *PodSpec, port uint16, server string) *Snapshot {
	probes := p.Probes[port]
	if s := ns.servers[server]; s != nil {
		if x.config.Dialect.ProbesNeedAuthorization {
			probes = nil
		}
		return share(s.shared, s.former, strings.Join(probes, "\n"), func() InboundServer { return x.selected(ns, server, s.spec, probes) })
	}
	key := defaultKey{x.defaultFor(p, port), p.OpaquePorts.Contains(port), strings.Join(probes, "\n")}
	return share(x.defaults, nil, key, func() InboundServer { return x.unselected(key.policy, key.opaque, probes) })
}

// share finds what is known or computes it; a former snapshot of the same policy
// is taken in its place.
func share[K comparable](known, former map[K]*Snapshot, key K, compute func() InboundServer) *Snapshot {
	if s := known[key]; s != nil {
		return s
	}
	if len(known) >= maxShared {
		clear(known)
	}
	s := &Snapshot{Server: compute()}
	if f := former[key]; f != nil && f.Server.Equal(&s.Server) {
		s = f
	}
	delete(former, key)
	known[key] = s
	return s
}

// winner is the name of the Server that decides for the port, "" if none does:
// of those that select it the first in order.
func (x *Index) winner(ns *namespace, p *PodSpec, port uint16) string {
	var winner string
	var best *ServerSpec
	for as := range portReferences(p, port) {
		for name := range ns.ways.selecting.matching(as, p.Labels) {
			spec := ns.servers[name].spec
			if spec.selectsPort(p, port, x.config.Dialect) && (best == nil || spec.before(name, best, winner)) {
				winner, best = name, spec
			}
		}
	}
	return winner
}

// unselected is the policy of a port that no Server selects.
func (x *Index) unselected(policy api.PolicyName, opaque bool, probes []string) InboundServer {
	server := InboundServer{
		Reference: Reference{Default, string(policy)}, Protocol: Protocol{Kind: Detect, DetectTimeout: DetectTimeout},
		Authorizations: x.config.builtinAuthorizations(policy),
	}
	if opaque {
		server.Protocol = Protocol{Kind: Opaque}
		return server
	}
	server.HTTPRoutes = x.config.httpRoutes(probes)
	return server
}

// defaultFor is the policy of a port that no Server selects.
func (x *Index) defaultFor(p *PodSpec, port uint16) api.PolicyName {
	policy := p.DefaultPolicy
	if policy == "" {
		policy = x.config.defaultPolicy()
	}
	if p.IdentityPorts.Contains(port) {
		policy = requiringIdentity(policy)
	}
	return policy
}

// selected is the policy of ports that the Server decides on. Accepted routes
// take the place of the built-in ones; those of the wrong kind for the protocol
// count for nothing.
func (x *Index) selected(ns *namespace, name string, spec *ServerSpec, probes []string) InboundServer {
	server := InboundServer{Reference: Reference{Server, name}, Protocol: spec.Protocol, Authorizations: x.authorizations(ns, name, spec)}
	switch {
	case spec.Protocol.Kind.httpCapable():
		for ref, route := range ns.routesOn(name, true) {
			server.HTTPRoutes = append(server.HTTPRoutes, HTTPRoute{ref, x.routeAuthorizations(ns, ref, spec, route), route.Hosts, route.HTTP})
		}
		if len(server.HTTPRoutes) == 0 {
			server.HTTPRoutes = x.config.httpRoutes(probes)
		}
		server.RateLimit = ns.limitOn(name)
	case spec.Protocol.Kind == GRPC:
		for ref, route := range ns.routesOn(name, false) {
			server.GRPCRoutes = append(server.GRPCRoutes, GRPCRoute{ref, x.routeAuthorizations(ns, ref, spec, route), route.Hosts, route.GRPC})
		}
		if len(server.GRPCRoutes) == 0 {
			server.GRPCRoutes = grpcRoutes()
		}
	}
	return server
}

// authorizations are those on the Server, by name, and then what its own access
// policy grants.
func (x *Index) authorizations(ns *namespace, name string, server *ServerSpec) []Authorization {
	if server.Closed {
		return nil
	}
	var granted []Authorization
	for authorizationName, spec := range ns.grantsOn(name, server) {
		if !spec.usable() {
			continue
		}
		if authorization, ok := spec.authorization(authorizationName, x.config); ok {
			granted = append(granted, authorization)
		}
	}
	granted = x.policiesOn(granted, ns, target{Server, name})
	granted = x.policiesOn(granted, ns, target{kind: namespaceTarget})
	inOrder(granted)
	return append(granted, x.config.builtinAuthorizations(server.AccessPolicy)...)
}

// routeAuthorizations are those that the route adds to the Server's.
func (x *Index) routeAuthorizations(ns *namespace, ref Reference, server *ServerSpec, route *RouteSpec) []Authorization {
	if server.Closed || route.Closed {
		return nil
	}
	granted := x.policiesOn(nil, ns, target{ref.Kind, ref.Name})
	inOrder(granted)
	return granted
}

// policiesOn adds what the AuthorizationPolicies on the target grant.
func (x *Index) policiesOn(granted []Authorization, ns *namespace, on target) []Authorization {
	for name := range ns.ways.policies[on] {
		if authorization, ok := x.grant(name, ns.policies[name]); ok {
			granted = append(granted, authorization)
		}
	}
	return granted
}

func inOrder(list []Authorization) {
	slices.SortFunc(list, func(a, b Authorization) int {
		return cmp.Or(strings.Compare(a.Reference.Name, b.Reference.Name), strings.Compare(string(a.Reference.Kind), string(b.Reference.Kind)))
	})
}

// routesOn yields the accepted routes of a Server for HTTP or for gRPC, oldest
// first.
func (ns *namespace) routesOn(server string, http bool) iter.Seq2[Reference, *RouteSpec] {
	refs := slices.Collect(maps.Keys(ns.ways.routes[server]))
	refs = slices.DeleteFunc(refs, func(ref Reference) bool { return ref.Kind.http() != http })
	slices.SortFunc(refs, func(a, b Reference) int {
		groupA, kindA := a.Kind.GroupKind()
		groupB, kindB := b.Kind.GroupKind()
		return cmp.Or(ns.routes[a].Created.Compare(ns.routes[b].Created), strings.Compare(groupA, groupB), strings.Compare(kindA, kindB), strings.Compare(a.Name, b.Name))
	})
	return func(yield func(Reference, *RouteSpec) bool) {
		for _, ref := range refs {
			if !yield(ref, ns.routes[ref]) {
				return
			}
		}
	}
}

// limitOn is the limit of a Server: of the accepted ones the first in order
// (S-09).
func (ns *namespace) limitOn(server string) *RateLimit {
	var first string
	var limit *RateLimitSpec
	for name := range ns.ways.limits[server] {
		if spec := ns.limits[name]; limit == nil || spec.before(name, limit, first) {
			first, limit = name, spec
		}
	}
	if limit == nil {
		return nil
	}
	return limit.limit(first)
}
