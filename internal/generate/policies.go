package generate

import (
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/scenarios"
)

// builder makes policies by chance that fit a world: what they refer to is there
// for the most part, and not for the rest.
type builder struct {
	random
	state *state
	// workloads are the names of those that are called.
	workloads []string
	// flows says that they are called all the time. Then no port becomes opaque or
	// ceases to be: meshed clients learn of that from the destination service, in a
	// time of its own (T-36), and speak of it as it was until then.
	flows bool
	// sides are what the scenario is to tell yet; nil while its parts are made.
	sides *sides
}

// The labels that pods and Servers carry, and that selectors ask for.
const (
	appLabel  = "app"
	tierLabel = "tier"
	setLabel  = "set"
)

var (
	tiers = []string{"front", "back"}
	sets  = []string{"one", "two"}
)

// nothing is what no object and no port is called.
const nothing = "nothing"

// name is that of an object of a kind: of one that is there for the most part, of
// one that may come later, or of nothing.
func (b *builder) name(ref string) string {
	there := b.state.names(ref)
	k, _ := kindNamed(ref)
	switch {
	case len(there) > 0 && b.chance(80):
		return pick(b.random, there...)
	case b.chance(80):
		return k.stem + "-" + pick(b.random, suffixes[:k.most]...)
	}
	return nothing
}

func (b *builder) server(version string) object {
	port := choose(b.random,
		weighted[any]{26, "http"}, weighted[any]{18, 8080}, weighted[any]{12, "grpc"}, weighted[any]{10, 8081},
		weighted[any]{12, "tcp"}, weighted[any]{8, 9090}, weighted[any]{4, nothing}, weighted[any]{2, 7000})
	spec := object{"podSelector": b.podSelector(version), "port": port}
	if protocol := b.protocol(port); protocol != "" {
		spec["proxyProtocol"] = protocol
	}
	if version == "v1beta3" && b.chance(35) {
		spec["accessPolicy"] = string(pick(b.random, api.PolicyNames()...))
	}
	return spec
}

// protocol fits the port for the most part; empty leaves it to the default.
func (b *builder) protocol(port any) string {
	protocol := b.anyProtocol(port)
	if b.flows && (protocol == string(api.ProtocolOpaque) || protocol == string(api.ProtocolTLS)) {
		return string(api.ProtocolUnknown)
	}
	return protocol
}

func (b *builder) anyProtocol(port any) string {
	is := func(p api.ProxyProtocol, weight int) weighted[string] { return weighted[string]{weight, string(p)} }
	switch port {
	case "grpc", 8081:
		return choose(b.random, weighted[string]{15, ""}, is(api.ProtocolGRPC, 50), is(api.ProtocolHTTP2, 15), is(api.ProtocolUnknown, 15), is(api.ProtocolOpaque, 5))
	case "tcp", 9090:
		return choose(b.random, weighted[string]{30, ""}, is(api.ProtocolOpaque, 50), is(api.ProtocolUnknown, 20))
	}
	return choose(b.random, weighted[string]{35, ""}, is(api.ProtocolHTTP1, 28), is(api.ProtocolUnknown, 20), is(api.ProtocolHTTP2, 8), is(api.ProtocolOpaque, 7), is(api.ProtocolTLS, 2))
}

// podSelector selects the workloads in many ways, and at times nothing.
func (b *builder) podSelector(version string) object {
	app := pick(b.random, b.workloads...)
	forms := []weighted[object]{
		{45, object{"matchLabels": object{appLabel: app}}},
		{8, object{"matchLabels": object{appLabel: app, tierLabel: pick(b.random, tiers...)}}},
		{8, object{"matchLabels": object{tierLabel: pick(b.random, tiers...)}}},
		{6, object{"matchExpressions": []any{expression(appLabel, "In", b.workloads...)}}},
		{8, object{"matchExpressions": []any{expression(tierLabel, "NotIn", pick(b.random, tiers...))}}},
		{4, object{"matchExpressions": []any{expression(tierLabel, "Exists")}}},
		{4, object{"matchExpressions": []any{expression(appLabel, "Exists"), expression(tierLabel, "DoesNotExist")}}},
		{2, object{"matchExpressions": []any{expression(appLabel, "In")}}}, // without values: nothing (C-08)
		{4, object{"matchLabels": object{appLabel: nothing}}},
	}
	if version != "v1alpha1" {
		forms = append(forms, weighted[object]{10, object{}},
			weighted[object]{4, object{"matchLabels": object{appLabel: app}, "matchExpressions": []any{expression(tierLabel, "In", pick(b.random, tiers...))}}})
	}
	return choose(b.random, forms...)
}

// expression is one requirement of a selector; without values it has no list.
func expression(key, operator string, values ...string) object {
	out := object{"key": key, "operator": operator}
	if len(values) > 0 {
		out["values"] = list(values)
	}
	return out
}

