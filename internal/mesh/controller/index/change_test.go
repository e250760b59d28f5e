package index

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

func pfx(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, pfx(text))
	}
	return all
}

func mustWatch(t *testing.T, x *Index, pod string, port uint16) *Watch {
	t.Helper()
	w, err := x.Watch(ns, pod, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	<-w.Changed()
	return w
}

func changed(w *Watch) bool {
	select {
	case <-w.Changed():
		return true
	default:
		return false
	}
}

//
func TestAWatcherIsToldOnlyWhatReallyChanges(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	pod, server := mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc"))
	grant := mkAuthorization("any", "grpc", anyone)
	x.apply(pod, mkPod("web"), server, grant)
	w := mustWatch(t, x, "voting", 8080)

	version := func(o metav1.Object, n string) { o.SetResourceVersion(n); o.SetAnnotations(map[string]string{"n": n}) }
	for _, row := range []struct {
		name   string
		change func()
		told   bool
	}{
		{"objects written again unchanged", func() { x.apply(pod, server, grant) }, false},
		{"annotations and versions", func() {
			s, g := mkServer("grpc", "voting", intstr.FromString("grpc")), mkAuthorization("any", "grpc", anyone)
			version(s, "2")
			version(g, "3")
			x.apply(s, g)
		}, false},
		{"a label of the pod that nothing selects", func() { x.apply(mkPod("voting", labelled("x", "y"))) }, false},
		{"a label of the Server that nothing selects", func() {
			x.apply(mkServer("grpc", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.Labels = map[string]string{"x": "y"} }))
		}, false},
		{"another port's Server", func() { x.apply(mkServer("prom", "voting", intstr.FromString("prom"))) }, false},
		{"another Server's authorization", func() { x.apply(mkAuthorization("prom", "prom", anyone)) }, false},
		{"another pod", func() { x.remove(mkPod("web")) }, false},
		{"a younger Server on the same port", func() { x.apply(mkServer("zzz", "voting", intstr.FromInt32(8080))) }, false},
		{"the order of identities", func() {
			x.apply(mkAuthorization("two", "grpc", api.Client{MeshTLS: &api.MeshTLS{Identities: []string{"a", "b"}}}))
			if !changed(w) {
				t.Error("another identity goes unnoticed")
			}
			x.apply(mkAuthorization("two", "grpc", api.Client{MeshTLS: &api.MeshTLS{Identities: []string{"b", "a"}}}))
		}, false},
		{"who is authorized", func() {
			x.apply(mkAuthorization("any", "grpc", api.Client{MeshTLS: &api.MeshTLS{UnauthenticatedTLS: true}}))
		}, true},
		{"the authorization's deletion", func() { x.remove(grant) }, true},
		{"the Server's deletion", func() { x.remove(server) }, true},
	} {
		row.change()
		if told := changed(w); told != row.told {
			t.Errorf("%s: told %v, want %v", row.name, told, row.told)
		}
	}
}

// of a running pod only labels and annotations can change what it is told.
func TestAPodsOtherUpdatesChangeNothing(t *testing.T) {
	for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
		x := mkIndex(dialect, nil)
		pod := mkPod("voting", withProbe("/up", 8080))
		x.apply(pod, mkServer("grpc", "voting", intstr.FromString("grpc")))
		w, admin := mustWatch(t, x, "voting", 8080), mustWatch(t, x, "voting", 4191)
		next := pod.DeepCopy()
		next.ResourceVersion, next.Annotations["x"], next.Labels["y"] = "7", "1", "2"
		next.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3"}
		next.Finalizers, next.DeletionTimestamp = []string{"x/y"}, &metav1.Time{Time: epoch}
		x.apply(next)
		if changed(w) || changed(admin) {
			t.Errorf("%s: told of nothing", dialect)
		}
		next = next.DeepCopy()
		next.Labels["app"] = "other"
		x.apply(next)
		if !changed(w) || changed(admin) {
			t.Errorf("%s: not told of another label, or on a port that it does not concern", dialect)
		}
	}
}

