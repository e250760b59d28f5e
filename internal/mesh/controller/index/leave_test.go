package index

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Ten thousand streams that have left, in whatever order, and by whichever end, have
// left nothing behind: no port counts as watched, no list holds on to one.
func TestWhoHasLeftIsHeldByNothing(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	const pods, each = 2_500, 4
	all := make([]any, 0, pods)
	for i := range pods {
		all = append(all, mkPod(fmt.Sprint("p", i)))
	}
	everyPod := func(s *api.Server) {
		s.Spec.PodSelector.MatchLabels = map[string]string{api.ControlPlaneLabel: "linkerd"}
	}
	x.apply(append(all, mkServer("all", "", intstr.FromInt32(8080), everyPod))...)
	var watches []*Watch
	for i := range pods * each {
		// Two watch the Server's port, and two each one of their own.
		watches = append(watches, mustWatch(t, x, fmt.Sprint("p", i%pods), uint16(8080+max(0, i/pods-1))))
	}
	if ports, watchers := x.Watched(); ports != pods*(each-1) || watchers != pods*each {
		t.Fatalf("%d ports are watched by %d", ports, watchers)
	}
	random := rand.New(rand.NewPCG(1, 0))
	random.Shuffle(len(watches), func(i, j int) { watches[i], watches[j] = watches[j], watches[i] })
	x.remove(all[:pods/2]...)
	for _, w := range watches {
		w.Close()
		w.Close()
	}
	if ports, watchers := x.Watched(); ports+watchers > 0 {
		t.Errorf("%d ports are watched by %d", ports, watchers)
	}
	for _, ns := range x.namespaces {
		if len(ns.ways.watched.labels)+len(ns.ways.watched.filed) > 0 {
			t.Errorf("the labels of %d pods are filed", len(ns.ways.watched.labels))
		}
		for name, s := range ns.servers {
			for _, c := range s.cells[:cap(s.cells)] {
				if c != nil {
					t.Fatalf("Server %s holds port %d of a pod", name, c.port)
				}
			}
		}
	}
	// Whoever comes again is told as before.
	if w := mustWatch(t, x, fmt.Sprint("p", pods-1), 8080); w.Snapshot().Server.Reference.Kind != Server {
		t.Errorf("%+v", w.Snapshot().Server.Reference)
	}
}
