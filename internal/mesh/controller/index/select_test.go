package index

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestSelectorsMatchAsKubernetesSaysAndNothingWhereMalformed(t *testing.T) {
	expression := func(operator api.SelectorOperator, values ...string) *api.LabelSelector {
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: "app", Operator: operator, Values: values}}}
	}
	empty := func(operator api.SelectorOperator) *api.LabelSelector {
		return &api.LabelSelector{MatchExpressions: []api.SelectorRequirement{{Key: "app", Operator: operator, Values: []string{}}}}
	}
	for _, row := range []struct {
		name     string
		selector *api.LabelSelector
		// for app=web, app=emoji and no app
		web, emoji, without bool
	}{
		{"empty", &api.LabelSelector{}, true, true, true},
		{"label", &api.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, true, false, false},
		{"two labels, one absent", &api.LabelSelector{MatchLabels: map[string]string{"app": "web", "tier": ""}}, false, false, false},
		{"In", expression(api.In, "web", "voting"), true, false, false},
		{"NotIn", expression(api.NotIn, "web"), false, true, true},
		{"Exists", expression(api.Exists), true, true, false},
		{"DoesNotExist", expression(api.DoesNotExist), false, false, true},
		{"In without values", expression(api.In), false, false, false},
		{"NotIn without values", expression(api.NotIn), false, false, false},
		{"In with an empty list", empty(api.In), false, false, false},
		{"NotIn with an empty list", empty(api.NotIn), true, true, true},
		{"Exists with values", expression(api.Exists, "web"), false, false, false},
		{"Exists with an empty list", empty(api.Exists), false, false, false},
		{"DoesNotExist with an empty list", empty(api.DoesNotExist), false, false, false},
		{"an unknown operator", expression("Gt", "1"), false, false, false},
		{"labels and expressions are ANDed", &api.LabelSelector{
			MatchLabels: map[string]string{"app": "web"}, MatchExpressions: expression(api.NotIn, "web").MatchExpressions}, false, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := []bool{
				matches(row.selector, map[string]string{"app": "web"}), matches(row.selector, map[string]string{"app": "emoji"}),
				matches(row.selector, map[string]string{"tier": "x"}),
			}
			if diff := cmp.Diff([]bool{row.web, row.emoji, row.without}, got); diff != "" {
				t.Errorf("web, emoji, without: -want +got\n%s", diff)
			}
		})
	}
}

func TestAServersPortSelectsTheseNumbers(t *testing.T) {
	many := func(pod *corev1.Pod) {
		pod.Spec.InitContainers = []corev1.Container{{Name: "sidecar", Ports: []corev1.ContainerPort{
			{Name: "grpc", ContainerPort: 7070, Protocol: corev1.ProtocolTCP},
			{Name: "grpc", ContainerPort: 7071, Protocol: corev1.ProtocolUDP},
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
		}}}
	}
	candidates := []uint16{53, 7070, 7071, 8080, 8801, 9999}
	for _, row := range []struct {
		port                intstr.IntOrString
		documented, linkerd []uint16
	}{
		{intstr.FromString("grpc"), []uint16{7070, 8080}, []uint16{7070, 8080}},
		{intstr.FromString("GRPC"), nil, nil},
		{intstr.FromString("dns"), nil, nil},
		{intstr.FromString("8080"), nil, nil},
		{intstr.FromInt32(8080), []uint16{8080}, []uint16{8080}},
		{intstr.FromInt32(9999), nil, []uint16{9999}},
		{intstr.FromInt32(53), nil, []uint16{53}},
	} {
		got := map[string][]uint16{}
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			x := mkIndex(dialect, nil)
			x.apply(mkPod("voting", many), mkServer("s", "voting", row.port))
			for _, port := range candidates {
				if x.at(t, "voting", port).Reference.Kind == Server {
					got[dialect.String()] = append(got[dialect.String()], port)
				}
			}
		}
		want := map[string][]uint16{}
		if row.documented != nil {
			want["documented"] = row.documented
		}
		if row.linkerd != nil {
			want["linkerd"] = row.linkerd
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("port %v: -want +got\n%s", row.port.String(), diff)
		}
	}
}

