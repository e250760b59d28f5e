package watch

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// gathering is an intake on a clock that stands still while anybody works, with the
// number of its transactions.
type gathering struct {
	*intake
	transactions int
	began        time.Time
	end          func()
}

func gather() *gathering {
	x := index.New(index.Config{Dialect: api.Documented()})
	g := &gathering{intake: newIntake(x), began: time.Now()}
	x.OnChange(func([]string) { g.transactions++ })
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { g.run(end) })
	g.end = func() { close(end); running.Wait() }
	return g
}

// pod is an event of a new pod; at is when it was in force.
func (g *gathering) pod(name string) (at *time.Duration) {
	at = new(time.Duration)
	*at = -1
	g.put(entry{
		change: func(tx *index.Tx) { tx.SetPod("ns", name, index.PodSpec{UID: name}) },
		taken: func() {
			if _, err := g.index.Lookup("ns", name, 80); err == nil {
				*at = time.Since(g.began)
			}
		},
	})
	return at
}

func TestAChangeInQuietTimesWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		for i := range 3 {
			time.Sleep(10 * time.Millisecond)
			at, asked := g.pod(fmt.Sprint(i)), time.Since(g.began)
			synctest.Wait()
			if *at != asked || g.transactions != i+1 {
				t.Errorf("change %d of %v was in force at %v, after %d transactions", i, asked, *at, g.transactions)
			}
		}
	})
}

func TestChangesInQuickSuccessionBecomeOneTransactionWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		first := g.pod("first")
		synctest.Wait()
		var more []*time.Duration
		for i := range 4 {
			time.Sleep(time.Millisecond)
			more = append(more, g.pod(fmt.Sprint(i)))
		}
		synctest.Wait()
		if *first != 0 || g.transactions != 1 {
			t.Errorf("the first was in force at %v; %d transactions while gathering", *first, g.transactions)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		for i, at := range more {
			if *at != gatherFor {
				t.Errorf("change %d was in force at %v, want %v", i, *at, gatherFor)
			}
		}
		if g.transactions != 2 {
			t.Errorf("%d transactions", g.transactions)
		}
	})
}

func TestAFullQueueIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		g.pod("first")
		synctest.Wait()
		var last *time.Duration
		for i := range gatherMost {
			last = g.pod(fmt.Sprint(i))
		}
		synctest.Wait()
		if *last != 0 || g.transactions != 2 {
			t.Errorf("the last was in force at %v, after %d transactions", *last, g.transactions)
		}
	})
}

func TestAFullQueueHoldsUpWhoHasMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := index.New(index.Config{Dialect: api.Documented()})
		g := &gathering{intake: newIntake(x), began: time.Now()}
		x.OnChange(func([]string) { g.transactions++ })
		for i := range gatherMost {
			g.pod(fmt.Sprint(i))
		}
		var beyond *time.Duration
		var putting sync.WaitGroup
		putting.Go(func() { beyond = g.pod("beyond") })
		synctest.Wait()
		if beyond != nil || len(g.queue) != gatherMost {
			t.Errorf("%d entries are queued", len(g.queue))
		}
		// A mark is no event, and waits for no room.
		marked := false
		g.put(entry{taken: func() { marked = true }})
		end := make(chan struct{})
		putting.Go(func() { g.run(end) })
		synctest.Wait()
		if !marked || g.transactions != 1 {
			t.Errorf("marked: %v, after %d transactions", marked, g.transactions)
		}
		time.Sleep(gatherFor)
		synctest.Wait()
		if beyond == nil || *beyond != gatherFor || g.transactions != 2 {
			t.Errorf("what was beyond came at %v, after %d transactions", beyond, g.transactions)
		}
		close(end)
		putting.Wait()
	})
}

func TestAMarkOvertakesNoChangeAndWaitsForNoneToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		g.pod("first")
		synctest.Wait()
		alone := time.Duration(-1)
		g.put(entry{taken: func() { alone = time.Since(g.began) }})
		synctest.Wait()
		if alone != 0 {
			t.Errorf("a mark without changes before it rose at %v", alone)
		}
		second, after := g.pod("second"), time.Duration(-1)
		g.put(entry{taken: func() { after = *second }})
		synctest.Wait()
		if after != -1 {
			t.Error("a mark rose before the change that it is about")
		}
		time.Sleep(gatherFor)
		synctest.Wait()
		if after != gatherFor {
			t.Errorf("when the mark rose the change was in force at %v", after)
		}
	})
}

func TestWhatIsLeftAtTheEndIsTaken(t *testing.T) {
	// What is noticed first, the end or what is left, is a matter of chance.
	for range 20 {
		x := index.New(index.Config{Dialect: api.Documented()})
		g := &gathering{intake: newIntake(x), began: time.Now()}
		left := g.pod("left")
		end := make(chan struct{})
		close(end)
		g.run(end)
		if *left == -1 {
			t.Fatal("it is not in force")
		}
	}
}
