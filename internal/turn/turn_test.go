package turn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is an API server that keeps Leases: every request takes effect at
// some moment between its beginning and its end.
type memory struct {
	random *rand.Rand
	// slow is the longest time on either side of that moment.
	slow time.Duration
	// failing of a hundred requests fail, half of them after they took effect.
	failing int

	mu      sync.Mutex
	count   int
	members map[string]member
	busy    bool
}

func newMemory(seed uint64) *memory {
	return &memory{random: rand.New(rand.NewPCG(seed, 1)), slow: 300 * time.Millisecond, members: map[string]member{}}
}

func (m *memory) lot(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

var errNetwork = errors.New("the network is down")

func (m *memory) do(ctx context.Context, effect func() error) error {
	lot := m.lot(200)
	if err := pause(ctx, time.Duration(m.lot(int(m.slow)+1))); err != nil || lot < m.failing {
		return errors.Join(errNetwork, err)
	}
	m.mu.Lock()
	err := effect()
	m.mu.Unlock()
	if ended := pause(ctx, time.Duration(m.lot(int(m.slow)+1))); ended != nil || lot >= 200-m.failing {
		return errors.Join(errNetwork, ended)
	}
	return err
}

func (m *memory) list(ctx context.Context) (out []member, err error) {
	err = m.do(ctx, func() error {
		for _, one := range m.members {
			out = append(out, one)
		}
		return nil
	})
	return out, err
}

func (m *memory) put(one member) {
	m.count++
	one.version = strconv.Itoa(m.count)
	if one.uid == "" {
		one.uid = "uid-" + one.version
	}
	m.members[one.id] = one
}

func (m *memory) create(ctx context.Context, one member) error {
	return m.do(ctx, func() error {
		if m.busy {
			return errBusy
		}
		if _, ok := m.members[one.id]; ok {
			return errExists
		}
		m.put(one)
		return nil
	})
}

func (m *memory) write(ctx context.Context, one member) error {
	return m.do(ctx, func() error {
		before, ok := m.members[one.id]
		if !ok {
			return errGone
		}
		one.uid = before.uid
		m.put(one)
		return nil
	})
}

func (m *memory) remove(ctx context.Context, one member) error {
	return m.do(ctx, func() error {
		there, ok := m.members[one.id]
		if ok && one.uid != "" && (there.uid != one.uid || there.version != one.version) {
			return errors.New("it has changed")
		}
		delete(m.members, one.id)
		return nil
	})
}

// cut is a store behind a network that goes down, and perhaps comes back.
type cut struct {
	store
	mu   sync.Mutex
	down bool
}

func (c *cut) set(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *cut) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errNetwork
	}
	return nil
}

func (c *cut) list(ctx context.Context) ([]member, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return c.store.list(ctx)
}

func (c *cut) write(ctx context.Context, m member) error {
	return errors.Join(c.check(), c.through(func() error { return c.store.write(ctx, m) }))
}

func (c *cut) through(do func() error) error {
	if c.check() != nil {
		return nil
	}
	return do()
}

// room is what the turns are for; it notices who is in it that should not be.
type room struct {
	t             *testing.T
	mu            sync.Mutex
	shared, alone map[string]bool
	wasAlone      int
}

func newRoom(t *testing.T) *room {
	return &room{t: t, shared: map[string]bool{}, alone: map[string]bool{}}
}

func (r *room) enter(id string, alone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if alone {
		r.alone[id] = true
		r.wasAlone++
	} else {
		r.shared[id] = true
	}
	if len(r.alone) > 1 || len(r.alone) == 1 && len(r.shared) > 0 {
		r.t.Errorf("alone: %v, shared: %v", r.alone, r.shared)
	}
}

func (r *room) exit(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alone, id)
	delete(r.shared, id)
}

// stay is in the room for a while, or until the turn is lost.
func (r *room) stay(t *Turn, alone bool, d time.Duration) (lost bool) {
	r.enter(t.me.id, alone)
	defer r.exit(t.me.id)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false
	case <-t.Lost():
		return true
	}
}

