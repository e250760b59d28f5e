package oracle

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Grant is an authorization as it takes part in a decision: networks and clients
// must both hold.
type Grant struct {
	Label    Label
	Networks []Network
	Clients  Clients
	// Void says why it grants nothing to anybody, with the rule's ID; empty for a
	// grant that may hold.
	Void, VoidRule string
}

// Network is a range of addresses less some ranges inside it.
type Network struct {
	Within netip.Prefix
	Except []netip.Prefix
}

// Clients are who is meant, besides the network; the zero value is nobody.
type Clients struct {
	// Anyone, with TLS or without.
	Anyone bool
	// TLS: anyone whose mesh TLS the proxy has terminated.
	TLS bool
	// Identities are full names, "*", or "*." and a suffix.
	Identities []string
}

func (c Clients) empty() bool { return !c.Anyone && !c.TLS && len(c.Identities) == 0 }

// BuiltIn is D-01 and D-02: what each of the six policies grants. Deny grants
// nothing, and is no grant.
func BuiltIn(policy api.PolicyName, settings Settings) (Grant, bool) {
	grant := Grant{Label: Label{Kind: "default", Name: string(policy)}}
	switch policy {
	case api.AllUnauthenticated, api.Audit:
		grant.Networks, grant.Clients = networks(everywhere()), Clients{Anyone: true}
	case api.AllAuthenticated:
		grant.Networks, grant.Clients = networks(everywhere()), Clients{Identities: []string{"*"}}
	case api.ClusterUnauthenticated:
		grant.Networks, grant.Clients = networks(settings.ClusterNetworks), Clients{Anyone: true}
	case api.ClusterAuthenticated:
		grant.Networks, grant.Clients = networks(settings.ClusterNetworks), Clients{Identities: []string{"*"}}
	default:
		return Grant{}, false
	}
	return grant, true
}

func networks(prefixes []netip.Prefix) []Network {
	out := make([]Network, len(prefixes))
	for i, p := range prefixes {
		out[i].Within = p
	}
	return out
}

// AccessPolicy is: a Server adds the grant of its access policy,
// and absent that is deny.
func AccessPolicy(server *api.Server) api.PolicyName {
	if server.Spec.AccessPolicy == "" {
		return api.Deny
	}
	return server.Spec.AccessPolicy
}

// NamesServer is X-30: by name, or by the labels of the Server object (C-11). The
// namespace is compared by the caller.
func NamesServer(reference api.ServerReference, server *api.Server) (bool, string) {
	if reference.Name != "" {
		return reference.Name == server.Name, fmt.Sprintf("it is for Server %s", reference.Name)
	}
	holds, why := LabelsMatch(reference.Selector, server.Labels)
	return holds, fmt.Sprintf("by the Server's labels: %s", why)
}

// GrantNetworks is X-31: without networks a ServerAuthorization means those of
// the cluster. What does not parse yields nil.
func GrantNetworks(listed []api.Network, settings Settings) []Network {
	if len(listed) == 0 {
		return networks(settings.ClusterNetworks)
	}
	return parseNetworks(listed)
}

// parseNetworks is C-14: prefixes, or single addresses; nil if one is neither.
func parseNetworks(listed []api.Network) []Network {
	var out []Network
	for _, one := range listed {
		within, ok := parsePrefix(one.CIDR)
		if !ok {
			return nil
		}
		network := Network{Within: within}
		for _, e := range one.Except {
			except, ok := parsePrefix(e)
			if !ok {
				return nil
			}
			network.Except = append(network.Except, except)
		}
		out = append(out, network)
	}
	return out
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	return prefix.Masked(), err == nil
}

// GrantClients is: whom a ServerAuthorization means, or why it
// means nobody.
func GrantClients(a *api.ServerAuthorization, account func(namespace, name string) string) (Clients, string) {
	client := a.Spec.Client
	switch {
	case client.Unauthenticated:
		return Clients{Anyone: true}, ""
	case client.MeshTLS == nil:
		return Clients{}, "it names no client"
	case client.MeshTLS.UnauthenticatedTLS:
		return Clients{TLS: true}, ""
	}
	clients := Clients{Identities: slices.Clone(client.MeshTLS.Identities)}
	for _, ref := range client.MeshTLS.ServiceAccounts {
		clients.Identities = append(clients.Identities, account(cmp.Or(ref.Namespace, a.Namespace), ref.Name))
	}
	if clients.empty() {
		return clients, "its meshTLS names no client"
	}
	return clients, ""
}