func TestOfOverlappingServersTheOldestAndThenTheFirstByNameDecides(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	at := func(name string, age time.Duration) *api.Server {
		return mkServer(name, "voting", intstr.FromInt32(8080), func(s *api.Server) { s.CreationTimestamp = metav1.NewTime(epoch.Add(-age)) })
	}
	oldest, a, b := at("z-oldest", time.Hour), at("a", 0), at("b", 0)
	x.apply(mkPod("voting"), b, a, oldest)
	w, err := x.Watch(ns, "voting", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var order []string
	for _, next := range []*api.Server{oldest, a, b} {
		<-w.Changed()
		order = append(order, w.Snapshot().Server.Reference.Name)
		x.remove(next)
	}
	<-w.Changed()
	order = append(order, w.Snapshot().Server.Reference.Name)
	if diff := cmp.Diff([]string{"z-oldest", "a", "b", "all-unauthenticated"}, order); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestSelectionFollowsLabelsOfPodsAndServers(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	server := mkServer("grpc", "voting", intstr.FromString("grpc"))
	x.apply(mkPod("voting"), server)
	kind := func() Kind { return x.at(t, "voting", 8080).Reference.Kind }
	if kind() != Server {
		t.Error("the Server does not select the pod")
	}
	x.apply(mkPod("voting", labelled("app", "other")))
	if kind() != Default {
		t.Error("the Server still selects a pod that has lost the label")
	}
	x.apply(mkServer("grpc", "other", intstr.FromString("grpc")))
	if kind() != Server {
		t.Error("the Server does not select by its new selector")
	}
	x.apply(mkServer("grpc", "other", intstr.FromString("prom")))
	if kind() != Default {
		t.Error("the Server still selects by its old port")
	}
}

func TestServersAndAuthorizationsStayInTheirNamespace(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	foreign := mkServer("grpc", "voting", intstr.FromString("grpc"))
	foreign.Namespace = "other"
	authorization := mkAuthorization("any", "prom", anyone)
	authorization.Namespace = "other"
	x.apply(mkPod("voting"), foreign, authorization, mkServer("prom", "voting", intstr.FromString("prom")))
	expect(t, defaultServer(api.AllUnauthenticated), x.at(t, "voting", 8080))
	if got := x.at(t, "voting", 8801).Authorizations; got != nil {
		t.Errorf("an authorization of another namespace grants %v", got)
	}
}

func TestAuthorizationsSelectServersByTheirOwnLabels(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	byLabel := mkAuthorization("internal", "", anyone)
	byLabel.Spec.Server.Selector = &api.LabelSelector{MatchLabels: map[string]string{"emojivoto/api": "internal-grpc"}}
	marked := func(s *api.Server) { s.Labels = map[string]string{"emojivoto/api": "internal-grpc"} }
	x.apply(mkPod("voting"), byLabel, mkServer("grpc", "voting", intstr.FromString("grpc"), marked), mkServer("prom", "voting", intstr.FromString("prom")))
	grants := func(port uint16) int { return len(x.at(t, "voting", port).Authorizations) }
	if grants(8080) != 1 || grants(8801) != 0 {
		t.Errorf("grants on grpc %d, on prom %d", grants(8080), grants(8801))
	}
	x.apply(mkServer("grpc", "voting", intstr.FromString("grpc")), mkServer("prom", "voting", intstr.FromString("prom"), marked))
	if grants(8080) != 0 || grants(8801) != 1 {
		t.Errorf("after the labels moved: grants on grpc %d, on prom %d", grants(8080), grants(8801))
	}
}

func TestAClientIsReadAsItsFieldsSay(t *testing.T) {
	mesh := func(tls api.MeshTLS) api.Client { return api.Client{MeshTLS: &tls} }
	except := func(cidr string, except ...string) api.Client {
		return api.Client{Unauthenticated: true, Networks: []api.Network{{CIDR: cidr, Except: except}}}
	}
	for _, row := range []struct {
		name     string
		client   api.Client
		networks []Network
		want     Authentication
		problem  string
	}{
		{name: "anyone", client: anyone, networks: inCluster, want: nobody},
		{name: "an empty list of networks", client: api.Client{Unauthenticated: true, Networks: []api.Network{}}, networks: inCluster, want: nobody},
		{name: "TLS", client: mesh(api.MeshTLS{UnauthenticatedTLS: true}), networks: inCluster, want: Authentication{Kind: TLSUnauthenticated}},
		{name: "any identity", client: mesh(api.MeshTLS{Identities: []string{"*"}}), networks: inCluster, want: identified},
		{name: "identities, wildcards and accounts", networks: inCluster,
			client: mesh(api.MeshTLS{Identities: []string{"z.y", "*.b.c", "a.*.b"}, ServiceAccounts: []api.ServiceAccountReference{{Name: "web"}, {Name: "web", Namespace: "other"}}}),
			want: Authentication{Kind: Identified, Suffixes: [][]string{{"b", "c"}}, Identities: []string{
				"a.*.b", "web.emojivoto.serviceaccount.identity.linkerd.cluster.local", "web.other.serviceaccount.identity.linkerd.cluster.local", "z.y"}}},
		{name: "a network with exceptions", client: except("10.1.2.3/16", "10.1.5.0/24", "10.1.6.7"), want: nobody,
			networks: []Network{{pfx("10.1.0.0/16"), prefixes("10.1.5.0/24", "10.1.6.7/32")}}},
		{name: "single addresses", client: except("fd00::1"), want: nobody, networks: []Network{{Prefix: pfx("fd00::1/128")}}},

		{name: "nobody", client: api.Client{}, problem: "spec.client: "},
		{name: "mesh TLS without a client", client: mesh(api.MeshTLS{}), problem: "spec.client.meshTLS: "},
		{name: "empty lists", client: mesh(api.MeshTLS{Identities: []string{}, ServiceAccounts: []api.ServiceAccountReference{}}), problem: "spec.client.meshTLS: "},
		{name: "unauthenticated and mesh TLS", client: api.Client{Unauthenticated: true, MeshTLS: &api.MeshTLS{UnauthenticatedTLS: true}}, problem: "spec.client.unauthenticated: "},
		{name: "unauthenticated TLS and identities", client: mesh(api.MeshTLS{UnauthenticatedTLS: true, Identities: []string{"*"}}), problem: "spec.client.meshTLS.unauthenticatedTLS: "},
		{name: "no CIDR", client: except("10.0.0.0/33"), problem: "spec.client.networks[0].cidr: "},
		{name: "a name for a network", client: except("localhost"), problem: "spec.client.networks[0].cidr: "},
		{name: "a zone", client: except("fe80::1%eth0"), problem: "spec.client.networks[0].cidr: "},
		{name: "a bad exception", client: except("10.0.0.0/8", "x"), problem: "spec.client.networks[0].except[0]: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromInt32(8080)), mkAuthorization("a", "grpc", row.client))
			var want []Authorization
			if row.problem == "" {
				want = []Authorization{{Reference{ServerAuthorization, "a"}, row.networks, row.want}}
			}
			if diff := cmp.Diff(want, x.at(t, "voting", 8080).Authorizations, equateValues); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			problems := x.config.NewAuthorizationSpec(mkAuthorization("a", "grpc", row.client)).Problems.String()
			if !strings.HasPrefix(problems, row.problem) || row.problem == "" && problems != "" {
				t.Errorf("problems %q, want them to begin with %q", problems, row.problem)
			}
		})
	}
}

func TestIdentitiesFollowTheControlPlanesNamespaceAndDomain(t *testing.T) {
	x := mkIndex(api.Documented(), func(c *Config) { c.ControlPlaneNamespace, c.IdentityDomain = "mesh", "example.org" })
	x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromInt32(8080)),
		mkAuthorization("a", "grpc", api.Client{MeshTLS: &api.MeshTLS{ServiceAccounts: []api.ServiceAccountReference{{Name: "web"}}}}))
	want := []string{"web.emojivoto.serviceaccount.identity.mesh.example.org"}
	if diff := cmp.Diff(want, x.at(t, "voting", 8080).Authorizations[0].Authentication.Identities); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
