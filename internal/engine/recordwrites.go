package engine

import (
	"context"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/scenarios"
)

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
