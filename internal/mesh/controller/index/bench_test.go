package index

import (
	"fmt"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// large is one namespace with the given number of pods, ten to a workload, and per
// workload a Server, five ServerAuthorizations, a route with a policy, a policy
// that requires an authentication of another namespace, and a rate limit. One port
// of every pod is watched. Everything in one namespace, under labels that all have
// in common, is the worst case.
func large(tb testing.TB, pods int) *Index {
	tb.Helper()
	x := mkIndex(api.Documented(), nil)
	x.Update(func(tx *Tx) {
		for i := range pods {
			tx.apply(mkPod(fmt.Sprintf("pod-%d", i), labelled("app", fmt.Sprintf("app-%d", i/10)), labelled("part-of", "all")))
		}
		for i := range (pods + 9) / 10 {
			app := fmt.Sprintf("app-%d", i)
			tx.apply(ofWorkload(app), mkRoute(app, app), grantFor(app, anyone), mkWho(app, "*"),
				mkPolicy("route-"+app, api.LocalTargetReference{Group: api.Group, Kind: "HTTPRoute", Name: app}),
				mkPolicy("who-"+app, onServer(app), in("ops", meshTLS(app))), limitOf(app, 10))
			for j := range 5 {
				tx.apply(mkAuthorization(fmt.Sprintf("%s-%d", app, j), app, anyone))
			}
		}
	})
	for i := range pods {
		if _, err := x.Watch(ns, fmt.Sprintf("pod-%d", i), 8080); err != nil {
			tb.Fatal(err)
		}
	}
	return x
}

func ofWorkload(app string, edits ...func(*api.Server)) *api.Server {
	s := mkServer(app, app, intstr.FromString("grpc"), edits...)
	s.Labels = map[string]string{"app": app}
	s.Spec.PodSelector.MatchLabels["part-of"] = "all"
	return s
}

// grantFor selects the Server by a label.
func grantFor(app string, client api.Client) *api.ServerAuthorization {
	a := mkAuthorization("by-label-"+app, "", client)
	a.Spec.Server = api.ServerReference{Selector: &api.LabelSelector{MatchLabels: map[string]string{"app": app}}}
	return a
}

func mkWho(app string, identities ...string) *api.MeshTLSAuthentication {
	m := mkMeshTLS(app, identities...)
	m.Namespace = "ops"
	return m
}

func limitOf(app string, total int64) *api.HTTPLocalRateLimitPolicy {
	return mkLimit(app, total, func(l *api.HTTPLocalRateLimitPolicy) { l.Spec.TargetRef.Name, l.Status.TargetRef.Name = app, app })
}

// oneChange are changes that ten pods watch, each with what undoes it.
func oneChange() map[string][2]any {
	const app = "app-0"
	tls := api.Client{MeshTLS: &api.MeshTLS{UnauthenticatedTLS: true}}
	refused := mkRoute(app, app)
	refused.Status.Parents[0].Conditions[0].Status = metav1.ConditionFalse
	who := in("ops", meshTLS(app))
	return map[string][2]any{
		"authorization by name":  {mkAuthorization(app+"-0", app, tls), mkAuthorization(app+"-0", app, anyone)},
		"authorization by label": {grantFor(app, tls), grantFor(app, anyone)},
		"policy":                 {mkPolicy("who-"+app, onServer(app), who, networks("absent")), mkPolicy("who-"+app, onServer(app), who)},
		"authentication":         {mkWho(app, "me"), mkWho(app, "*")},
		"route status":           {refused, mkRoute(app, app)},
		"rate limit":             {limitOf(app, 5), limitOf(app, 10)},
		"Server":                 {ofWorkload(app, speaking(api.ProtocolHTTP1)), ofWorkload(app)},
		"Server's port":          {ofWorkload(app, func(s *api.Server) { s.Spec.Port = intstr.FromString("prom") }), ofWorkload(app)},
		"a pod's labels": {
			mkPod("pod-0", labelled("app", "app-1"), labelled("part-of", "all")), mkPod("pod-0", labelled("app", app), labelled("part-of", "all")),
		},
		"a ServiceAccount": {&corev1.ServiceAccount{ObjectMeta: meta("sa")}, nil},
	}
}

// BenchmarkOneChange shows that what a change costs does not depend on how many
// other objects there are.
func BenchmarkOneChange(b *testing.B) {
	for _, pods := range []int{100, 1000, 10000} {
		x := large(b, pods)
		for name, change := range oneChange() {
			b.Run(fmt.Sprintf("%s/pods=%d", name, pods), func(b *testing.B) {
				for n := 0; b.Loop(); n++ {
					if change[n%2] == nil {
						x.remove(change[0])
					} else {
						x.apply(change[n%2])
					}
				}
			})
		}
	}
}

// TestAChangeLooksAtWhatDependsOnItOnly counts what a change computes, rather than
// how long it takes: the ports that the change reaches, whatever else there is.
func TestAChangeLooksAtWhatDependsOnItOnly(t *testing.T) {
	reached := map[int]map[string]int{}
	for _, pods := range []int{100, 1000} {
		x := large(t, pods)
		reached[pods] = map[string]int{}
		for name, change := range oneChange() {
			for _, object := range change {
				if object != nil {
					x.Update(func(tx *Tx) {
						tx.apply(object)
						tx.spread()
						cells := map[*cell]bool{}
						maps.Copy(cells, tx.cells)
						for at := range tx.servers {
							if s := x.server(at); s != nil {
								for _, c := range s.cells {
									cells[c] = true
								}
							}
						}
						reached[pods][name] = max(reached[pods][name], len(cells))
					})
				}
			}
			if n := reached[pods][name]; n > 10 {
				t.Errorf("%d pods: a change of %s reaches %d ports", pods, name, n)
			}
		}
	}
	for name, few := range reached[100] {
		if many := reached[1000][name]; few != many {
			t.Errorf("a change of %s reaches %d ports among 100 pods and %d among 1000", name, few, many)
		}
	}
}

func BenchmarkFindings(b *testing.B) {
	x := large(b, 10000)
	for b.Loop() {
		x.Findings(ns)
	}
}
