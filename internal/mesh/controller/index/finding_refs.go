package index

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func (f *findings) aboutAuthorizations() {
	for name, spec := range f.authorizations {
		kind := api.ServerAuthorizationKind
		if f.unusable(kind, name, spec.UID, revoked, spec.Problems) {
			continue
		}
		if server := spec.ServerName; server != "" && f.servers[server] == nil {
			f.tell(kind, name, spec.UID, NoSuchServer, noServer(server, "access is granted once it exists"))
		}
		f.accounts(kind, name, spec.UID, spec.accounts)
	}
}

func noServer(name, then string) string { return fmt.Sprintf("there is no Server %q; %s", name, then) }

// accounts tells of ServiceAccounts that do not exist. Their names count all the
// same.
func (f *findings) accounts(kind, name, uid string, all []mention) {
	f.tell(kind, name, uid, NoSuchAccount, f.missing(api.ServiceAccountKind, all)...)
	f.tell(kind, name, uid, NoSuchNamespace, f.missing(api.NamespaceKind, all)...)
}

func (f *findings) missing(kind string, all []mention) (messages []string) {
	for _, m := range all {
		if m.kind == kind && f.absent[m] {
			messages = append(messages, "there is no "+m.String())
		}
	}
	return messages
}

func (f *findings) aboutPolicies() {
	for name, spec := range f.policies {
		kind := api.AuthorizationPolicyKind
		if f.unusable(kind, name, spec.UID, revoked, spec.Problems) {
			continue
		}
		f.aboutTarget(name, spec)
		var void []string
		for _, m := range spec.mentions() {
			switch {
			case m.kind == api.ServiceAccountKind:
			case f.absent[m]:
				void = append(void, fmt.Sprintf("there is no %s; access is granted once it exists", m))
			case f.voided[m]:
				void = append(void, fmt.Sprintf("%s cannot be used; access is granted once it is valid", m))
			}
		}
		f.tell(kind, name, spec.UID, NoSuchAuthentication, void...)
		f.accounts(kind, name, spec.UID, spec.mentions())
	}
}

// aboutTarget tells of targets that are not there.
func (f *findings) aboutTarget(name string, spec *PolicySpec) {
	kind, t := api.AuthorizationPolicyKind, spec.target
	switch {
	case t.kind == Server:
		if f.servers[t.name] == nil {
			f.tell(kind, name, spec.UID, NoSuchServer, noServer(t.name, "access is granted once it exists"))
		}
	case t.kind == namespaceTarget:
		if len(f.servers) == 0 {
			f.tell(kind, name, spec.UID, NoServers, "the namespace has no Servers; ports without one have their default policy whatever this says")
		}
	case f.routes[Reference{t.kind, t.name}] == nil:
		group, route := t.kind.GroupKind()
		for _, other := range RouteKinds() {
			otherGroup, otherRoute := other.GroupKind()
			if other != t.kind && otherRoute == route && f.routes[Reference{other, t.name}] != nil {
				f.tell(kind, name, spec.UID, WrongGroup, fmt.Sprintf("%s %q is of group %s, not %s; nothing is granted", route, t.name, otherGroup, group))
				return
			}
		}
		f.tell(kind, name, spec.UID, NoSuchRoute, fmt.Sprintf("there is no %s %q of group %s; access is granted once it exists", route, t.name, group))
	}
}

func (f *findings) aboutAuthentications() {
	for name, spec := range f.meshTLS {
		if !f.unusable(api.MeshTLSAuthenticationKind, name, spec.UID, revoked, spec.Problems) {
			f.accounts(api.MeshTLSAuthenticationKind, name, spec.UID, spec.named)
		}
	}
	for name, spec := range f.networks {
		f.unusable(api.NetworkAuthenticationKind, name, spec.UID, revoked, spec.Problems)
	}
}

func (f *findings) aboutRoutes() {
	for ref, spec := range f.routes {
		kind := string(ref.Kind)
		f.unusable(kind, ref.Name, spec.UID, "matches nothing and grants nothing until it is valid", spec.Problems)
		if len(spec.Ignored) > 0 {
			f.tell(kind, ref.Name, spec.UID, RouteIgnored, "the whole route counts for nothing: "+spec.Ignored.String())
		}
		f.problems(kind, ref.Name, spec.UID, FilterIgnored, spec.Dropped)
		var absent, unlike, strange []string
		for _, name := range spec.parents {
			server := f.servers[name]
			switch {
			case server == nil:
				absent = append(absent, noServer(name, "the route counts once it exists"))
			case !server.Protocol.Kind.takes(ref.Kind):
				unlike = append(unlike, fmt.Sprintf("Server %q has protocol %s, to which the route means nothing", name, server.Protocol.Kind))
			}
		}
		for _, p := range spec.strangers {
			if f.meansServer(p) {
				strange = append(strange, fmt.Sprintf("%s is a %s, write kind: %s and group: %s if a Server is meant", p.field, written(p.group, p.kind), api.ServerKind, api.Group))
			}
		}
		f.tell(kind, ref.Name, spec.UID, NoSuchServer, absent...)
		f.tell(kind, ref.Name, spec.UID, WrongProtocol, unlike...)
		f.tell(kind, ref.Name, spec.UID, ParentIsNoServer, strange...)
	}
}

// meansServer reports whether a parent that is no Server seems to be meant as one:
// it is of the group that Servers are of, or it is a Gateway, as a parent without
// kind is, and there is a Server of its name.
func (f *findings) meansServer(p parent) bool {
	if strings.EqualFold(p.group, api.Group) {
		return !strings.EqualFold(p.kind, egressNetworkKind)
	}
	return (refers(p.group, p.kind, api.GatewayGroup, gatewayKind) || strings.EqualFold(p.kind, api.ServerKind)) && f.servers[p.name] != nil
}

// egressNetworkKind is a parent of routes that are no business of this index.
const egressNetworkKind = "EgressNetwork"

// takes reports whether routes of the kind mean anything to the protocol.
func (k ProtocolKind) takes(route Kind) bool {
	if route.http() {
		return k.httpCapable()
	}
	return k == GRPC
}

func (f *findings) aboutLimits() {
	for name, spec := range f.limits {
		kind := api.HTTPLocalRateLimitPolicyKind
		f.unusable(kind, name, spec.UID, "only what can be understood holds until it is valid", spec.Problems)
		server := f.servers[spec.target]
		switch {
		case spec.target == "":
		case server == nil:
			f.tell(kind, name, spec.UID, NoSuchServer, noServer(spec.target, "nothing is limited until it exists"))
		case !server.Protocol.Kind.httpCapable():
			f.tell(kind, name, spec.UID, WrongProtocol, fmt.Sprintf("Server %q has protocol %s, which cannot be limited", spec.target, server.Protocol.Kind))
		}
		f.accounts(kind, name, spec.UID, spec.clients)
	}
}
