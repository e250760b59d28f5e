package index

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

const ns = "emojivoto"

var (
	clusterNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	probeNetworks   = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	// equateValues compares what the package calls equal.
	equateValues = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}
)

// mkIndex makes an index of a cluster with networks; edit may be nil.
func mkIndex(dialect api.Dialect, edit func(*Config)) *Index {
	config := Config{ClusterNetworks: clusterNetworks, ProbeNetworks: probeNetworks, Dialect: dialect}
	if edit != nil {
		edit(&config)
	}
	return New(config)
}

// mkPod makes an injected pod with label app=name, ports grpc 8080 and prom 8801
// and the proxy's own.
func mkPod(name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, UID: types.UID("uid-" + name),
			Labels:      map[string]string{"app": name, api.ControlPlaneLabel: "linkerd"},
			Annotations: map[string]string{},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{
				Name:           api.ProxyContainer,
				Ports:          []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: 4143}, {Name: "linkerd-admin", ContainerPort: 4191}},
				LivenessProbe:  mkProbe("/live", intstr.FromInt32(4191)),
				ReadinessProbe: mkProbe("/ready", intstr.FromInt32(4191)),
				Env:            []corev1.EnvVar{{Name: api.ProxyDefaultPolicyVariable, Value: string(api.AllUnauthenticated)}},
			},
			{Name: "app", Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 8080}, {Name: "prom", ContainerPort: 8801}}},
		}},
	}
	for _, edit := range edits {
		edit(pod)
	}
	return pod
}

func mkProbe(path string, port intstr.IntOrString) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port}}}
}

// withDefault sets the default that the pod was created with.
func withDefault(policy string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].Env[0].Value = policy }
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Annotations[key] = value }
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Labels[key] = value }
}

// withProbe has the app container probed.
func withProbe(path string, port int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.Containers[1].ReadinessProbe = mkProbe(path, intstr.FromInt32(port)) }
}

// mkServer selects pods with app=app.
func mkServer(name, app string, port intstr.IntOrString, edits ...func(*api.Server)) *api.Server {
	server := &api.Server{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(epoch)},
		Spec:       api.ServerSpec{PodSelector: &api.LabelSelector{MatchLabels: map[string]string{"app": app}}, Port: port, ProxyProtocol: api.ProtocolUnknown, AccessPolicy: api.Deny},
	}
	for _, edit := range edits {
		edit(server)
	}
	return server
}

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// mkAuthorization names server and admits client.
func mkAuthorization(name, server string, client api.Client) *api.ServerAuthorization {
	return &api.ServerAuthorization{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, UID: types.UID("uid-" + name)},
		Spec:       api.ServerAuthorizationSpec{Server: api.ServerReference{Name: server}, Client: client},
	}
}

var anyone = api.Client{Unauthenticated: true}

// routeKind is the kind of an HTTPRoute by its apiVersion, policy.linkerd.io if
// it has none.
func routeKind(route *api.HTTPRoute) Kind {
	if strings.HasPrefix(route.APIVersion, api.GatewayGroup) {
		return GatewayHTTPRoute
	}
	return PolicyHTTPRoute
}

// apply is what the watches do with objects.
func (x *Index) apply(objects ...any) { x.Update(func(tx *Tx) { tx.apply(objects...) }) }

