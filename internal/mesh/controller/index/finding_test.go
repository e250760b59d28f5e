package index

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// unshown are the reasons that no finding of the tests has had yet.
var unshown = func() map[Reason]bool {
	all := map[Reason]bool{}
	for _, reason := range Reasons() {
		all[reason] = true
	}
	return all
}()

// shown checks findings against what is wanted, and notes their reasons.
func shown(t *testing.T, when string, want, got []Finding) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got\n%s", when, diff)
	}
	for _, finding := range got {
		delete(unshown, finding.Reason)
	}
}

// S-11, U-06.
func TestObjectsThatDoNotDoWhatTheySeemToAreFound(t *testing.T) {
	object := func(kind, name string) Object { return Object{kind, ns, name, "uid-" + name} }
	emojivoto := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns, UID: "uid-" + ns, Annotations: map[string]string{api.DefaultPolicyAnnotation: "none"}}}
	six := "all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, deny, audit"
	for _, row := range []struct {
		name    string
		objects []any
		want    []Finding
	}{
		{"all is well", []any{mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")), mkAuthorization("a", "grpc", anyone)}, nil},
		{"a Server without pods", []any{mkServer("grpc", "voting", intstr.FromInt32(9999))}, nil},
		{"an undeclared number", []any{mkPod("voting"), mkServer("s", "voting", intstr.FromInt32(9999))},
			[]Finding{{object("Server", "s"), PortNotDeclared, "port 9999 is not selected where no container declares it: voting"}}},
		{"a name that no pod declares", []any{mkPod("voting"), mkServer("s", "voting", intstr.FromString("http"))},
			[]Finding{{object("Server", "s"), PortNotDeclared, `port "http" is not selected where no container declares it: voting`}}},
		{"a name that one of the pods declares", []any{mkPod("voting"), mkPod("other", labelled("app", "voting"), func(p *corev1.Pod) { p.Spec.Containers[1].Ports = nil }),
			mkServer("s", "voting", intstr.FromString("grpc"))}, nil},
		{"an older Server on the same port", []any{mkPod("voting"), mkServer("new", "voting", intstr.FromInt32(8080)),
			mkServer("old", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Second)) })},
			[]Finding{{object("Server", "new"), Overlapped, "another Server decides: old on port 8080 of voting"}}},
		{"an absent Server", []any{mkAuthorization("a", "grpc", anyone)},
			[]Finding{{object("ServerAuthorization", "a"), NoSuchServer, `there is no Server "grpc"; access is granted once it exists`}}},
		{"unusable objects", []any{mkPod("voting"), mkServer("s", "voting", intstr.FromInt32(0)), mkAuthorization("a", "grpc", api.Client{})},
			[]Finding{
				{object("Server", "s"), Unusable, "admits nobody until it is valid: spec.port: 0 is not between 1 and 65535"},
				{object("ServerAuthorization", "a"), Unusable, "admits nobody until it is valid: spec.client: holds neither unauthenticated nor meshTLS, it admits nobody"},
			}},
		{"an invalid default on a pod", []any{mkPod("voting", annotated(api.DefaultPolicyAnnotation, "Deny"))},
			[]Finding{{object("Pod", "voting"), SettingIgnored, `metadata.annotations[config.linkerd.io/default-inbound-policy]: "Deny" is not one of ` + six + ", it has no effect"}}},
		{"an invalid default in the proxy", []any{mkPod("voting", withDefault("x"))},
			[]Finding{{object("Pod", "voting"), SettingIgnored, `spec.containers[linkerd-proxy].env[LINKERD2_PROXY_INBOUND_DEFAULT_POLICY]: "x" is not one of ` + six + ", the cluster's default applies"}}},
		{"an invalid default on the namespace", []any{emojivoto},
			[]Finding{{Object{"Namespace", "", ns, "uid-" + ns}, SettingIgnored, `metadata.annotations[config.linkerd.io/default-inbound-policy]: "none" is not one of ` + six + ", it has no effect"}}},
		{"opaque ports that are none", []any{mkPod("voting", annotated(api.OpaquePortsAnnotation, "25,mysql,9-1"))},
			[]Finding{{object("Pod", "voting"), SettingIgnored, `metadata.annotations[config.linkerd.io/opaque-ports]: "mysql" is neither a port, a range of ports nor a port name of the pod, it is left out; ` +
				`metadata.annotations[config.linkerd.io/opaque-ports]: "9-1" is not a range of ports, it is left out`}}},
		{"a probe path without slash", []any{mkPod("voting", withProbe("healthz", 8080))},
			[]Finding{{object("Pod", "voting"), SettingIgnored, `spec.containers[app]: probe path "healthz" does not begin with /, the probe is not authorized by itself`}}},
		{"an AuthorizationPolicy for an absent Server", []any{mkPolicy("p", onServer("grpc"))},
			[]Finding{{object("AuthorizationPolicy", "p"), NoSuchServer, `there is no Server "grpc"; access is granted once it exists`}}},
		{"one for a namespace without Servers", []any{mkPolicy("p", api.LocalTargetReference{Kind: "Namespace", Name: ns})},
			[]Finding{{object("AuthorizationPolicy", "p"), NoServers, "the namespace has no Servers; ports without one have their default policy whatever this says"}}},
		{"one for an absent route", []any{mkPolicy("p", api.LocalTargetReference{Group: api.GatewayGroup, Kind: "GRPCRoute", Name: "r"})},
			[]Finding{{object("AuthorizationPolicy", "p"), NoSuchRoute, `there is no GRPCRoute "r" of group gateway.networking.k8s.io; access is granted once it exists`}}},
		{"X-49 one for a route of the other group", []any{grpcServer(), mkRoute("r", "grpc"), mkPolicy("p", api.LocalTargetReference{Group: api.GatewayGroup, Kind: "HTTPRoute", Name: "r"})},
			[]Finding{{object("AuthorizationPolicy", "p"), WrongGroup, `HTTPRoute "r" is of group policy.linkerd.io, not gateway.networking.k8s.io; nothing is granted`}}},
		{"U-06 absent authentications", []any{grpcServer(), mkPolicy("p", onServer("grpc"), meshTLS("who"), in("ops", networks("where")))},
			[]Finding{{object("AuthorizationPolicy", "p"), NoSuchAuthentication,
				"there is no MeshTLSAuthentication emojivoto/who; access is granted once it exists; there is no NetworkAuthentication ops/where; access is granted once it exists"}}},
		{"an authentication that cannot be used", []any{grpcServer(), mkPolicy("p", onServer("grpc"), networks("where")), mkNetworks("where")},
			[]Finding{
				{object("AuthorizationPolicy", "p"), NoSuchAuthentication, "NetworkAuthentication emojivoto/where cannot be used; access is granted once it is valid"},
				{object("NetworkAuthentication", "where"), Unusable, "admits nobody until it is valid: spec.networks: is empty, it admits nobody"},
			}},
		{"a policy that cannot be understood", []any{mkPolicy("p", api.LocalTargetReference{Kind: "Service", Name: "s"})},
			[]Finding{{object("AuthorizationPolicy", "p"), Unusable,
				"admits nobody until it is valid: spec.targetRef: Service cannot be a target, want a Server, the Namespace, an HTTPRoute or a GRPCRoute of group gateway.networking.k8s.io"}}},
		{"a route for an absent Server", []any{mkRoute("r", "grpc")},
			[]Finding{{object("HTTPRoute", "r"), NoSuchServer, `there is no Server "grpc"; the route counts once it exists`}}},
		{"C-27 a parent whose kind was left out", []any{grpcServer(), func() any {
			r := mkRoute("r", "grpc")
			r.Spec.ParentRefs[0].Kind = nil
			return r
		}()}, []Finding{{object("HTTPRoute", "r"), ParentIsNoServer,
			"spec.parentRefs[0] is a Gateway of group policy.linkerd.io, write kind: Server and group: policy.linkerd.io if a Server is meant"}}},
		{"a Gateway as parent that no Server is named like", []any{grpcServer(), func() any {
			r := mkRoute("r")
			r.TypeMeta, r.Spec.ParentRefs = gatewayMeta, []api.ParentReference{{Name: "gateway"}}
			return r
		}()}, nil},
		{"X-52 and X-55 routes that are ignored", []any{grpcServer(), func() any {
			r := mkRoute("r", "grpc")
			r.Spec.ParentRefs[0].Port = new(int32(80))
			r.Spec.Rules[0].Filters = []api.HTTPRouteFilter{{Type: api.FilterURLRewrite}}
			return r
		}()}, []Finding{{object("HTTPRoute", "r"), RouteIgnored,
			"the whole route counts for nothing: spec.parentRefs[0].port: a Server as parent takes no port; spec.rules[0].filters[0]: URLRewrite cannot be on a route of a Server"}}},
		{"X-55 a filter that is dropped", []any{grpcServer(), func() any {
			r := mkRoute("r", "grpc")
			r.Spec.Rules[0].Filters = []api.HTTPRouteFilter{{Type: api.FilterResponseHeaderModifier}}
			return r
		}()}, []Finding{{object("HTTPRoute", "r"), FilterIgnored, "spec.rules[0].filters[0]: ResponseHeaderModifier has no effect on a route of a Server"}}},
		{"X-54 routes and limits on Servers of other protocols", []any{grpcServer(speaking(api.ProtocolGRPC)), mkServer("web", "web", intstr.FromString("grpc"), speaking(api.ProtocolHTTP1)),
			mkRoute("r", "grpc"), mkGRPCRoute("r", "web"), mkLimit("l", 1)},
			[]Finding{
				{object("GRPCRoute.gateway.networking.k8s.io", "r"), WrongProtocol, `Server "web" has protocol http1, to which the route means nothing`},
				{object("HTTPLocalRateLimitPolicy", "l"), WrongProtocol, `Server "grpc" has protocol grpc, which cannot be limited`},
				{object("HTTPRoute", "r"), WrongProtocol, `Server "grpc" has protocol grpc, to which the route means nothing`},
			}},
		{"a limit of an absent Server", []any{mkLimit("l", 1)},
			[]Finding{{object("HTTPLocalRateLimitPolicy", "l"), NoSuchServer, `there is no Server "grpc"; nothing is limited until it exists`}}},
		{"a limit that cannot be understood", []any{grpcServer(), mkLimit("l", 0)},
			[]Finding{{object("HTTPLocalRateLimitPolicy", "l"), Unusable, "only what can be understood holds until it is valid: spec.total.requestsPerSecond: 0 is no limit, want at least 1"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			var told []string
			x.OnChange(func(namespaces []string) { told = append(told, namespaces...) })
			x.apply(row.objects...)
			shown(t, row.name, row.want, x.Findings(ns))
			if diff := cmp.Diff([]string{ns}, told); diff != "" {
				t.Errorf("namespaces told of: -want +got\n%s", diff)
			}
		})
	}
}

