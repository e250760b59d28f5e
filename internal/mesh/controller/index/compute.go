package index

import (
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// shareKey is all that an InboundServer depends on besides the Servers and
// authorizations of its namespace.
type shareKey struct {
	// server is the winner's name, and then policy and opaque are zero.
	server string
	policy api.PolicyName
	opaque bool
	probes string
}

// maxShared bounds the snapshots kept for sharing in one namespace. Beyond it
// the memory is dropped: it saves work and decides nothing.
const maxShared = 4096

// snapshot is the policy of the port as it follows from the specs.
func (x *Index) snapshot(ns *namespace, p *pod, port uint16) *Snapshot {
	key := x.key(ns, p, port)
	if s := ns.shared[key]; s != nil {
		return s
	}
	s := &Snapshot{Server: x.compute(ns, p, port)}
	if len(ns.shared) >= maxShared {
		clear(ns.shared)
	}
	ns.shared[key] = s
	return s
}

func (x *Index) key(ns *namespace, p *pod, port uint16) shareKey {
	probes := strings.Join(p.spec.Probes[port], "\n")
	if name, _ := x.winner(ns, p.spec, port); name != "" {
		return shareKey{server: name, probes: probes}
	}
	return shareKey{policy: x.defaultFor(p.spec, port), opaque: p.spec.OpaquePorts.Contains(port), probes: probes}
}

// compute combines the specs; it is the whole decision of which policy a port
// has.
func (x *Index) compute(ns *namespace, p *pod, port uint16) InboundServer {
	probes := p.spec.Probes[port]
	if name, server := x.winner(ns, p.spec, port); server != nil {
		if x.config.Dialect.ProbesNeedAuthorization {
			probes = nil
		}
		return x.withRoutes(InboundServer{
			Reference: Reference{Server, name}, Protocol: server.Protocol, Authorizations: x.authorizations(ns, name, server),
		}, probes)
	}
	policy := x.defaultFor(p.spec, port)
	protocol := Protocol{Kind: Detect, DetectTimeout: DetectTimeout}
	if p.spec.OpaquePorts.Contains(port) {
		protocol = Protocol{Kind: Opaque}
	}
	return x.withRoutes(InboundServer{
		Reference: Reference{Default, string(policy)}, Protocol: protocol, Authorizations: x.config.builtinAuthorizations(policy),
	}, probes)
}

// withRoutes adds the routes that the protocol can have.
func (x *Index) withRoutes(server InboundServer, probes []string) InboundServer {
	switch {
	case server.Protocol.Kind.httpCapable():
		server.HTTPRoutes = x.config.httpRoutes(probes)
	case server.Protocol.Kind == GRPC:
		server.GRPCRoutes = grpcRoutes()
	}
	return server
}

// winner is the Server that decides for the port, or nil.
func (x *Index) winner(ns *namespace, p *PodSpec, port uint16) (string, *ServerSpec) {
	var name string
	var server *ServerSpec
	for candidateName, candidate := range ns.servers {
		if !candidate.selectsPort(p, port, x.config.Dialect) || !candidate.selectsPod(p) {
			continue
		}
		if server == nil || candidate.before(candidateName, server, name) {
			name, server = candidateName, candidate
		}
	}
	return name, server
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

// authorizations are those that name the Server, by name, and then what its own
// access policy grants.
func (x *Index) authorizations(ns *namespace, name string, server *ServerSpec) []Authorization {
	if server.Closed {
		return nil
	}
	var granted []Authorization
	for authorizationName, spec := range ns.authorizations {
		if len(spec.Problems) > 0 && !spec.kept || !spec.names(server, name) {
			continue
		}
		if authorization, ok := spec.authorization(authorizationName, x.config); ok {
			granted = append(granted, authorization)
		}
	}
	slices.SortFunc(granted, func(a, b Authorization) int { return strings.Compare(a.Reference.Name, b.Reference.Name) })
	return append(granted, x.config.builtinAuthorizations(server.AccessPolicy)...)
}
