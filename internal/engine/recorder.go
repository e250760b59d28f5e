package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// readEvery is between two looks at what streams, proxies and applications have
	// recorded: well below the time in which any of their rings overflows.
	readEvery = time.Second
	// settleWindow is how long streams are watched before the first change and once
	// a change is in force; in between steps follow each other at once.
	settleWindow = 300 * time.Millisecond
	// windowBudget is for windows in which too few calls were answered: the machine
	// may be busy, or the rate low.
	windowBudget = 4 * time.Second
	// answerBudget is for the calls that were under way at the end of a window: above
	// what a busy machine needs, below the time-out of one that nobody answers.
	answerBudget = 3 * time.Second
)

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

// unplaced is a request that waits for its records.
type unplaced struct {
	// place among the requests.
	place int
	flow  *flow
	// local is the client's side of the connection.
	local string
}

// flow is a stream of spec.traffic.
type flow struct {
	place  int
	name   string
	spec   *scenarios.Stream
	target scenarios.Target
	from   client

	mu sync.Mutex
	// seq is the last answer that was read; sent, answered, missed and lost count
	// calls, as of asked.
	seq, sent, answered, missed, lost int64
	asked                             time.Time
	stopped                           bool
}

// record starts the scenario's traffic; without any it does nothing.
func (s *scenarioRun) record(ctx context.Context) error {
	if len(s.planned.Spec.Traffic) == 0 {
		return nil
	}
	s.waiting("its streams")
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

// flow starts one stream, out of step with the others.
func (r *recorder) flow(ctx context.Context, spec *scenarios.Stream, of int) error {
	s := r.s
	request, from, err := s.request(ctx, &spec.Request, "")
	if err != nil {
		return err
	}
	f := &flow{place: len(r.flows), name: s.res.Name + "-" + spec.Name, spec: spec, from: from}
	f.target, _ = s.planned.Target(spec.Target, spec.Protocol)
	request.ID, request.Keep = s.e.short()+"-"+f.name, false
	one := history.Stream{Name: spec.Name, ClientKind: string(from.Kind), Target: spec.Target, Protocol: string(spec.Protocol), Connection: string(spec.Connection),
		Port: uint16(f.target.Port), Rate: spec.Rate, ID: request.ID}
	if one.Connection == "" {
		one.Connection = string(scenarios.Fresh)
	}
	if one.Client, err = asked.Client(from.Client, asked.From(&spec.Request, from.address), from.identity); err != nil {
		return err
	}
	if one.Request, err = asked.Request(&spec.Request, request.Address); err != nil {
		return err
	}
	one.Request.Headers = s.texts(one.Request.Headers)
	spacing := time.Duration(float64(time.Second) / spec.Rate)
	if err := from.agent.StartStream(ctx, control.StreamSpec{Name: f.name, Request: request, Rate: spec.Rate, Phase: spacing * time.Duration(f.place) / time.Duration(of)}); err != nil {
		return err
	}
	if s.claimsAbout(spec.Name) {
		// They keep books of their own.
		s.streams[spec.Name] = &streamRun{client: from, name: f.name}
	}
	r.flows = append(r.flows, f)
	r.rec.Streams = append(r.rec.Streams, one)
	// The stream flows before the first step: one answer is awaited.
	return r.take(ctx, f, callTimeout)
}

// claimsAbout says whether a claim judges the stream's calls by itself.
func (s *scenarioRun) claimsAbout(stream string) bool {
	for _, step := range s.planned.Steps {
		for _, claim := range step.Claims {
			if claim.Claim.Traffic != nil && claim.Claim.Traffic.Stream == stream {
				return true
			}
		}
	}
	return false
}

// take reads what a stream has answered; with a wait it waits for an answer.
func (r *recorder) take(ctx context.Context, f *flow, wait time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil
	}
	asked := time.Now()
	page, err := f.from.agent.Stream(ctx, f.name, f.seq, wait)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", f.spec.Name, err)
	}
	r.took(f, page, asked)
	return nil
}

