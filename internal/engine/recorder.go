package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/scenarios"
)

// readEvery is between two looks at what streams, proxies and applications have
// recorded: well below the time in which any of their rings overflows.
const readEvery = time.Second

// recorder keeps what a scenario under traffic leaves to be judged. Its owner is
// the scenario's goroutine; what mu guards is shared with the one that reads.
type recorder struct {
	s     *scenarioRun
	flows []*flow
	// components are those that streams or held connections lead to.
	components map[string]bool
	// worlds by their IDs, and world the one as it is now.
	worlds map[string]*history.World
	world  *trackedWorld
	// group is the number of the last group of writes, and open says that the next
	// write belongs to it. first is the first one that is not known to be in force.
	// unsettled are writes that nobody has waited for.
	group     int
	first     int
	open      bool
	unsettled []write
	// settled is since when nothing has changed.
	settled time.Duration
	step    history.StepSpan
	// kept are how many requests the history has, and told the findings that a claim
	// has told of.
	kept int
	told map[string]bool

	stop context.CancelFunc
	done sync.WaitGroup
	// reading is held by who reads streams and rings, and guards witnesses.
	reading   sync.Mutex
	witnesses map[types.UID]*witness

	mu  sync.Mutex
	rec history.Recording
	// begun is when the calls of each flow began that have no answer yet.
	begun map[int][]time.Duration
	// unplaced are requests of which it is still to be found out who answered them.
	unplaced []unplaced
}

// record starts the scenario's traffic; without any it does nothing.
func (s *scenarioRun) record(ctx context.Context) error {
	if len(s.planned.Spec.Traffic) == 0 {
		return nil
	}
	s.waiting("its streams")
	defer s.lane.In(walltime.Windows)()
	r := &recorder{s: s, worlds: map[string]*history.World{}, witnesses: map[types.UID]*witness{}, told: map[string]bool{}, begun: map[int][]time.Duration{}, components: map[string]bool{}}
	for i := range s.planned.Spec.Traffic {
		r.leadsTo(s.planned.Spec.Traffic[i].Target, s.planned.Spec.Traffic[i].Protocol)
	}
	for _, step := range s.planned.Spec.Steps {
		for _, a := range step.Actions {
			if a.Hold != nil {
				r.leadsTo(a.Hold.Target, a.Hold.Protocol)
			}
		}
	}
	// The wall clock, because it is what other processes' times are compared with.
	r.rec = history.Recording{Scenario: s.res.Name, Dialect: string(s.e.dialect()), Began: time.Now().Round(0), Budget: s.budget()}
	base, err := s.readWorld(ctx)
	if err != nil {
		return err
	}
	r.world = &trackedWorld{s: s}
	r.world.start(base.World)
	first, err := r.keep(ctx, r.world.current())
	if err != nil {
		return err
	}
	r.rec.Base = first
	s.recorder = r // whatever has begun to flow is stopped by close
	for i := range s.planned.Spec.Traffic {
		spec := &s.planned.Spec.Traffic[i]
		if s.lackedByRequest(&spec.Request) != "" {
			continue
		}
		if err := r.flow(ctx, spec, len(s.planned.Spec.Traffic)); err != nil {
			return fmt.Errorf("%s: stream %s: %w", spec.Pos, spec.Name, err)
		}
	}
	if len(r.flows) == 0 {
		s.recorder = nil
		return nil
	}
	// All of them flow before the first step: one answer of each is awaited.
	if err := r.take(ctx, r.flows, callTimeout); err != nil {
		return err
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	r.settled = r.now()
	background, stop := context.WithCancel(ctx)
	r.stop = stop
	r.done.Go(func() { r.follow(background) })
	return nil
}

// leadsTo notes that requests go to a target.
func (r *recorder) leadsTo(text string, protocol scenarios.Protocol) {
	if target, err := r.s.planned.Target(text, protocol); err == nil {
		r.components[target.Component] = true
	}
}

// budget is how long a write may take to come into force.
func (s *scenarioRun) budget() time.Duration {
	if s.planned.Spec.Budget == 0 && s.e.TransitionBudget > 0 {
		return s.e.TransitionBudget
	}
	return s.planned.Spec.TransitionBudget()
}

// since is a time of this machine's clock in the recording.
func (r *recorder) since(t time.Time) time.Duration { return t.Round(0).Sub(r.rec.Began) }

func (r *recorder) now() time.Duration { return r.since(time.Now()) }

// keep makes a world of the recording.
func (r *recorder) keep(ctx context.Context, world oracle.World) (string, error) {
	pods, origins, err := r.s.worldPods(ctx)
	if err != nil {
		return "", err
	}
	world.Origins = origins
	kept, err := history.NewWorld(string(r.s.e.dialect()), world, pods)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worlds[kept.ID] = kept
	return kept.ID, nil
}

// follow reads until it is stopped.
func (r *recorder) follow(ctx context.Context) {
	for pause(ctx, readEvery) == nil {
		// What cannot be read now is read next time, or is missed at the end.
		_ = r.read(ctx)
	}
}

// close ends the traffic, and keeps what came after the last step.
func (r *recorder) close(ctx context.Context) error {
	if r == nil {
		return nil
	}
	defer r.s.lane.In(walltime.Judging)()
	if r.stop != nil {
		r.stop()
	}
	r.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentBudget)
	defer cancel()
	if err := errors.Join(r.endStreams(ctx), r.read(ctx)); err != nil {
		return err
	}
	r.holds(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.concluded(); err != nil {
		return err
	}
	return r.keepAll()
}

// keepAll writes to the run's history what it does not have yet, up to the first
// request of which it is not known who answered.
func (r *recorder) keepAll() error {
	to := len(r.rec.Requests)
	for _, u := range r.unplaced {
		to = min(to, u.place)
	}
	if err := r.s.e.history.Record(&r.rec, r.worlds, r.kept, to); err != nil {
		return err
	}
	r.kept = to
	return nil
}
