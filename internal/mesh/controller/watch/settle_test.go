package watch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// What Linkerd's index forgets between two events is forgotten, too, when both are
// of one transaction.
func TestEventsOfOneTransactionFollowOneAnother(t *testing.T) {
	for _, tt := range []struct {
		dialect api.Dialect
		limited bool
	}{{api.Linkerd(), false}, {api.Documented(), true}} {
		synctest.Test(t, func(t *testing.T) {
			x := index.New(index.Config{Dialect: tt.dialect})
			g := &gathering{intake: newIntake(x), began: time.Now()}
			x.OnChange(func([]string) { g.transactions.Add(1) })
			server := index.ServerSpec{
				Pods: &api.LabelSelector{}, Port: index.PortReference{Number: 80}, Protocol: index.Protocol{Kind: index.HTTP1}, AccessPolicy: api.Deny,
			}
			for _, change := range []func(*index.Tx){
				func(tx *index.Tx) { tx.SetServer("ns", "web", server) },
				func(tx *index.Tx) { tx.SetRateLimit("ns", "slow", index.RateLimitSpec{Server: "web", Total: 1}) },
				func(tx *index.Tx) { tx.DeleteServer("ns", "web") }, // with it goes the namespace's index
				func(tx *index.Tx) { tx.SetServer("ns", "web", server) },
				func(tx *index.Tx) {
					tx.SetPod("ns", "pod", index.PodSpec{UID: "1", Declared: map[uint16]bool{80: true}})
				},
			} {
				g.put(entry{change: change})
			}
			end := make(chan struct{})
			close(end)
			g.run(end)
			snapshot, err := x.Lookup("ns", "pod", 80)
			if err != nil || g.transactions.Load() != 1 {
				t.Fatalf("%v, after %d transactions", err, g.transactions.Load())
			}
			if limited := snapshot.Server.RateLimit != nil; limited != tt.limited {
				t.Errorf("%s: limited: %v, want %v", tt.dialect, limited, tt.limited)
			}
		})
	}
}
