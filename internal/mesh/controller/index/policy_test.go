package index

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(epoch)}
}

func onServer(name string) api.LocalTargetReference {
	return api.LocalTargetReference{Group: api.Group, Kind: api.ServerKind, Name: name}
}

// mkPolicy grants access to the target to who fulfils the references; without any
// it asks for nothing.
func mkPolicy(name string, target api.LocalTargetReference, refs ...api.AuthenticationReference) *api.AuthorizationPolicy {
	if refs == nil {
		refs = []api.AuthenticationReference{}
	}
	return &api.AuthorizationPolicy{ObjectMeta: meta(name), Spec: api.AuthorizationPolicySpec{TargetRef: target, RequiredAuthenticationRefs: refs}}
}

func meshTLS(name string) api.AuthenticationReference {
	return api.AuthenticationReference{Group: api.Group, Kind: api.MeshTLSAuthenticationKind, Name: name}
}

func networks(name string) api.AuthenticationReference {
	return api.AuthenticationReference{Group: api.Group, Kind: api.NetworkAuthenticationKind, Name: name}
}

func account(name string) api.AuthenticationReference {
	return api.AuthenticationReference{Kind: api.ServiceAccountKind, Name: name}
}

func in(namespace string, ref api.AuthenticationReference) api.AuthenticationReference {
	ref.Namespace = namespace
	return ref
}

func mkMeshTLS(name string, identities ...string) *api.MeshTLSAuthentication {
	return &api.MeshTLSAuthentication{ObjectMeta: meta(name), Spec: api.MeshTLSAuthenticationSpec{Identities: identities}}
}

func mkNetworks(name string, cidrs ...string) *api.NetworkAuthentication {
	n := &api.NetworkAuthentication{ObjectMeta: meta(name)}
	for _, cidr := range cidrs {
		n.Spec.Networks = append(n.Spec.Networks, api.Network{CIDR: cidr})
	}
	return n
}

func grpcServer(edits ...func(*api.Server)) *api.Server {
	return mkServer("grpc", "voting", intstr.FromString("grpc"), edits...)
}

func speaking(protocol api.ProxyProtocol) func(*api.Server) {
	return func(s *api.Server) { s.Spec.ProxyProtocol = protocol }
}

// grants lists the names of the authorizations on the port of pod voting.
func (x *Index) grants(t *testing.T) []string {
	t.Helper()
	names := []string{}
	for _, a := range x.at(t, "voting", 8080).Authorizations {
		names = append(names, a.Reference.Name)
	}
	return names
}

// a Server, all Servers of the namespace, or one route.
func TestAPolicyGrantsAccessToItsTargetOnly(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting", withDefault("deny")), grpcServer(), mkServer("prom", "voting", intstr.FromString("prom")), mkRoute("r", "grpc"))
	for _, row := range []struct {
		target            api.LocalTargetReference
		grpc, prom, route bool
	}{
		{onServer("grpc"), true, false, false},
		{api.LocalTargetReference{Group: "POLICY.linkerd.io", Kind: "server", Name: "grpc"}, true, false, false},
		{onServer("absent"), false, false, false},
		{api.LocalTargetReference{Kind: "Namespace", Name: ns}, true, true, false},
		{api.LocalTargetReference{Group: "core", Kind: "namespace", Name: ns}, true, true, false},
		{api.LocalTargetReference{Group: api.Group, Kind: "HTTPRoute", Name: "r"}, false, false, true},
		{api.LocalTargetReference{Group: api.Group, Kind: "httproute", Name: "R"}, false, false, true},
		// the group is the route's own, or nothing is granted.
		{api.LocalTargetReference{Group: api.GatewayGroup, Kind: "HTTPRoute", Name: "r"}, false, false, false},
		{api.LocalTargetReference{Group: api.GatewayGroup, Kind: "GRPCRoute", Name: "r"}, false, false, false},
	} {
		t.Run(fmt.Sprintf("%v", row.target), func(t *testing.T) {
			policy := mkPolicy("p", row.target)
			x.apply(policy)
			defer x.remove(policy)
			want := []Authorization{{Reference{AuthorizationPolicy, "p"}, worldwide, nobody}}
			grpc, prom := x.at(t, "voting", 8080), x.at(t, "voting", 8801)
			for _, at := range []struct {
				where   string
				granted bool
				got     []Authorization
			}{{"grpc", row.grpc, grpc.Authorizations}, {"prom", row.prom, prom.Authorizations}, {"route", row.route, grpc.HTTPRoutes[0].Authorizations}} {
				if !at.granted {
					if len(at.got) > 0 {
						t.Errorf("%s: granted %v", at.where, at.got)
					}
				} else if diff := cmp.Diff(want, at.got, equateValues); diff != "" {
					t.Errorf("%s: -want +got\n%s", at.where, diff)
				}
			}
			if got := x.at(t, "voting", 4191).Authorizations; len(got) > 0 {
				t.Errorf("a port without Server is granted: %v", got)
			}
		})
	}
}