// C-20, X-45: what is only turned into a name need not exist, and is told all the
// same once everything that exists is known, in whatever namespace it should be.
func TestNamesOfAccountsAndNamespacesThatDoNotExistAreFound(t *testing.T) {
	who := mkMeshTLS("who")
	who.Spec.IdentityRefs = []api.IdentityReference{{Kind: "ServiceAccount", Name: "web", Namespace: "ops"}, {Kind: "Namespace", Name: "ops"}}
	objects := []any{
		grpcServer(), who, mkPolicy("p", onServer("grpc"), in("ops", account("web"))),
		mkAuthorization("a", "grpc", api.Client{MeshTLS: &api.MeshTLS{ServiceAccounts: []api.ServiceAccountReference{{Name: "web", Namespace: "ops"}}}}),
		mkLimit("l", 1, func(l *api.HTTPLocalRateLimitPolicy) {
			l.Spec.Overrides = []api.LimitOverride{{RequestsPerSecond: 1, ClientRefs: []api.LimitClientReference{{Kind: "ServiceAccount", Name: "web", Namespace: "ops"}}}}
		}),
	}
	x := mkIndex(api.Documented(), nil)
	x.apply(objects...)
	noNamespace := Finding{Object{"MeshTLSAuthentication", ns, "who", "uid-who"}, NoSuchNamespace, "there is no Namespace ops"}
	found := func(when string, want ...Finding) {
		t.Helper()
		shown(t, when, want, x.Findings(ns))
	}
	found("before the accounts are known", noNamespace)
	var told []string
	x.OnChange(func(namespaces []string) { told = append(told, namespaces...) })
	tells := func(when string, change func()) {
		t.Helper()
		told = nil
		change()
		if !slices.Contains(told, ns) {
			t.Errorf("%s: told of %v only", when, told)
		}
	}
	tells("accounts known", func() { x.Update((*Tx).AccountsKnown) })
	var want []Finding
	for _, at := range []Object{
		{"AuthorizationPolicy", ns, "p", "uid-p"}, {"HTTPLocalRateLimitPolicy", ns, "l", "uid-l"}, {"MeshTLSAuthentication", ns, "who", "uid-who"}, {"ServerAuthorization", ns, "a", "uid-a"},
	} {
		want = append(want, Finding{at, NoSuchAccount, "there is no ServiceAccount ops/web"})
	}
	found("accounts known", slices.Insert(slices.Clone(want), 3, noNamespace)...)
	ops := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ops"}}
	tells("the namespace exists", func() { x.apply(ops) })
	found("the namespace exists", want...)
	web := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "web"}}
	tells("the account exists", func() { x.apply(web) })
	found("the account exists")
	tells("both are gone", func() { x.remove(web, ops) })
	found("both are gone", slices.Insert(slices.Clone(want), 3, noNamespace)...)
	x.remove(objects...)
	if len(x.mentions) > 0 {
		t.Errorf("still mentioned: %v", x.mentions)
	}
}