func list(values []string) []any {
	out := make([]any, len(values))
	for i, value := range values {
		out[i] = value
	}
	return out
}

func (b *builder) serverAuthorization(string) object {
	server := choose(b.random,
		weighted[object]{62, object{"name": b.name(api.ServerKind)}},
		weighted[object]{16, object{"selector": object{"matchLabels": object{setLabel: pick(b.random, sets...)}}}},
		weighted[object]{10, object{"selector": object{}}},
		weighted[object]{12, object{"selector": object{"matchExpressions": []any{choose(b.random,
			weighted[object]{2, expression(setLabel, "In", sets...)}, weighted[object]{2, expression(setLabel, "NotIn", pick(b.random, sets...))},
			weighted[object]{1, expression(setLabel, "DoesNotExist")})}}}})
	return object{"server": server, "client": b.client()}
}

func (b *builder) client() object {
	client := choose(b.random,
		weighted[object]{30, object{"unauthenticated": true}},
		weighted[object]{10, object{"meshTLS": object{"unauthenticatedTLS": true}}},
		weighted[object]{28, object{"meshTLS": object{"identities": list(b.identities(false))}}},
		weighted[object]{26, object{"meshTLS": object{"serviceAccounts": b.accounts()}}},
		weighted[object]{3, object{}}, // admits nobody
		weighted[object]{3, object{"meshTLS": object{}}})
	if b.chance(40) {
		client["networks"] = b.networks()
	}
	return client
}

// accounts are some of the clients' ServiceAccounts, or nobody's.
func (b *builder) accounts() []any {
	var out []any
	for _, account := range some(b.random, b.between(1, 2), "alice", "bob", "nobody") {
		one := object{"name": account}
		if b.chance(85) {
			one["namespace"] = clientsValue
		}
		out = append(out, one)
	}
	return out
}

// identity is that of one of the clients' ServiceAccounts.
func identity(account string) string {
	return account + "." + clientsValue + ".serviceaccount.identity.linkerd.cluster.local"
}

// identities are full names, suffixes and everybody.
func (b *builder) identities(spiffe bool) []string {
	all := []string{identity("alice"), identity("bob"), identity("nobody"),
		"*." + clientsValue + ".serviceaccount.identity.linkerd.cluster.local", "*.serviceaccount.identity.linkerd.cluster.local", "*.cluster.local", "*.local",
		"*.lice." + clientsValue + ".serviceaccount.identity.linkerd.cluster.local", "*.bob." + clientsValue + ".serviceaccount.identity.linkerd.cluster.local", "*"}
	if spiffe {
		all = append(all, spiffeIdentity)
	}
	return some(b.random, b.between(1, 2), all...)
}

// spiffeIdentity is that of the client of kind spiffe.
const spiffeIdentity = "spiffe://corp.example/alice"

// networks are those of all, of the clients inside and outside, and parts.
func (b *builder) networks() []any {
	all := []object{
		{"cidr": "0.0.0.0/0"},
		{"cidr": "10.0.0.0/8"},
		{"cidr": outsideValue},
		{"cidr": "0.0.0.0/0", "except": []any{outsideValue}},
		{"cidr": "0.0.0.0/0", "except": []any{"10.0.0.0/8"}},
		{"cidr": "0.0.0.0/0", "except": []any{outsideValue, "10.0.0.0/8"}},
		{"cidr": "10.0.0.0/8", "except": []any{"10.0.0.0/9", "10.128.0.0/9"}},
		{"cidr": "10.0.0.0/8", "except": []any{"10.128.0.0/9"}},
		{"cidr": "192.0.2.1"},
		{"cidr": "::/0"},
		{"cidr": "0.0.0.0/0", "except": []any{"192.0.2.1"}},
	}
	var out []any
	for _, one := range some(b.random, choose(b.random, weighted[int]{3, 1}, weighted[int]{1, 2}), all...) {
		out = append(out, one)
	}
	return out
}

func (b *builder) meshTLS(string) object {
	if b.chance(60) {
		return object{"identities": list(b.identities(true))}
	}
	refs := []object{
		{"kind": api.ServiceAccountKind, "name": "alice", "namespace": clientsValue},
		{"kind": api.ServiceAccountKind, "name": "bob", "namespace": clientsValue},
		{"kind": api.ServiceAccountKind, "name": "alice"},
		{"kind": api.NamespaceKind, "name": clientsValue},
		{"kind": api.NamespaceKind, "name": namespaceValue},
	}
	var out []any
	for _, one := range some(b.random, b.between(1, 2), refs...) {
		out = append(out, one)
	}
	return object{"identityRefs": out}
}

func (b *builder) networkAuthentication(string) object { return object{"networks": b.networks()} }