func (tx *Tx) apply(objects ...any) {
	x := tx.index
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Pod:
			tx.SetPod(o.Namespace, o.Name, NewPodSpec(o, x.config.Dialect))
		case *api.Server:
			tx.SetServer(o.Namespace, o.Name, NewServerSpec(o))
		case *api.ServerAuthorization:
			tx.SetAuthorization(o.Namespace, o.Name, x.config.NewAuthorizationSpec(o))
		case *corev1.Namespace:
			tx.SetNamespace(o.Name, NewNamespaceSpec(o))
		case *api.AuthorizationPolicy:
			tx.SetPolicy(o.Namespace, o.Name, x.config.NewPolicySpec(o))
		case *api.MeshTLSAuthentication:
			tx.SetMeshTLS(o.Namespace, o.Name, x.config.NewMeshTLSSpec(o))
		case *api.NetworkAuthentication:
			tx.SetNetworks(o.Namespace, o.Name, NewNetworksSpec(o))
		case *api.HTTPRoute:
			kind := routeKind(o)
			tx.SetRoute(kind, o.Namespace, o.Name, x.config.NewHTTPRouteSpec(kind, o))
		case *api.GRPCRoute:
			tx.SetRoute(GatewayGRPCRoute, o.Namespace, o.Name, x.config.NewGRPCRouteSpec(o))
		case *api.HTTPLocalRateLimitPolicy:
			tx.SetRateLimit(o.Namespace, o.Name, x.config.NewRateLimitSpec(o))
		case *corev1.ServiceAccount:
			tx.SetAccount(o.Namespace, o.Name, struct{}{})
		default:
			panic(fmt.Sprintf("%T", o))
		}
	}
}

func (x *Index) remove(objects ...any) { x.Update(func(tx *Tx) { tx.remove(objects...) }) }

func (tx *Tx) remove(objects ...any) {
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.Pod:
			tx.DeletePod(o.Namespace, o.Name)
		case *api.Server:
			tx.DeleteServer(o.Namespace, o.Name)
		case *api.ServerAuthorization:
			tx.DeleteAuthorization(o.Namespace, o.Name)
		case *corev1.Namespace:
			tx.DeleteNamespace(o.Name)
		case *api.AuthorizationPolicy:
			tx.DeletePolicy(o.Namespace, o.Name)
		case *api.MeshTLSAuthentication:
			tx.DeleteMeshTLS(o.Namespace, o.Name)
		case *api.NetworkAuthentication:
			tx.DeleteNetworks(o.Namespace, o.Name)
		case *api.HTTPRoute:
			tx.DeleteRoute(routeKind(o), o.Namespace, o.Name)
		case *api.GRPCRoute:
			tx.DeleteRoute(GatewayGRPCRoute, o.Namespace, o.Name)
		case *api.HTTPLocalRateLimitPolicy:
			tx.DeleteRateLimit(o.Namespace, o.Name)
		case *corev1.ServiceAccount:
			tx.DeleteAccount(o.Namespace, o.Name)
		default:
			panic(fmt.Sprintf("%T", o))
		}
	}
}

func (x *Index) at(t *testing.T, pod string, port uint16) InboundServer {
	t.Helper()
	snapshot, err := x.Lookup(ns, pod, port)
	if err != nil {
		t.Fatalf("look up %s:%d: %v", pod, port, err)
	}
	return snapshot.Server
}

