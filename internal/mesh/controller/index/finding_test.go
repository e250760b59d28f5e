package index

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

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
	} {
		t.Run(row.name, func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			var told []string
			x.OnChange(func(namespaces []string) { told = append(told, namespaces...) })
			x.apply(row.objects...)
			if diff := cmp.Diff(row.want, x.Findings(ns)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff([]string{ns}, told); diff != "" {
				t.Errorf("namespaces told of: -want +got\n%s", diff)
			}
		})
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
	if diff := cmp.Diff(want, x.Findings(ns)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
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
