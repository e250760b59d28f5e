package watch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/mesh/revision"
	"github.com/meshproof/meshproof/internal/policy/api"
)

func TestEachSightMovesASpanAsItMay(t *testing.T) {
	in := newIntake(nil)
	for _, row := range []struct {
		s    sight
		new  bool
		want string
	}{
		{sight{}, false, ""},
		{sight{"b", 10, seenList}, true, "b=10"},
		{sight{"a", 12, seenList}, true, "a=12,b=10"},
		{sight{"b", 15, seenComplete}, true, "a=12,b=10-15"},
		{sight{"b", 15, seenComplete}, false, "a=12,b=10-15"},
		{sight{"b", 14, seenComplete}, false, "a=12,b=10-15"},
		{sight{"b", 16, seenEvent}, true, "a=12,b=16"},
		{sight{"b", 9, seenEvent}, false, "a=12,b=16"},
		{sight{"b", 20, seenList}, true, "a=12,b=20"},
		{sight{"b", 5, seenList}, true, "a=12,b=5"},
		{sight{"c", 0, seenList}, true, "a=12,b=5,c=0"},
	} {
		if got := in.see(row.s); got != row.new || in.spans.String() != row.want {
			t.Errorf("after %+v: new %v, %s, want %v, %s", row.s, got, in.spans, row.new, row.want)
		}
	}
}

// Another replica may still be between the two: who has the later state must be able
// to tell it from the one between.
func TestAChangeAndItsReversalInOneStepAreToldForTheirRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		version := uint64(100)
		// open lets everybody in, or nobody.
		change := func(open bool) {
			version++
			g.put(entry{seen: sight{Pods, version, seenEvent}, change: func(tx *index.Tx) {
				policy := api.PolicyName("deny")
				if open {
					policy = "all-unauthenticated"
				}
				tx.SetPod("ns", "web", index.PodSpec{UID: "web", DefaultPolicy: policy})
			}})
		}
		change(false)
		synctest.Wait()
		w, err := g.index.Watch("ns", "web", 80)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		<-w.Changed()
		first := w.Latest()
		time.Sleep(time.Millisecond)
		change(true)
		change(false)
		time.Sleep(gatherFor)
		synctest.Wait()
		select {
		case <-w.Changed():
		default:
			t.Fatal("it was not told")
		}
		if w.Latest().Snapshot != first.Snapshot || w.Latest().Stamp.Revision.Behind(revision.Least{"pods": version}) != nil {
			t.Errorf("told %+v of %v", w.Latest().Snapshot.Server, w.Latest().Stamp.Revision)
		}
		// Two events of which neither concerns the port are told nobody.
		for _, name := range []string{"x", "y"} {
			version++
			g.put(entry{seen: sight{Pods, version, seenEvent}, change: func(tx *index.Tx) { tx.SetPod("ns", name, index.PodSpec{UID: "x"}) }})
		}
		time.Sleep(gatherFor)
		synctest.Wait()
		select {
		case <-w.Changed():
			t.Error("told of what does not concern it")
		default:
		}
	})
}