func expect(t *testing.T, want, got InboundServer) {
	t.Helper()
	if diff := cmp.Diff(want, got, equateValues); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// What whole values are made of.

var (
	detect       = Protocol{Kind: Detect, DetectTimeout: 10 * time.Second}
	defaultRoute = HTTPRoute{Reference: Reference{Default, "default"}, Rules: []HTTPRule{{Matches: []HTTPMatch{{Path: PathMatch{Prefix, "/"}}}}}}
	allCalls     = GRPCRoute{Reference: Reference{Default, "default"}, Rules: []GRPCRule{{Matches: []GRPCMatch{{RPC: &RPCMatch{}}}}}}
	worldwide    = whole([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
	inCluster    = whole(clusterNetworks)
	nobody       = Authentication{Kind: Unauthenticated}
	identified   = Authentication{Kind: Identified, Suffixes: [][]string{{}}}
)

func probeRoute(paths ...string) HTTPRoute {
	route := HTTPRoute{
		Reference:      Reference{Default, "probe"},
		Authorizations: []Authorization{{Reference{Default, "probe"}, whole(probeNetworks), nobody}},
	}
	var rule HTTPRule
	for _, path := range paths {
		rule.Matches = append(rule.Matches, HTTPMatch{Path: PathMatch{Exact, path}, Method: "GET"})
	}
	route.Rules = []HTTPRule{rule}
	return route
}

// granted is what each of the six policies grants; see the table in rule book 4.1.
var granted = map[api.PolicyName][]Authorization{
	api.AllUnauthenticated:     {{Reference{Default, "all-unauthenticated"}, worldwide, nobody}},
	api.AllAuthenticated:       {{Reference{Default, "all-authenticated"}, worldwide, identified}},
	api.ClusterUnauthenticated: {{Reference{Default, "cluster-unauthenticated"}, inCluster, nobody}},
	api.ClusterAuthenticated:   {{Reference{Default, "cluster-authenticated"}, inCluster, identified}},
	api.Deny:                   nil,
	api.Audit:                  {{Reference{Default, "audit"}, worldwide, nobody}},
}

func TestEveryPolicyHasItsRows(t *testing.T) {
	for _, policy := range api.PolicyNames() {
		if _, ok := builtins[policy]; !ok {
			t.Errorf("builtins lack %s", policy)
		}
		if _, ok := granted[policy]; !ok {
			t.Errorf("the tests' table lacks %s", policy)
		}
	}
	for _, name := range api.ProxyProtocols() {
		if _, ok := protocols[name]; !ok {
			t.Errorf("protocols lack %s", name)
		}
	}
}

// defaultServer is the policy of a port that no Server selects.
func defaultServer(policy api.PolicyName, probes ...HTTPRoute) InboundServer {
	return InboundServer{
		Reference: Reference{Default, string(policy)}, Protocol: detect, Authorizations: granted[policy],
		HTTPRoutes: append([]HTTPRoute{defaultRoute}, probes...),
	}
}

// X-10, D-01, D-07, P-15, W-20.
func TestAPortWithoutServerHasThePodsDefaultPolicy(t *testing.T) {
	for _, cluster := range api.PolicyNames() {
		for _, pod := range append([]api.PolicyName{""}, api.PolicyNames()...) {
			t.Run(fmt.Sprintf("cluster %s, pod %s", cluster, pod), func(t *testing.T) {
				x := mkIndex(api.Documented(), func(c *Config) { c.DefaultPolicy = cluster })
				x.apply(mkPod("voting", withDefault(string(pod))))
				want := pod
				if pod == "" {
					want = cluster
				}
				expect(t, defaultServer(want), x.at(t, "voting", 8080))
				expect(t, defaultServer(want), x.at(t, "voting", 9999))
				expect(t, defaultServer(want, probeRoute("/live", "/ready")), x.at(t, "voting", 4191))
			})
		}
	}
}

func TestADefaultPolicyIsReadWhereTheDialectKeepsIt(t *testing.T) {
	for _, row := range []struct {
		name                string
		created, annotation string
		documented, linkerd api.PolicyName
	}{
		{"both given", "all-authenticated", "deny", api.AllAuthenticated, api.Deny},
		{"created only", "all-authenticated", "", api.AllAuthenticated, api.Audit},
		{"annotation only", "", "deny", api.Audit, api.Deny},
		{"neither", "", "", api.Audit, api.Audit},
		{"annotation invalid", "deny", "Deny", api.Deny, api.Audit},
		{"created invalid", "none", "deny", api.Audit, api.Deny},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := map[string]api.PolicyName{}
			for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
				x := mkIndex(dialect, func(c *Config) { c.DefaultPolicy = api.Audit })
				pod := mkPod("voting", withDefault(row.created))
				if row.annotation != "" {
					annotated(api.DefaultPolicyAnnotation, row.annotation)(pod)
				}
				x.apply(pod)
				got[dialect.String()] = api.PolicyName(x.at(t, "voting", 8080).Reference.Name)
			}
			want := map[string]api.PolicyName{"documented": row.documented, "linkerd": row.linkerd}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAnEditedAnnotationIsFollowedInLinkerdsDialectOnly(t *testing.T) {
	for dialect, want := range map[string]api.PolicyName{"documented": api.AllUnauthenticated, "linkerd": api.Deny} {
		d, _ := api.ParseDialect(dialect)
		x := mkIndex(d, nil)
		x.apply(mkPod("voting"))
		x.apply(mkPod("voting", annotated(api.DefaultPolicyAnnotation, "deny")))
		expect(t, defaultServer(want), x.at(t, "voting", 8080))
	}
}

func TestPortsThatRequireIdentityHaveTheAuthenticatedTwin(t *testing.T) {
	twins := map[api.PolicyName]api.PolicyName{
		api.AllUnauthenticated: api.AllAuthenticated, api.AllAuthenticated: api.AllAuthenticated,
		api.ClusterUnauthenticated: api.ClusterAuthenticated, api.ClusterAuthenticated: api.ClusterAuthenticated,
		api.Deny: api.Deny, api.Audit: api.Audit,
	}
	for _, policy := range api.PolicyNames() {
		x := mkIndex(api.Documented(), nil)
		x.apply(mkPod("voting", withDefault(string(policy)), annotated(api.RequireIdentityAnnotation, "8080")),
			mkServer("prom", "voting", intstr.FromString("prom")))
		expect(t, defaultServer(twins[policy]), x.at(t, "voting", 8080))
		expect(t, defaultServer(policy), x.at(t, "voting", 8081))
	}
}

func TestOpaquePortsAreOpaqueWithoutRoutes(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting", annotated(api.OpaquePortsAnnotation, "25, 8000-8080,prom"), withProbe("/up", 8080)))
	want := defaultServer(api.AllUnauthenticated)
	want.Protocol, want.HTTPRoutes = Protocol{Kind: Opaque}, nil
	for _, port := range []uint16{25, 8000, 8080, 8801} {
		expect(t, want, x.at(t, "voting", port))
	}
	expect(t, defaultServer(api.AllUnauthenticated), x.at(t, "voting", 8081))
}

func TestOneNameDiscardsAListOfOpaquePortsInLinkerdsDialect(t *testing.T) {
	x := mkIndex(api.Linkerd(), nil)
	x.apply(mkPod("voting", annotated(api.OpaquePortsAnnotation, "25,prom")))
	expect(t, defaultServer(api.AllUnauthenticated), x.at(t, "voting", 25))
}

func TestProbesAreGrantedOnTheirPortAndExactPathsOnly(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting", withDefault("deny"), func(pod *corev1.Pod) {
		app := &pod.Spec.Containers[1]
		app.LivenessProbe = mkProbe("/live?verbose=1", intstr.FromString("GRPC"))
		app.ReadinessProbe = mkProbe("", intstr.FromInt32(8801))
		app.StartupProbe = mkProbe("/start", intstr.FromInt32(8080))
		pod.Spec.InitContainers = []corev1.Container{
			{Name: "native-sidecar", ReadinessProbe: mkProbe("/sidecar", intstr.FromInt32(8080)), StartupProbe: mkProbe("/start", intstr.FromInt32(8080))},
			{Name: "no-such-port", ReadinessProbe: mkProbe("/x", intstr.FromString("grpc"))},
			{Name: "no-slash", ReadinessProbe: mkProbe("healthz", intstr.FromInt32(8082))},
			{Name: "exec", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}},
			{Name: "tcp", ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8083)}}}},
		}
	}))
	expect(t, defaultServer(api.Deny, probeRoute("/live", "/sidecar", "/start")), x.at(t, "voting", 8080))
	expect(t, defaultServer(api.Deny, probeRoute("/")), x.at(t, "voting", 8801))
	expect(t, defaultServer(api.Deny), x.at(t, "voting", 8082))
	expect(t, defaultServer(api.Deny), x.at(t, "voting", 8083))
}