// isCore reports whether a group is Kubernetes' own.
func isCore(group string) bool { return group == "" || strings.EqualFold(group, "core") }

func isPolicy(group, kind, want string) bool {
	return strings.EqualFold(group, api.Group) && strings.EqualFold(kind, want)
}

// TargetsServer is X-40 for a Server: that Server, of the policy's namespace (C-17).
func TargetsServer(p *api.AuthorizationPolicy, server *api.Server) bool {
	ref := p.Spec.TargetRef
	return isPolicy(ref.Group, ref.Kind, api.ServerKind) && ref.Name == server.Name && p.Namespace == server.Namespace
}

// TargetsNamespace is X-40 for the Namespace: every Server in it, and no default
// server.
func TargetsNamespace(p *api.AuthorizationPolicy, server *api.Server) bool {
	ref := p.Spec.TargetRef
	return isCore(ref.Group) && strings.EqualFold(ref.Kind, api.NamespaceKind) && ref.Name == p.Namespace && p.Namespace == server.Namespace
}

// TargetsRoute is X-40 for a route, and X-49: group, kind and name are compared
// ignoring case, and the group must be the route's real one.
func TargetsRoute(p *api.AuthorizationPolicy, route Label, namespace string) bool {
	ref := p.Spec.TargetRef
	return p.Namespace == namespace && strings.EqualFold(ref.Group, route.Group) && strings.EqualFold(ref.Kind, route.Kind) && strings.EqualFold(ref.Name, route.Name)
}

// references sorts the required authentications by what they are.
func references(p *api.AuthorizationPolicy) (mesh, network, accounts, others []api.AuthenticationReference) {
	for _, ref := range p.Spec.RequiredAuthenticationRefs {
		switch {
		case isPolicy(ref.Group, ref.Kind, api.MeshTLSAuthenticationKind):
			mesh = append(mesh, ref)
		case isPolicy(ref.Group, ref.Kind, api.NetworkAuthenticationKind):
			network = append(network, ref)
		case isCore(ref.Group) && strings.EqualFold(ref.Kind, api.ServiceAccountKind):
			accounts = append(accounts, ref)
		default:
			others = append(others, ref)
		}
	}
	return mesh, network, accounts, others
}

// PolicyNetworks is for networks: those of the one
// NetworkAuthentication, or everywhere. The text says why there are none.
func PolicyNetworks(p *api.AuthorizationPolicy, world World) ([]Network, string) {
	_, refs, _, _ := references(p)
	switch len(refs) {
	case 0:
		return networks(everywhere()), ""
	case 1:
	default:
		return nil, "it asks for several NetworkAuthentications"
	}
	namespace := cmp.Or(refs[0].Namespace, p.Namespace)
	for _, a := range world.NetworkAuthentications {
		if a.Namespace == namespace && a.Name == refs[0].Name {
			if found := parseNetworks(a.Spec.Networks); len(found) > 0 {
				return found, ""
			}
			return nil, fmt.Sprintf("NetworkAuthentication %s/%s has no networks that can be read", namespace, a.Name)
		}
	}
	return nil, fmt.Sprintf("NetworkAuthentication %s/%s does not exist", namespace, refs[0].Name)
}

// PolicyClients is for clients: those of the one
// MeshTLSAuthentication or ServiceAccount, or anyone. A ServiceAccount need not
// exist. The text says why there are none.
func PolicyClients(p *api.AuthorizationPolicy, world World, account func(namespace, name string) string, all func(namespace string) string) (Clients, string) {
	mesh, _, accounts, others := references(p)
	switch {
	case len(others) > 0:
		return Clients{}, fmt.Sprintf("it asks for a %s, which is no authentication", others[0].Kind)
	case len(mesh)+len(accounts) == 0:
		return Clients{Anyone: true}, ""
	case len(mesh)+len(accounts) > 1:
		return Clients{}, "it asks for several identities"
	case len(accounts) == 1:
		return Clients{Identities: []string{account(cmp.Or(accounts[0].Namespace, p.Namespace), accounts[0].Name)}}, ""
	}
	namespace := cmp.Or(mesh[0].Namespace, p.Namespace)
	for _, a := range world.MeshTLSAuthentications {
		if a.Namespace != namespace || a.Name != mesh[0].Name {
			continue
		}
		clients := Clients{Identities: slices.Clone(a.Spec.Identities)}
		for _, ref := range a.Spec.IdentityRefs {
			switch {
			case ref.Name == "":
				return Clients{}, fmt.Sprintf("MeshTLSAuthentication %s/%s refers to a %s without a name", namespace, a.Name, ref.Kind)
			case isCore(ref.Group) && strings.EqualFold(ref.Kind, api.ServiceAccountKind):
				clients.Identities = append(clients.Identities, account(cmp.Or(ref.Namespace, a.Namespace), ref.Name))
			case isCore(ref.Group) && strings.EqualFold(ref.Kind, api.NamespaceKind):
				clients.Identities = append(clients.Identities, all(ref.Name))
			default:
				return Clients{}, fmt.Sprintf("MeshTLSAuthentication %s/%s refers to a %s", namespace, a.Name, ref.Kind)
			}
		}
		if clients.empty() {
			return clients, fmt.Sprintf("MeshTLSAuthentication %s/%s names no identity", namespace, a.Name)
		}
		return clients, ""
	}
	return Clients{}, fmt.Sprintf("MeshTLSAuthentication %s/%s does not exist", namespace, mesh[0].Name)
}