// An authentication of another namespace concerns those who require it.
func TestFindingsFollowAuthenticationsOfOtherNamespaces(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(grpcServer(), mkPolicy("p", onServer("grpc"), in("ops", networks("where"))))
	var told []string
	x.OnChange(func(namespaces []string) { told = slices.Sorted(slices.Values(namespaces)) })
	where := mkNetworks("where", "10.0.0.0/8")
	where.Namespace = "ops"
	for exists, change := range map[bool]func(...any){true: x.apply, false: x.remove} {
		x.remove(where)
		if !exists {
			x.apply(where)
		}
		told = nil
		change(where)
		if diff := cmp.Diff([]string{ns, "ops"}, told); diff != "" || (len(x.Findings(ns)) == 0) != exists {
			t.Errorf("exists %v: found %v, told of: -want +got\n%s", exists, x.Findings(ns), diff)
		}
	}
}

func TestServersOverPodsWithoutProxyAreFound(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")))
	x.Update(func(tx *Tx) {
		for i := range 5 {
			tx.SetBystander(ns, fmt.Sprintf("bare-%d", i), map[string]string{"app": "voting"})
		}
		tx.SetBystander(ns, "other", map[string]string{"app": "other"})
	})
	want := []Finding{{Object{"Server", ns, "grpc", "uid-grpc"}, NoProxy, "nothing is enforced on pods without a proxy: bare-0, bare-1, bare-2 and 2 more"}}
	shown(t, "over bare pods", want, x.Findings(ns))
	x.Update(func(tx *Tx) {
		for i := range 5 {
			tx.DeleteBystander(ns, fmt.Sprintf("bare-%d", i))
		}
	})
	if got := x.Findings(ns); got != nil {
		t.Errorf("still found: %v", got)
	}
}

func TestLinkerdsDialectFindsNeitherUndeclaredNumbersNorDefaults(t *testing.T) {
	x := mkIndex(api.Linkerd(), nil)
	x.apply(mkPod("voting", annotated(api.DefaultPolicyAnnotation, "Deny")), mkServer("s", "voting", intstr.FromInt32(9999)))
	if got := x.Findings(ns); got != nil {
		t.Errorf("found %v", got)
	}
}

func TestAnEmptiedNamespaceIsForgotten(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	objects := []any{mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")), mkAuthorization("a", "grpc", anyone)}
	x.apply(objects...)
	x.remove(objects...)
	if got := x.Namespaces(); len(got) != 0 {
		t.Errorf("still known: %v", got)
	}
}

// It comes last in the file: what the tests before have found is all there is.
func TestEveryReasonIsFoundByATest(t *testing.T) {
	if flag.Lookup("test.run").Value.String() != "" {
		t.Skip("only some of the tests were run")
	}
	for reason := range unshown {
		t.Errorf("no test finds %s", reason)
	}
}