func TestATransactionIsSeenAsOneStep(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"))
	w := mustWatch(t, x, "voting", 8080)
	x.apply(mkServer("grpc", "voting", intstr.FromString("grpc")), mkAuthorization("any", "grpc", anyone))
	if !changed(w) || len(w.Snapshot().Server.Authorizations) != 1 {
		t.Errorf("got %+v", w.Snapshot().Server)
	}
	if changed(w) {
		t.Error("told twice of one transaction")
	}
}

func TestASlowWatcherFindsTheLatest(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")))
	w := mustWatch(t, x, "voting", 8080)
	for i := range 100 {
		x.apply(mkAuthorization(fmt.Sprintf("a%02d", i), "grpc", anyone))
	}
	if !changed(w) || len(w.Snapshot().Server.Authorizations) != 100 || changed(w) {
		t.Errorf("got %d authorizations", len(w.Snapshot().Server.Authorizations))
	}
}

// gone reports whether the watch has ended with its pod, and forgets a change that
// was not read.
func gone(w *Watch) bool {
	for {
		select {
		case _, there := <-w.Changed():
			if !there {
				return true
			}
		default:
			return false
		}
	}
}

func TestWhoeverWatchesThePortIsToldUntilItStops(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		x := mkIndex(api.Documented(), nil)
		x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")))
		watches := []*Watch{mustWatch(t, x, "voting", 8080), mustWatch(t, x, "voting", 8080), mustWatch(t, x, "voting", 8080)}
		stopped := map[int]bool{}
		for n, stop := range order {
			watches[stop].Close()
			watches[stop].Close() // which does nothing
			stopped[stop] = true
			x.apply(mkAuthorization(fmt.Sprint(n), "grpc", anyone))
			for i, w := range watches {
				if changed(w) == stopped[i] {
					t.Errorf("%v: after %d stopped: told %d: %v", order, stop, i, stopped[i])
				}
			}
			want := 1
			if n == 2 {
				want = 0
			}
			if ports, watchers := x.Watched(); ports != want || watchers != 2-n {
				t.Errorf("%v: %d ports and %d watchers are left after %d", order, ports, watchers, n+1)
			}
		}
	}
}

func TestAWatchEndsWithItsPod(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), mkPod("web"))
	voting, web := mustWatch(t, x, "voting", 8080), mustWatch(t, x, "web", 8080)
	x.apply(mkPod("voting", labelled("x", "y")))
	if gone(voting) {
		t.Error("an edit of the pod ended its watch")
	}
	x.remove(mkPod("voting"))
	if !gone(voting) || gone(web) {
		t.Errorf("gone: voting %v, web %v", gone(voting), gone(web))
	}
	// The same name with another uid is another pod, even when no deletion was seen.
	x.apply(mkPod("web", func(pod *corev1.Pod) { pod.UID = types.UID("again") }))
	if !gone(web) {
		t.Error("the watch outlived its pod under a pod of the same name")
	}
	voting.Close()
	voting.Close()
}

func TestPodsWithTheSamePolicyShareItsSnapshot(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("a", labelled("app", "voting")), mkPod("b", labelled("app", "voting")), mkPod("c", withDefault("deny")),
		mkServer("grpc", "voting", intstr.FromString("grpc")))
	a, b, c := mustWatch(t, x, "a", 8080), mustWatch(t, x, "b", 8080), mustWatch(t, x, "c", 8080)
	if a.Snapshot() != b.Snapshot() || a.Snapshot() == c.Snapshot() {
		t.Error("snapshots are not shared by pods with equal policy only")
	}
	before := a.Snapshot()
	// A grant for no Server of these, and a label that nothing selects.
	x.apply(mkAuthorization("other", "other", anyone), mkServer("grpc", "voting", intstr.FromString("grpc"), func(s *api.Server) { s.Labels = map[string]string{"x": "y"} }))
	if a.Snapshot() != before || b.Snapshot() != before {
		t.Error("a change without effect replaced the snapshot")
	}
	x.apply(mkPod("d", labelled("app", "voting")))
	if d := mustWatch(t, x, "d", 8080); d.Snapshot() != before {
		t.Error("a new watcher does not find the snapshot that others keep")
	}
	if now, err := x.Lookup(ns, "a", 8080); err != nil || now != before {
		t.Error("a lookup does not find the watched snapshot")
	}
	x.apply(mkAuthorization("any", "grpc", anyone))
	if a.Snapshot() == before || a.Snapshot() != b.Snapshot() {
		t.Error("a change was not shared")
	}
}