// AccountIdentity is X-70: the identity of a ServiceAccount.
func AccountIdentity(namespace, name string, s Settings) string {
	return fmt.Sprintf("%s.%s.serviceaccount.identity.%s.%s", name, namespace, s.ControlPlaneNamespace, s.TrustDomain)
}

// NamespaceIdentity is X-71: every ServiceAccount of a namespace.
func NamespaceIdentity(namespace string, s Settings) string {
	return fmt.Sprintf("*.%s.serviceaccount.identity.%s.%s", namespace, s.ControlPlaneNamespace, s.TrustDomain)
}

// Localhost is H-20 and B-01: the proxy adds it to every list.
func Localhost() Grant {
	return Grant{
		Label:    Label{Kind: "default", Name: "localhost"},
		Networks: networks([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")}),
		Clients:  Clients{Anyone: true},
	}
}

func (o Oracle) account(namespace, name string) string {
	return o.Rules.AccountIdentity(namespace, name, o.World.Settings)
}

func (o Oracle) allOf(namespace string) string {
	return o.Rules.NamespaceIdentity(namespace, o.World.Settings)
}

// policyGrant turns an AuthorizationPolicy into its grant.
func (o Oracle) policyGrant(p *api.AuthorizationPolicy) Grant {
	grant := Grant{Label: Label{Group: api.Group, Kind: "authorizationpolicy", Name: p.Name}}
	var void string
	if grant.Clients, void = o.Rules.PolicyClients(p, o.World, o.account, o.allOf); void != "" {
		grant.Void, grant.VoidRule = void, "X-45"
	}
	if grant.Networks, void = o.Rules.PolicyNetworks(p, o.World); void != "" {
		grant.Void, grant.VoidRule = void, "X-45"
	}
	return grant
}

// RouteList is X-48: what is granted on a route is the route's own and the
// Server's, so a grant on the Server opens every route.
func RouteList(route, server []Grant) []Grant { return append(slices.Clone(route), server...) }

// serverGrants are the grants for every request at the Server: those of
// ServerAuthorizations and AuthorizationPolicies that mean it, and of its access
// policy (X-12, X-33, X-47: any one suffices).
func (o Oracle) serverGrants(server *api.Server) []Grant {
	var grants []Grant
	for _, a := range o.World.ServerAuthorizations {
		if a.Namespace != server.Namespace {
			continue
		}
		if named, _ := o.Rules.NamesServer(a.Spec.Server, server); !named {
			continue
		}
		grant := Grant{Label: Label{Group: api.Group, Kind: "serverauthorization", Name: a.Name}}
		grant.Clients, grant.Void = o.Rules.GrantClients(a, o.account)
		grant.Networks = o.Rules.GrantNetworks(a.Spec.Client.Networks, o.World.Settings)
		if grant.Networks == nil {
			grant.Void = "its networks cannot be read"
		}
		if grant.Void != "" {
			grant.VoidRule = "X-61"
		}
		grants = append(grants, grant)
	}
	for _, p := range o.World.AuthorizationPolicies {
		if o.Rules.TargetsServer(p, server) || o.Rules.TargetsNamespace(p, server) {
			grants = append(grants, o.policyGrant(p))
		}
	}
	if grant, any := o.Rules.BuiltIn(o.Rules.AccessPolicy(server), o.World.Settings); any {
		grants = append(grants, grant)
	}
	return grants
}