// took makes requests of answers, for which nobody has been found yet who gave
// them.
func (r *recorder) took(f *flow, page control.StreamPage, asked time.Time) {
	f.sent, f.missed, f.asked = page.Sent, page.Missed, asked
	f.lost += page.Dropped
	f.answered += int64(len(page.Outcomes))
	f.seq = max(f.seq, page.Last)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[f.place] = r.begun[f.place][:0]
	for _, began := range page.UnderWay {
		r.begun[f.place] = append(r.begun[f.place], r.since(f.from.clock.local(began)))
	}
	stream := &r.rec.Streams[f.place]
	stream.Sent, stream.Missed, stream.Lost = f.sent, f.missed, f.lost
	for _, one := range page.Outcomes {
		o := one.Outcome
		r.unplaced = append(r.unplaced, unplaced{place: len(r.rec.Requests), flow: f, local: o.LocalAddr})
		r.rec.Requests = append(r.rec.Requests, history.Request{Stream: f.place, Call: one.Call, Start: r.since(f.from.clock.local(o.Start)), End: r.since(f.from.clock.local(o.End)),
			Kind: o.Kind, HTTPStatus: o.HTTPStatus, GRPCStatus: o.GRPCStatus, Delivered: unknown, ID: stream.CallID(one.Call)})
	}
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

// begin notes that a step begins. Before one that changes something, every stream
// has been watched for a while.
func (r *recorder) begin(ctx context.Context, step *scenarios.PlannedStep) error {
	if r == nil {
		return nil
	}
	r.step = history.StepSpan{Name: step.Name, From: r.now()}
	if !step.Changes() {
		return nil
	}
	return r.watch(ctx, r.settled)
}

// dwell watches the streams in the middle of a step of which it is claimed that
// something can be seen there.
func (r *recorder) dwell(ctx context.Context, step *scenarios.PlannedStep) error {
	passing := func(c scenarios.StreamCourse) bool {
		return c.Course == scenarios.WindowOfDenials || c.Course == scenarios.WindowOfGrants
	}
	if r == nil || len(r.unsettled) > 0 || !slices.ContainsFunc(step.During, passing) {
		return nil
	}
	return r.watch(ctx, r.settled)
}

// healed notes the end of a fault, by which everything that was written in the
// meantime is in force.
func (r *recorder) healed(ctx context.Context) {
	if r != nil && !r.s.untold() {
		r.changed(ctx)
	}
}

// installed notes that the settings of the mesh have become others.
func (r *recorder) installed(ctx context.Context, called time.Time) error {
	if r == nil {
		return nil
	}
	if err := r.world.resettle(); err != nil {
		return err
	}
	world, err := r.keep(ctx, r.world.current())
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.group++
	r.rec.Writes = append(r.rec.Writes, history.Write{Step: r.step.Name, Group: r.group, Verb: "installed", Kind: meshKind, Name: meshNamespace, Call: r.since(called), Ack: r.now(), World: world})
	r.mu.Unlock()
	r.changed(ctx)
	return nil
}

// meshKind is what recordings call the mesh as a whole, of which settings are written.
const meshKind = "Mesh"

// watch waits until every stream was watched since then for long enough.
func (r *recorder) watch(ctx context.Context, since time.Duration) error {
	until := time.Now().Add(windowBudget)
	if rest := since + settleWindow - r.now(); rest > 0 {
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	for _, f := range r.flows {
		for r.answered(f, since) < transition.MinSamples && time.Now().Before(until) {
			if err := r.take(ctx, f, pollInterval); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// answered counts the calls of a stream that were made since then and answered,
// up to as many as are needed.
func (r *recorder) answered(f *flow, since time.Duration) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for i := len(r.rec.Requests) - 1; i >= 0 && count < transition.MinSamples && r.rec.Requests[i].End >= since; i-- {
		if one := &r.rec.Requests[i]; one.Stream == f.place && one.Start >= since {
			count++
		}
	}
	return count
}

// wrote notes writes of one action, in the order in which they were made.
func (r *recorder) wrote(ctx context.Context, writes []write, wait scenarios.Wait) error {
	var concerned []write
	for _, w := range writes {
		if w.policy() || w.kind == "Pod" || w.kind == "Namespace" {
			concerned = append(concerned, w)
		}
	}
	if r == nil || len(concerned) == 0 {
		return nil
	}
	if !r.open {
		r.group++
	}
	r.open = wait == scenarios.WaitNone
	for _, w := range concerned {
		if err := r.write(ctx, w); err != nil {
			return err
		}
	}
	if wait == scenarios.WaitNone || wait == scenarios.WaitObserved {
		r.unsettled = append(r.unsettled, concerned...)
	}
	return nil
}

// write notes one write, and the status that follows from it as one of its own.
func (r *recorder) write(ctx context.Context, w write) error {
	pending, err := r.world.take(ctx, w)
	if err != nil {
		return err
	}
	one := history.Write{Step: r.step.Name, Group: r.group, Verb: w.verb, Kind: w.kind, Namespace: w.namespace, Name: w.name, Call: r.since(w.called), Ack: r.since(w.accepted)}
	world := r.world.current()
	if len(pending) > 0 {
		world = detached(world, named{w.group, w.kind, w.namespace, w.name}, pending)
	}
	if one.World, err = r.keep(ctx, world); err != nil {
		return err
	}
	whole := one.World
	if len(pending) > 0 {
		if whole, err = r.keep(ctx, r.world.current()); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Writes = append(r.rec.Writes, one)
	for _, p := range pending {
		r.rec.Writes = append(r.rec.Writes, history.Write{Step: one.Step, Group: one.Group, Verb: verbAccepted, Kind: p.kind, Namespace: p.namespace, Name: p.name, Call: one.Call, Ack: one.Ack, World: whole})
	}
	return nil
}

// verbAccepted is the verb of a status that makes an object count.
const verbAccepted = "accepted"

// accepted notes that the status of what the last group wrote says so: only now do
// routes and rate limits count as written.
func (r *recorder) accepted(at time.Time) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rec.Writes {
		if w := &r.rec.Writes[i]; w.Group >= r.first && (w.Verb == verbAccepted || slices.Contains(counting, w.Kind)) {
			w.Ack = max(w.Ack, r.since(at))
		}
	}
}

// observed notes that every controller has observed the last group.
func (r *recorder) observed(at time.Time) {
	if r == nil || r.doubtful() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rec.Writes {
		if w := &r.rec.Writes[i]; w.Group >= r.first && w.Observed == 0 {
			w.Observed = r.since(at)
		}
	}
}

// inForce notes that a port enforces what follows from the last group.
func (r *recorder) inForce(at time.Time, one endpoint, hash string) {
	if r == nil || r.doubtful() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.rec.Writes {
		if w := &r.rec.Writes[i]; w.Group >= r.first {
			w.InForce = append(w.InForce, history.InForce{Pod: one.pod.String(), Port: uint16(one.port), At: r.since(at), Hash: hash})
		}
	}
}

// changed notes that everything that was written is in force, or that pods were
// replaced and are there. While a fault lasts nobody knows the one, and the other
// changes no policy.
func (r *recorder) changed(ctx context.Context) {
	if r == nil || r.doubtful() {
		return
	}
	r.reading.Lock()
	_ = r.look(ctx) // who came and who went; what fails is looked at again
	r.reading.Unlock()
	r.settled, r.unsettled, r.first = r.now(), nil, r.group+1
	r.step.InForce = r.settled
}

// begins notes that the step does something that streams could notice.
func (r *recorder) begins(a *scenarios.Action) {
	if r != nil && a.Changes() && r.step.FirstWrite == 0 {
		r.step.FirstWrite = r.now()
	}
}

// doubtful says that there are writes that nobody can wait for, because a fault
// lasts: whatever is in force, it need not be what follows from them.
func (r *recorder) doubtful() bool { return len(r.unsettled) > 0 && r.s.untold() }

// owed raises the bounds to the writes that nobody has waited for, unless nobody
// can wait for them.
func (r *recorder) owed(least versions) {
	if r == nil || r.s.untold() {
		return
	}
	for _, w := range r.unsettled {
		least.with(w)
	}
}

// end closes the window of a step: every stream was watched for long enough, and
// what was called until then was answered and is recorded.
func (r *recorder) end(ctx context.Context) error {
	if len(r.unsettled) > 0 {
		r.step.InForce = 0
	}
	if r.step.FirstWrite > 0 {
		if err := r.watch(ctx, max(r.step.InForce, r.step.FirstWrite)); err != nil {
			return err
		}
	}
	r.step.To = r.now()
	late := time.Now().Add(answerBudget)
	for {
		if err := r.read(ctx); err != nil {
			return err
		}
		if !r.underWay(r.step.To) || time.Now().After(late) {
			break
		}
		if err := pause(ctx, pollInterval/4); err != nil {
			return err
		}
	}
	if r.step.InForce == 0 && r.step.FirstWrite > 0 {
		r.settled = r.step.To
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Steps = append(r.rec.Steps, r.step)
	return nil
}

// underWay says whether a call that began before then may have no answer yet.
func (r *recorder) underWay(then time.Duration) bool {
	for _, f := range r.flows {
		f.mu.Lock()
		open := f.sent > f.answered+f.lost || r.since(f.asked) < then
		f.mu.Unlock()
		if open {
			return true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unplaced) > 0
}

// close ends the traffic, and keeps what came after the last step.
func (r *recorder) close(ctx context.Context) error {
	if r == nil {
		return nil
	}
	if r.stop != nil {
		r.stop()
	}
	r.done.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentBudget)
	defer cancel()
	group := newGroup()
	for _, f := range r.flows {
		group.do(func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			asked := time.Now()
			page, err := f.from.agent.StopStream(ctx, f.name, f.seq)
			if err != nil {
				return fmt.Errorf("stop stream %s: %w", f.spec.Name, err)
			}
			r.took(f, page, asked)
			f.stopped = true
			if shared := r.s.streams[f.spec.Name]; shared != nil {
				shared.mu.Lock()
				shared.stopped = true
				shared.mu.Unlock()
			}
			return nil
		})
	}
	if err := errors.Join(group.wait(), r.read(ctx)); err != nil {
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