func TestWithoutProbeNetworksThereIsNoProbeRoute(t *testing.T) {
	x := mkIndex(api.Documented(), func(c *Config) { c.ProbeNetworks = nil })
	x.apply(mkPod("voting"))
	expect(t, defaultServer(api.AllUnauthenticated), x.at(t, "voting", 4191))
}

func TestWithoutClusterNetworksOnlyWhatNeedsThemGrantsNothing(t *testing.T) {
	for _, policy := range api.PolicyNames() {
		x := mkIndex(api.Documented(), func(c *Config) { c.ClusterNetworks = nil })
		x.apply(mkPod("voting", withDefault(string(policy))), mkServer("web", "voting", intstr.FromInt32(8801)), mkAuthorization("any", "web", anyone))
		want := defaultServer(policy)
		if policy == api.ClusterAuthenticated || policy == api.ClusterUnauthenticated {
			want.Authorizations = nil
		}
		expect(t, want, x.at(t, "voting", 8080))
		if got := x.at(t, "voting", 8801).Authorizations; got != nil {
			t.Errorf("an authorization for no network is served: %v", got)
		}
	}
}

func TestAServerDeniesEverybodyUntilAuthorized(t *testing.T) {
	for name, protocol := range protocols {
		t.Run(string(name), func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			server := mkServer("grpc", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.Spec.ProxyProtocol = name })
			x.apply(mkPod("voting", withProbe("/up", 8080)), server)
			want := InboundServer{Reference: Reference{Server, "grpc"}, Protocol: protocol}
			switch name {
			case api.ProtocolUnknown, api.ProtocolHTTP1, api.ProtocolHTTP2:
				want.HTTPRoutes = []HTTPRoute{defaultRoute}
			case api.ProtocolGRPC:
				want.GRPCRoutes = []GRPCRoute{allCalls}
			}
			expect(t, want, x.at(t, "voting", 8080))
			expect(t, defaultServer(api.AllUnauthenticated), x.at(t, "voting", 8801))

			x.apply(mkAuthorization("any", "grpc", anyone))
			want.Authorizations = []Authorization{{Reference{ServerAuthorization, "any"}, inCluster, nobody}}
			expect(t, want, x.at(t, "voting", 8080))

			x.remove(server)
			if got := x.at(t, "voting", 8080).Reference; got != (Reference{Default, "all-unauthenticated"}) {
				t.Errorf("without the Server the port belongs to %v", got)
			}
		})
	}
}

