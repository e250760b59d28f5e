package walltime

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock stands still between two steps.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) step(d time.Duration) { c.at = c.at.Add(d) }

func TestOfAMomentEachScenarioAtWorkHasAnEqualShare(t *testing.T) {
	c := &clock{}
	b := open(c.now)
	b.Enter(Cluster)
	c.step(5 * time.Second)
	b.Enter(Turn)
	one, other := b.Lane(), b.Lane()
	away := one.In(Pods)
	c.step(2 * time.Second)
	back := other.In(Pods)
	c.step(2 * time.Second)
	waited := one.In(InForce) // within pods
	c.step(4 * time.Second)
	waited()
	c.step(2 * time.Second)
	away()
	back()
	c.step(time.Second)
	want := []Spent{{Turn, time.Second, 0}, {Cluster, 5 * time.Second, 0}, {Pods, 8 * time.Second, 14 * time.Second}, {InForce, 2 * time.Second, 4 * time.Second}}
	if d := cmp.Diff(want, b.Spent()); d != "" {
		t.Errorf("run (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]Spent{{Pods, 6 * time.Second, 6 * time.Second}, {InForce, 4 * time.Second, 4 * time.Second}}, one.Spent()); d != "" {
		t.Errorf("one scenario (-want +got):\n%s", d)
	}
}

func TestPhasesAddUpToTheWallTimeWhateverHappens(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := &clock{}
		b := open(c.now)
		var lanes []*Lane
		var away [][]func()
		began := c.at
		for range 200 {
			c.step(time.Duration(random.Int64N(1e6)))
			switch i := random.IntN(5); {
			case i == 0 || len(lanes) == 0:
				lanes, away = append(lanes, b.Lane()), append(away, nil)
			case i == 1:
				b.Enter(Phases()[random.IntN(len(Phases()))])
			case i == 2:
				j := random.IntN(len(lanes))
				if n := len(away[j]); n > 0 {
					away[j][n-1]()
					away[j] = away[j][:n-1]
				}
			default:
				j := random.IntN(len(lanes))
				away[j] = append(away[j], lanes[j].In(Phases()[random.IntN(len(Phases()))]))
			}
		}
		if got, want := Sum(b.Spent()), c.at.Sub(began); got != want {
			t.Fatalf("seed %d: %v in all, want %v", seed, got, want)
		}
	}
}

func TestManyScenariosKeepTimeInOneBook(t *testing.T) {
	b := Open()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			lane := b.Lane()
			for _, phase := range Phases() {
				lane.In(phase)()
			}
		})
	}
	all.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy != 0 || len(b.at) != 0 {
		t.Errorf("%d lanes at work in %v after all have left", b.busy, b.at)
	}
}

func TestEveryPhaseIsListedOnce(t *testing.T) {
	seen := map[Phase]bool{}
	for _, phase := range Phases() {
		if seen[phase] || phase == "" || !Known(phase) {
			t.Errorf("phase %q", phase)
		}
		seen[phase] = true
	}
}

func TestNobodysBookTakesEverything(t *testing.T) {
	var b *Book
	b.Enter(Mesh)
	lane := b.Lane()
	lane.In(Pods)()
	if got := fmt.Sprint(b.Spent(), lane.Spent()); got != "[] []" {
		t.Errorf("nobody's book has %s", got)
	}
}