func (b *builder) authorizationPolicy(string) object {
	target := choose(b.random,
		weighted[object]{62, object{"group": api.Group, "kind": api.ServerKind, "name": b.name(api.ServerKind)}},
		weighted[object]{16, object{"kind": api.NamespaceKind, "name": namespaceValue}},
		weighted[object]{13, object{"group": api.Group, "kind": api.HTTPRouteKind, "name": b.name(api.HTTPRouteKind)}},
		weighted[object]{4, object{"group": api.GatewayGroup, "kind": api.HTTPRouteKind, "name": b.name(api.HTTPRouteKind + "." + api.GatewayGroup)}},
		weighted[object]{5, object{"group": api.GatewayGroup, "kind": api.GRPCRouteKind, "name": b.name(api.GRPCRouteKind)}})
	refs := []any{}
	switch {
	case b.chance(55):
		refs = append(refs, object{"group": api.Group, "kind": api.MeshTLSAuthenticationKind, "name": b.name(api.MeshTLSAuthenticationKind)})
	case b.chance(40):
		refs = append(refs, object{"kind": api.ServiceAccountKind, "name": pick(b.random, "alice", "bob"), "namespace": clientsValue})
	}
	if b.chance(35) {
		refs = append(refs, object{"group": api.Group, "kind": api.NetworkAuthenticationKind, "name": b.name(api.NetworkAuthenticationKind)})
	}
	return object{"targetRef": target, "requiredAuthenticationRefs": refs}
}

// The paths that are called and that routes are about.
var paths = []string{"/", "/a", "/a/b"}

// parents attach a route to Servers.
func (b *builder) parents() []any {
	refs := []any{object{"group": api.Group, "kind": api.ServerKind, "name": b.name(api.ServerKind)}}
	if b.chance(15) {
		if other := b.name(api.ServerKind); other != refs[0].(object)["name"] {
			refs = append(refs, object{"group": api.Group, "kind": api.ServerKind, "name": other})
		}
	}
	return refs
}

func (b *builder) httpRoute(string) object {
	var rules []any
	for range b.between(1, 2) {
		match := object{}
		if b.chance(85) {
			match["path"] = object{"type": pick(b.random, "PathPrefix", "Exact", "PathPrefix"), "value": pick(b.random, paths...)}
		}
		if b.chance(30) {
			match["method"] = pick(b.random, "GET", "GET", "POST")
		}
		rules = append(rules, object{"matches": []any{match}})
	}
	return object{"parentRefs": b.parents(), "rules": rules}
}

func (b *builder) grpcRoute(string) object {
	match := choose(b.random,
		weighted[object]{3, object{"method": object{"service": "meshproof.echo.v1.Echo", "method": "Say"}}},
		weighted[object]{2, object{"method": object{"service": "meshproof.echo.v1.Echo"}}},
		weighted[object]{1, object{"method": object{"service": "other.v1.Other", "method": "Say"}}})
	return object{"parentRefs": b.parents(), "rules": []any{object{"matches": []any{match}}}}
}

// The named values that generated policies use.
const (
	clientsValue   = "${clients}"
	namespaceValue = "${namespace}"
	outsideValue   = "${outside}"
)

// defaults are the values of the annotation of default policies: the six, one
// that is none, and none at all.
func (b *builder) defaultPolicy() string {
	return choose(b.random, weighted[string]{40, ""}, weighted[string]{50, string(pick(b.random, api.PolicyNames()...))}, weighted[string]{10, "everybody"})
}

// clientPool are the clients, most of them shared by all scenarios of a run.
func clientPool() []weighted[scenarios.Client] {
	return []weighted[scenarios.Client]{
		{10, scenarios.Client{Name: "alice", Kind: scenarios.Meshed, ServiceAccount: "alice", Shared: true}},
		{8, scenarios.Client{Name: "bob", Kind: scenarios.Meshed, ServiceAccount: "bob", Shared: true}},
		{10, scenarios.Client{Name: "unmeshed", Kind: scenarios.Unmeshed, Shared: true}},
		{8, scenarios.Client{Name: "outside", Kind: scenarios.Unmeshed, Network: scenarios.Outside, Shared: true}},
		{6, scenarios.Client{Name: "alice-outside", Kind: scenarios.Meshed, ServiceAccount: "alice", Network: scenarios.Outside, Shared: true}},
		{4, scenarios.Client{Name: "direct", Kind: scenarios.MeshedDirect, ServiceAccount: "bob", Shared: true}},
		{3, scenarios.Client{Name: "no-identity", Kind: scenarios.TLSNoIdentity, Shared: true}},
		{3, scenarios.Client{Name: "foreign-root", Kind: scenarios.ForeignRoot, Shared: true}},
		{3, scenarios.Client{Name: "spiffe", Kind: scenarios.SPIFFE, Identity: spiffeIdentity, Shared: true}},
	}
}
