package watch

import (
	"fmt"
	"sync"
	"sync/atomic"
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
	transactions atomic.Int64
	began        time.Time
	end          func()
}

func gather() *gathering {
	x := index.New(index.Config{Dialect: api.Documented()})
	g := &gathering{intake: newIntake(x), began: time.Now()}
	x.OnChange(func([]string) { g.transactions.Add(1) })
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { g.run(end) })
	g.end = func() { close(end); running.Wait() }
	return g
}

// moment is when something happened, since the beginning; never before it has.
type moment struct{ atomic.Int64 }

const never = time.Duration(-1)

func newMoment() *moment {
	m := new(moment)
	m.is(never)
	return m
}

func (m *moment) is(d time.Duration)  { m.Store(int64(d)) }
func (m *moment) when() time.Duration { return time.Duration(m.Load()) }

// pod is an event of a new pod; at is when it was in force.
func (g *gathering) pod(name string) (at *moment) {
	at = newMoment()
	g.put(entry{
		change: func(tx *index.Tx) { tx.SetPod("ns", name, index.PodSpec{UID: name}) },
		taken: func() {
			if _, err := g.index.Lookup("ns", name, 80); err == nil {
				at.is(time.Since(g.began))
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
			if at.when() != asked || g.transactions.Load() != int64(i+1) {
				t.Errorf("change %d of %v was in force at %v, after %d transactions", i, asked, at.when(), g.transactions.Load())
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
		var more []*moment
		for i := range 4 {
			time.Sleep(time.Millisecond)
			more = append(more, g.pod(fmt.Sprint(i)))
		}
		synctest.Wait()
		if first.when() != 0 || g.transactions.Load() != 1 {
			t.Errorf("the first was in force at %v; %d transactions while gathering", first.when(), g.transactions.Load())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		for i, at := range more {
			if at.when() != gatherFor {
				t.Errorf("change %d was in force at %v, want %v", i, at.when(), gatherFor)
			}
		}
		if g.transactions.Load() != 2 {
			t.Errorf("%d transactions", g.transactions.Load())
		}
	})
}

func TestAFullQueueIsTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather()
		defer g.end()
		g.pod("first")
		synctest.Wait()
		var last *moment
		for i := range gatherMost {
			last = g.pod(fmt.Sprint(i))
		}
		synctest.Wait()
		if last.when() != 0 || g.transactions.Load() != 2 {
			t.Errorf("the last was in force at %v, after %d transactions", last.when(), g.transactions.Load())
		}
	})
}

func TestAFullQueueHoldsUpWhoHasMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := index.New(index.Config{Dialect: api.Documented()})
		g := &gathering{intake: newIntake(x), began: time.Now()}
		x.OnChange(func([]string) { g.transactions.Add(1) })
		for i := range gatherMost {
			g.pod(fmt.Sprint(i))
		}
		var beyond atomic.Pointer[moment]
		var putting sync.WaitGroup
		putting.Go(func() { beyond.Store(g.pod("beyond")) })
		synctest.Wait()
		if beyond.Load() != nil || len(g.queue) != gatherMost {
			t.Errorf("%d entries are queued", len(g.queue))
		}
		// A mark is no event, and waits for no room.
		var marked atomic.Bool
		g.put(entry{taken: func() { marked.Store(true) }})
		end := make(chan struct{})
		putting.Go(func() { g.run(end) })
		synctest.Wait()
		if !marked.Load() || g.transactions.Load() != 1 {
			t.Errorf("marked: %v, after %d transactions", marked.Load(), g.transactions.Load())
		}
		time.Sleep(gatherFor)
		synctest.Wait()
		if beyond.Load() == nil || beyond.Load().when() != gatherFor || g.transactions.Load() != 2 {
			t.Errorf("what was beyond came at %v, after %d transactions", beyond.Load(), g.transactions.Load())
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
		alone := newMoment()
		g.put(entry{taken: func() { alone.is(time.Since(g.began)) }})
		synctest.Wait()
		if alone.when() != 0 {
			t.Errorf("a mark without changes before it rose at %v", alone.when())
		}
		second, after := g.pod("second"), newMoment()
		g.put(entry{taken: func() { after.is(second.when()) }})
		synctest.Wait()
		if after.when() != never {
			t.Error("a mark rose before the change that it is about")
		}
		time.Sleep(gatherFor)
		synctest.Wait()
		if after.when() != gatherFor {
			t.Errorf("when the mark rose the change was in force at %v", after.when())
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
		if left.when() == never {
			t.Fatal("it is not in force")
		}
	}
}