// TestNobodyIsAloneBesideAnother lets runs come, share, be alone, be killed and
// lose their network in many random orders.
func TestNobodyIsAloneBesideAnother(t *testing.T) {
	rounds := uint64(300)
	if testing.Short() {
		rounds = 30
	}
	alone := 0
	for seed := range rounds {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 2))
			store := newMemory(seed)
			store.slow = time.Duration(random.IntN(int(time.Second)))
			store.failing = random.IntN(20)
			r := newRoom(t)
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour) // of the bubble
			defer cancel()
			var runs sync.WaitGroup
			for i := range 2 + random.IntN(5) {
				mine := rand.New(rand.NewPCG(seed, uint64(i)+3))
				runs.Go(func() { live(ctx, r, store, fmt.Sprintf("run-%d", i), mine) })
			}
			runs.Wait()
			if ctx.Err() != nil {
				t.Errorf("seed %d: somebody waited for ever", seed)
			}
			alone += r.wasAlone
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if alone < int(rounds) {
		t.Errorf("only %d times anybody was alone in %d rounds", alone, rounds)
	}
}

// live is the life of one run.
func live(ctx context.Context, r *room, store *memory, id string, random *rand.Rand) {
	short := func() time.Duration { return time.Duration(random.IntN(int(20 * time.Second))) }
	_ = pause(ctx, short())
	network := &cut{store: store}
	turn, err := join(ctx, network, id, "a test", nil)
	if err != nil {
		if ctx.Err() == nil {
			var lost *LostError
			if !errors.As(err, &lost) && !errors.Is(err, errNetwork) {
				r.t.Errorf("%s cannot join: %v", id, err)
			}
		}
		return
	}
	for range random.IntN(4) + 1 {
		if r.stay(turn, false, short()) {
			break
		}
		if random.IntN(2) == 0 {
			if turn.Alone(ctx) != nil || r.stay(turn, true, short()) || turn.Shared(ctx) != nil {
				break
			}
		}
		switch random.IntN(12) {
		case 0:
			turn.Abandon()
			return
		case 1:
			network.set(true)
			r.stay(turn, false, time.Hour)
			if turn.Err() == nil {
				r.t.Errorf("%s did not notice that it has no network", id)
			}
			turn.Abandon()
			return
		case 2: // for too short a time to matter
			network.set(true)
			r.stay(turn, false, time.Second)
			network.set(false)
		}
	}
	for turn.Leave(ctx) != nil && ctx.Err() == nil {
		_ = pause(ctx, lookInterval)
	}
}

// patient bounds a test, so that who waits for ever fails it.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // of the bubble
	t.Cleanup(cancel)
	return ctx
}

func TestWhoHasWantedItLongestIsAloneFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		var mu sync.Mutex
		var order []string
		sharing, err := join(ctx, store, "sharing", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		var runs sync.WaitGroup
		for i, id := range []string{"c", "a", "b"} {
			turn, err := join(ctx, store, id, "me", nil)
			if err != nil {
				t.Fatal(err)
			}
			runs.Go(func() {
				_ = pause(ctx, time.Duration(i+1)*5*time.Second)
				if err := turn.Alone(ctx); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, id)
				mu.Unlock()
				if err := turn.Leave(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		_ = pause(ctx, time.Minute)
		if err := sharing.Leave(ctx); err != nil {
			t.Error(err)
		}
		runs.Wait()
		if got := strings.Join(order, " "); got != "c a b" {
			t.Errorf("alone were %s, want c a b", got)
		}
	})
}

func TestWhoWantsToBeAloneGoesBeforeNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		var mu sync.Mutex
		var order []string
		note := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, what)
		}
		first, err := join(ctx, store, "first", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		second, err := join(ctx, store, "second", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		var runs sync.WaitGroup
		runs.Go(func() {
			if err := second.Alone(ctx); err != nil {
				t.Error(err)
			}
			note("second is alone")
			_ = pause(ctx, time.Minute)
			note("second leaves")
			if err := second.Leave(ctx); err != nil {
				t.Error(err)
			}
		})
		_ = pause(ctx, 5*time.Second)
		runs.Go(func() {
			var waited []string
			third, err := join(ctx, store, "third", "me", func(text string) { waited = append(waited, text) })
			if err != nil {
				t.Error(err)
				return
			}
			note("third shares")
			if want := "run second of me, which wants the cluster to itself; run second of me, which has the cluster to itself"; strings.Join(waited, "; ") != want {
				t.Errorf("third was told %q, want %q", waited, want)
			}
			if err := third.Leave(ctx); err != nil {
				t.Error(err)
			}
		})
		_ = pause(ctx, 5*time.Second)
		if n, err := first.Others(ctx); err != nil || n != 2 {
			t.Errorf("first sees %d others (%v), want 2", n, err)
		}
		note("first leaves")
		if err := first.Leave(ctx); err != nil {
			t.Error(err)
		}
		runs.Wait()
		if got, want := strings.Join(order, ", "), "first leaves, second is alone, second leaves, third shares"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if len(store.members) > 0 {
			t.Errorf("left behind: %v", store.members)
		}
	})
}