//
func TestAPolicyAsksForAllItsAuthentications(t *testing.T) {
	others := mkMeshTLS("others", "*.ops.example", "*", "a.*.b", "spiffe://trust/x", "a.*.b")
	others.Namespace = "ops"
	refs := &api.MeshTLSAuthentication{ObjectMeta: meta("refs"), Spec: api.MeshTLSAuthenticationSpec{IdentityRefs: []api.IdentityReference{
		{Kind: "ServiceAccount", Name: "web"}, {Group: "core", Kind: "serviceaccount", Name: "web", Namespace: "other"}, {Kind: "Namespace", Name: "ops"},
	}}}
	except := mkNetworks("except", "10.0.0.0/8", "192.0.2.1")
	except.Spec.Networks[0].Except = []string{"10.1.0.0/16", "10.2.2.2"}
	exceptNetworks := []Network{{Prefix: pfx("10.0.0.0/8"), Except: prefixes("10.1.0.0/16", "10.2.2.2/32")}, {Prefix: pfx("192.0.2.1/32")}}
	const suffix = ".serviceaccount.identity.linkerd.cluster.local"
	webs := Authentication{
		Kind: Identified, Identities: []string{"web.emojivoto" + suffix, "web.other" + suffix},
		Suffixes: [][]string{{"ops", "serviceaccount", "identity", "linkerd", "cluster", "local"}},
	}
	for _, row := range []struct {
		name           string
		refs           []api.AuthenticationReference
		networks       []Network
		authentication Authentication
	}{
		{"nothing", nil, worldwide, nobody},
		{"networks", []api.AuthenticationReference{networks("except")}, exceptNetworks, nobody},
		{"identities of another namespace", []api.AuthenticationReference{in("ops", meshTLS("others"))}, worldwide,
			Authentication{Kind: Identified, Identities: []string{"a.*.b", "spiffe://trust/x"}, Suffixes: [][]string{{}, {"ops", "example"}}}},
		{"references to identities, and networks", []api.AuthenticationReference{meshTLS("refs"), networks("except")}, exceptNetworks, webs},
		{"an account that does not exist", []api.AuthenticationReference{account("db")}, worldwide, Authentication{Kind: Identified, Identities: []string{"db.emojivoto" + suffix}}},
		{"an account of another namespace", []api.AuthenticationReference{in("ops", account("db"))}, worldwide, Authentication{Kind: Identified, Identities: []string{"db.ops" + suffix}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			x.apply(mkPod("voting"), grpcServer(), others, refs, except, mkPolicy("p", onServer("grpc"), row.refs...))
			want := []Authorization{{Reference{AuthorizationPolicy, "p"}, row.networks, row.authentication}}
			if diff := cmp.Diff(want, x.at(t, "voting", 8080).Authorizations, equateValues); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// U-07: an authentication that is not there voids the policy,
// whatever namespace it is of; its coming and going are told at once.
func TestAMissingAuthenticationVoidsThePolicyUntilItExists(t *testing.T) {
	for _, namespace := range []string{ns, "ops"} {
		for _, authentication := range []any{mkMeshTLS("who", "*"), mkNetworks("who", "10.0.0.0/8")} {
			ref := meshTLS("who")
			switch a := authentication.(type) {
			case *api.MeshTLSAuthentication:
				a.Namespace = namespace
			case *api.NetworkAuthentication:
				a.Namespace, ref = namespace, networks("who")
			}
			t.Run(ref.Kind+" of "+namespace, func(t *testing.T) {
				x := mkIndex(api.Documented(), nil)
				x.apply(mkPod("voting"), mkPod("web"), grpcServer(), mkServer("web", "web", intstr.FromString("grpc")))
				x.apply(mkPolicy("p", onServer("grpc"), in(namespace, ref), account("db")), mkPolicy("other", onServer("web")))
				if ref.Kind == api.MeshTLSAuthenticationKind {
					x.apply(mkPolicy("p", onServer("grpc"), in(namespace, ref)))
				}
				w, bystander := mustWatch(t, x, "voting", 8080), mustWatch(t, x, "web", 8080)
				for _, exists := range []bool{false, true, false, true} {
					if exists {
						x.apply(authentication)
					} else {
						x.remove(authentication)
					}
					want := []string{}
					if exists {
						want = []string{"p"}
					}
					if diff := cmp.Diff(want, x.grants(t)); diff != "" {
						t.Errorf("exists %v: -want +got\n%s", exists, diff)
					}
				}
				if !changed(w) || changed(bystander) {
					t.Error("not those were told that it concerns")
				}
			})
		}
	}
}

// what got past the webhook grants nothing, or what it
// granted before, never more.
func TestPoliciesThatCannotBeCheckedWidenNothing(t *testing.T) {
	valid := mkPolicy("p", onServer("grpc"), meshTLS("who"))
	edit := func(change func(*api.AuthorizationPolicySpec)) any {
		p := valid.DeepCopy()
		change(&p.Spec)
		return p
	}
	refs := func(refs ...api.AuthenticationReference) any {
		return edit(func(s *api.AuthorizationPolicySpec) { s.RequiredAuthenticationRefs = refs })
	}
	nameless := mkMeshTLS("who")
	nameless.Spec.IdentityRefs = []api.IdentityReference{{Kind: "ServiceAccount"}}
	inNamespace := mkMeshTLS("who")
	inNamespace.Spec.IdentityRefs = []api.IdentityReference{{Kind: "Namespace", Name: "x", Namespace: "y"}}
	group := mkMeshTLS("who")
	group.Spec.IdentityRefs = []api.IdentityReference{{Kind: "Group", Name: "x"}}
	both := mkMeshTLS("who", "*")
	both.Spec.IdentityRefs = []api.IdentityReference{{Kind: "ServiceAccount", Name: "x"}}
	for name, bad := range map[string]any{
		"A-08 a Service as target":   edit(func(s *api.AuthorizationPolicySpec) { s.TargetRef.Kind = "Service" }),
		"A-08 a Server of no group":  edit(func(s *api.AuthorizationPolicySpec) { s.TargetRef.Group = "" }),
		"A-08 a target without name": edit(func(s *api.AuthorizationPolicySpec) { s.TargetRef.Name = "" }),
		"A-09 another namespace": edit(func(s *api.AuthorizationPolicySpec) {
			s.TargetRef = api.LocalTargetReference{Kind: "Namespace", Name: "x"}
		}),
		"A-10 two MeshTLS":             refs(meshTLS("who"), meshTLS("who")),
		"A-11 two accounts":            refs(account("a"), account("b")),
		"A-12 MeshTLS and an account":  refs(meshTLS("who"), account("b")),
		"A-13 two networks":            refs(networks("where"), networks("where")),
		"A-14 an unknown kind":         refs(api.AuthenticationReference{Kind: "Group", Name: "g"}),
		"A-14 the wrong group":         refs(api.AuthenticationReference{Kind: api.MeshTLSAuthenticationKind, Name: "who"}),
		"A-15 no list":                 refs(),
		"a reference without name":     refs(meshTLS("")),
		"C-19 no identities":           mkMeshTLS("who"),
		"an empty identity":            mkMeshTLS("who", "*", ""),
		"C-19 both lists":              both,
		"C-20 a nameless reference":    nameless,
		"C-20 a Namespace in one":      inNamespace,
		"C-20 a reference to a group":  group,
		"the fields have another type": NewUnreadablePolicySpec("uid-p", fmt.Errorf("a number")),
	} {
		t.Run(name, func(t *testing.T) {
			for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
				write := func(x *Index, object any) {
					if spec, is := object.(PolicySpec); is {
						x.Update(func(tx *Tx) { tx.SetPolicy(ns, "p", spec) })
						return
					}
					x.apply(object)
				}
				x := mkIndex(dialect, nil)
				x.apply(mkPod("voting"), grpcServer(), mkNetworks("where", "10.0.0.0/8"))
				if _, isMeshTLS := bad.(*api.MeshTLSAuthentication); isMeshTLS {
					x.apply(valid)
				} else {
					x.apply(mkMeshTLS("who", "me"))
				}
				write(x, bad)
				if got := x.grants(t); len(got) > 0 {
					t.Errorf("%s: never valid, it grants %v", dialect, got)
				}
				x.apply(valid, mkMeshTLS("who", "me"))
				before := x.at(t, "voting", 8080)
				for range 2 {
					write(x, bad)
					if dialect.InvalidRevokes {
						if got := x.grants(t); len(got) > 0 {
							t.Errorf("%s: after an unusable update it grants %v", dialect, got)
						}
					} else {
						expect(t, before, x.at(t, "voting", 8080))
					}
				}
				x.apply(valid, mkMeshTLS("who", "me"))
				expect(t, before, x.at(t, "voting", 8080))
			}
		})
	}
}

// The same for networks, where an unusable exception must not be left out.
func TestNetworksThatCannotBeReadAdmitNobody(t *testing.T) {
	except := mkNetworks("where", "10.0.0.0/8")
	except.Spec.Networks[0].Except = []string{"nowhere"}
	for name, bad := range map[string]*api.NetworkAuthentication{"none": mkNetworks("where"), "one of them": mkNetworks("where", "10.0.0.0/8", "x"), "an exception": except} {
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			x := mkIndex(dialect, nil)
			x.apply(mkPod("voting"), grpcServer(), mkPolicy("p", onServer("grpc"), networks("where")), bad)
			if got := x.grants(t); len(got) > 0 {
				t.Errorf("%s, %s: never valid, granted %v", name, dialect, got)
			}
			x.apply(mkNetworks("where", "192.0.2.0/24"))
			x.apply(bad)
			var want []string
			if !dialect.InvalidRevokes {
				want = []string{"p"}
			}
			if got := x.grants(t); !slices.Equal(got, want) {
				t.Errorf("%s, %s: after an update granted %v, want %v", name, dialect, got, want)
			}
		}
	}
}

// X-50 in our order: by name, then by kind, what is built in last.
func TestNamedAuthorizationsComeFirst(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(func(s *api.Server) { s.Spec.AccessPolicy = api.Audit }),
		mkAuthorization("b", "grpc", anyone), mkPolicy("c", onServer("grpc")), mkPolicy("b", onServer("grpc")),
		mkPolicy("a", api.LocalTargetReference{Kind: "Namespace", Name: ns}))
	var got []Reference
	for _, a := range x.at(t, "voting", 8080).Authorizations {
		got = append(got, a.Reference)
	}
	want := []Reference{{AuthorizationPolicy, "a"}, {AuthorizationPolicy, "b"}, {ServerAuthorization, "b"}, {AuthorizationPolicy, "c"}, {Default, "audit"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