func TestServersKeepTheProbeGrantInLinkerdsDialectOnly(t *testing.T) {
	for _, name := range api.ProxyProtocols() {
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			x := mkIndex(dialect, nil)
			x.apply(mkPod("voting", withProbe("/up", 8080)),
				mkServer("grpc", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.Spec.ProxyProtocol = name }))
			got := x.at(t, "voting", 8080)
			var want []HTTPRoute
			if got.Protocol.Kind.httpCapable() {
				want = []HTTPRoute{defaultRoute}
				if dialect == api.Linkerd() {
					want = append(want, probeRoute("/up"))
				}
			}
			if diff := cmp.Diff(want, got.HTTPRoutes, equateValues); diff != "" {
				t.Errorf("%s, %s: -want +got\n%s", name, dialect, diff)
			}
		}
	}
}

func TestAccessPolicyAddsItsGrantAfterNamedOnes(t *testing.T) {
	for _, policy := range append([]api.PolicyName{""}, api.PolicyNames()...) {
		x := mkIndex(api.Documented(), nil)
		x.apply(mkPod("voting"), mkAuthorization("b", "grpc", anyone), mkAuthorization("a", "grpc", anyone),
			mkServer("grpc", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.Spec.AccessPolicy = policy }))
		want := append([]Authorization{
			{Reference{ServerAuthorization, "a"}, inCluster, nobody}, {Reference{ServerAuthorization, "b"}, inCluster, nobody},
		}, granted[policy]...)
		if diff := cmp.Diff(want, x.at(t, "voting", 8080).Authorizations, equateValues); diff != "" {
			t.Errorf("%s: -want +got\n%s", policy, diff)
		}
	}
}

func TestUnknownPodsAreNotFound(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"))
	for _, name := range [][2]string{{ns, "web"}, {"default", "voting"}} {
		if _, err := x.Lookup(name[0], name[1], 80); err != ErrNotFound {
			t.Errorf("%v: %v", name, err)
		}
		if _, err := x.Watch(name[0], name[1], 80); err != ErrNotFound {
			t.Errorf("watch %v: %v", name, err)
		}
	}
}