func TestTheLeaseOfADeadRunIsRemovedByWhoComesNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		dead, err := join(ctx, store, "dead", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := dead.Alone(ctx); err != nil {
			t.Fatal(err)
		}
		dead.Abandon()
		began := time.Now()
		next, err := join(ctx, store, "next", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < lifetime || waited > 2*lifetime {
			t.Errorf("it waited %s for a lease of %s", waited, lifetime)
		}
		if n, err := next.Others(ctx); err != nil || n != 0 {
			t.Errorf("it sees %d others (%v)", n, err)
		}
		if err := next.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if len(store.members) > 0 {
			t.Errorf("left behind: %v", store.members)
		}
	})
}

func TestALeaseThatSomebodyRemovedEndsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		turn, err := join(ctx, store, "mine", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.remove(ctx, member{id: "mine"}); err != nil {
			t.Fatal(err)
		}
		<-turn.Lost()
		var lost *LostError
		if !errors.As(turn.Err(), &lost) || !errors.Is(lost, errGone) {
			t.Errorf("got %v", turn.Err())
		}
		if err := turn.Alone(ctx); !errors.As(err, &lost) {
			t.Errorf("alone after that: %v", err)
		}
		turn.Abandon()
	})
}

func TestALeaseThatSomebodyRemovedIsNotMadeAnewByWhoReliedOnIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		turn, err := join(ctx, store, "mine", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.remove(ctx, member{id: "mine"}); err != nil {
			t.Fatal(err)
		}
		var lost *LostError
		if err := turn.Alone(ctx); !errors.As(err, &lost) {
			t.Errorf("alone after that: %v", err)
		}
		turn.Abandon()
	})
}

func TestWhoComesWhileTheMeshIsRemovedWaitsUntilItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		store.busy = true
		var removed sync.WaitGroup
		removed.Go(func() {
			_ = pause(ctx, time.Minute)
			store.mu.Lock()
			defer store.mu.Unlock()
			store.busy = false
		})
		var told []string
		turn, err := join(ctx, store, "mine", "me", func(text string) { told = append(told, text) })
		if err != nil {
			t.Fatal(err)
		}
		removed.Wait()
		if len(told) != 1 || told[0] != meshGone {
			t.Errorf("told %q", told)
		}
		if err := turn.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestTwoRunsOfOneIDAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		turn, err := join(ctx, store, "mine", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := join(ctx, store, "mine", "somebody else", nil); !errors.Is(err, errExists) {
			t.Errorf("got %v", err)
		}
		if err := turn.Leave(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoGivesUpWaitingIsInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		sharing, err := join(ctx, store, "sharing", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		wanting, err := join(ctx, store, "wanting", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		patience, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := wanting.Alone(patience); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		third, err := join(ctx, store, "third", "me", func(text string) { t.Errorf("third waits for %s", text) })
		if err != nil {
			t.Fatal(err)
		}
		for _, turn := range []*Turn{sharing, wanting, third} {
			if err := turn.Leave(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestLivingAreThoseThatRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, ctx := newMemory(1), patient(t)
		dead, err := join(ctx, store, "dead", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		alive, err := join(ctx, store, "alive", "me", nil)
		if err != nil {
			t.Fatal(err)
		}
		dead.Abandon()
		ids, err := living(ctx, store, func(string) {})
		if err != nil || strings.Join(ids, " ") != "alive" {
			t.Errorf("got %q, %v", ids, err)
		}
		if _, ok := store.members["dead"]; ok {
			t.Error("the lease of the dead run is still there")
		}
		if err := alive.Leave(ctx); err != nil {
			t.Error(err)
		}
		if ids, err := living(ctx, store, func(what string) { t.Errorf("it waits for %s", what) }); err != nil || len(ids) > 0 {
			t.Errorf("got %q, %v", ids, err)
		}
	})
}
