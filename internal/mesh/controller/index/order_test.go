package index

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// open tells whether strangers are granted anything on the port.
func (w *Watch) open() bool {
	for _, authorization := range w.Snapshot().Server.Authorizations {
		if authorization.Authentication.Kind == Unauthenticated {
			return true
		}
	}
	return false
}

func TestNeitherOrderOfServerAndAuthorizationOpensInBetween(t *testing.T) {
	meshed := api.Client{MeshTLS: &api.MeshTLS{Identities: []string{"web.emojivoto.serviceaccount.identity.linkerd.cluster.local"}}}
	for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
		server, grant := mkServer("grpc", "voting", intstr.FromInt32(8080)), mkAuthorization("web", "grpc", meshed)
		for name, steps := range map[string][]func(x *Index){
			"Server, then authorization": {func(x *Index) { x.apply(server) }, func(x *Index) { x.apply(grant) }, func(x *Index) { x.remove(server) }, func(x *Index) { x.remove(grant) }},
			"authorization, then Server": {func(x *Index) { x.apply(grant) }, func(x *Index) { x.apply(server) }, func(x *Index) { x.remove(grant) }, func(x *Index) { x.remove(server) }},
		} {
			x := mkIndex(dialect, nil)
			x.apply(mkPod("voting", withDefault("deny"), annotated(api.DefaultPolicyAnnotation, "deny")))
			w := mustWatch(t, x, "voting", 8080)
			for i, step := range append([]func(*Index){func(*Index) {}}, steps...) {
				if step(x); w.open() {
					t.Errorf("%s, %s: open after step %d: %+v", dialect, name, i, w.Snapshot().Server)
				}
			}
			if got := w.Snapshot().Server.Reference.Name; got != "deny" {
				t.Errorf("%s, %s: %s decides in the end, want the default", dialect, name, got)
			}
		}
	}
}

func TestAPortMovesFromOneServerToTheNextInOneStep(t *testing.T) {
	at := func(name string, age time.Duration) *api.Server {
		return mkServer(name, "voting", intstr.FromInt32(8080), func(s *api.Server) { s.CreationTimestamp = metav1.NewTime(epoch.Add(-age)) })
	}
	x := mkIndex(api.Documented(), nil)
	older, younger := at("older", time.Hour), at("younger", 0)
	x.apply(mkPod("voting"), older, younger) // whose default lets everybody in
	w := mustWatch(t, x, "voting", 8080)
	x.remove(older)
	if !changed(w) || w.Snapshot().Server.Reference.Name != "younger" || w.open() {
		t.Errorf("after the winner's deletion: %+v", w.Snapshot().Server)
	}
	if changed(w) {
		t.Error("told twice of one deletion")
	}
}