//
func TestAnUnusableAuthorizationGrantsNothingUntilItIsValidAgain(t *testing.T) {
	bad := api.Client{Unauthenticated: true, Networks: []api.Network{{CIDR: "10.0.0.0/99"}}}
	for dialect, kept := range map[string]int{"documented": 0, "linkerd": 1} {
		d, _ := api.ParseDialect(dialect)
		x := mkIndex(d, nil)
		grants := func() int { return len(x.at(t, "voting", 8080).Authorizations) }
		x.apply(mkPod("voting"), mkServer("grpc", "voting", intstr.FromString("grpc")), mkAuthorization("a", "grpc", bad))
		if grants() != 0 {
			t.Errorf("%s: an object that never was valid grants something", dialect)
		}
		x.apply(mkAuthorization("a", "grpc", anyone))
		for range 2 {
			x.apply(mkAuthorization("a", "grpc", bad))
			if grants() != kept {
				t.Errorf("%s: after an unusable update %d grants, want %d", dialect, grants(), kept)
			}
		}
		x.apply(mkAuthorization("a", "grpc", anyone))
		if grants() != 1 {
			t.Errorf("%s: valid again, it grants nothing", dialect)
		}
		x.apply(mkAuthorization("a", "grpc", bad))
		x.remove(mkAuthorization("a", "grpc", bad))
		if grants() != 0 {
			t.Errorf("%s: deleted, it still grants", dialect)
		}
	}
}

// an unusable Server must not give its port back to a default that may be wider.
func TestAnUnusableServerKeepsItsPortAndDeniesEverybody(t *testing.T) {
	edits := map[string]func(*api.Server){
		"protocol":      func(s *api.Server) { s.Spec.ProxyProtocol = "http" },
		"access policy": func(s *api.Server) { s.Spec.AccessPolicy = "allow" },
		"port":          func(s *api.Server) { s.Spec.Port = intstr.FromInt32(70000) },
		"no selector":   func(s *api.Server) { s.Spec.PodSelector = nil },
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			x := mkIndex(api.Documented(), nil)
			open := func(s *api.Server) { s.Spec.AccessPolicy = api.AllUnauthenticated }
			x.apply(mkPod("voting"), mkAuthorization("any", "grpc", anyone), mkServer("grpc", "voting", intstr.FromString("grpc"), open))
			if n := len(x.at(t, "voting", 8080).Authorizations); n != 2 {
				t.Fatalf("valid, it has %d authorizations", n)
			}
			x.apply(mkServer("grpc", "voting", intstr.FromString("grpc"), open, edit))
			want := InboundServer{Reference: Reference{Server, "grpc"}, Protocol: detect, HTTPRoutes: []HTTPRoute{defaultRoute}}
			expect(t, want, x.at(t, "voting", 8080))
			x.apply(mkServer("grpc", "voting", intstr.FromString("grpc"), open))
			if n := len(x.at(t, "voting", 8080).Authorizations); n != 2 {
				t.Errorf("valid again, it has %d authorizations", n)
			}
		})
	}
	t.Run("in Linkerd's dialect the previous version stays", func(t *testing.T) {
		x := mkIndex(api.Linkerd(), nil)
		x.apply(mkPod("voting"), mkAuthorization("any", "grpc", anyone), mkServer("grpc", "voting", intstr.FromString("grpc")))
		before := x.at(t, "voting", 8080)
		x.apply(mkServer("grpc", "voting", intstr.FromString("grpc"), edits["protocol"]))
		expect(t, before, x.at(t, "voting", 8080))
	})
}
