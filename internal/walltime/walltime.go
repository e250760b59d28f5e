// Package walltime says what the time of a run went into.
//
// Phases flow in, from the run as a whole and from each of its scenarios, which
// work side by side; durations by phase come out. A scenario's add up to the time
// that it was at work. The run's add up to its wall time: of a moment at which
// several scenarios are at work each has an equal share, and the run's own phase
// has the moments at which none is.
//
// It measures nothing but time, decides nothing, and a nil *Book or *Lane takes
// everything and has nothing.
package walltime

import (
	"slices"
	"sync"
	"time"
)

// Phase is what time can go into. The closed set is listed by Phases.
type Phase string

const (
	// Turn is waiting: for another run that has the cluster, or for other scenarios
	// when nobody else is at work.
	Turn Phase = "turn"
	// Cluster is making or opening it, and giving it back at the end.
	Cluster Phase = "cluster"
	// Images is bringing in those that the cluster lacks.
	Images Phase = "images"
	// Mesh is installing it, also with the settings of a scenario.
	Mesh Phase = "mesh"
	// Pods is having namespaces, workloads and clients come up, or go.
	Pods Phase = "pods"
	// Writes is what the API server takes to accept changes.
	Writes Phase = "writes"
	// InForce is the wait until a change has been observed and is enforced.
	InForce Phase = "in force"
	// Faults is making and mending them.
	Faults Phase = "faults"
	// Windows is watching streams for as long as a conclusion needs.
	Windows Phase = "windows"
	// Judging is making the calls that claims are about, and judging what was seen.
	Judging Phase = "judging"
	// Evidence is gathering what shows what was there when something failed.
	Evidence Phase = "evidence"
	// Removal is taking back what scenarios have made.
	Removal Phase = "removal"
	// Rest is everything else.
	Rest Phase = "rest"
)

// Phases lists every Phase, in the order in which a run comes to them.
func Phases() []Phase {
	return []Phase{Turn, Cluster, Images, Mesh, Pods, Writes, InForce, Faults, Windows, Judging, Evidence, Removal, Rest}
}

// Spent is what went into one phase.
type Spent struct {
	Phase Phase
	// Wall is this phase's part of the wall time.
	Wall time.Duration
	// Work is what all scenarios spent on it, one after the other; 0 for what is
	// not done by scenarios.
	Work time.Duration
}

// Book keeps the time of a run from when it was opened.
type Book struct {
	now func() time.Time

	mu     sync.Mutex
	last   time.Time
	ground Phase
	// at counts the lanes in each phase, and busy all of them.
	at   map[Phase]int
	busy int
	wall map[Phase]time.Duration
	work map[Phase]time.Duration
}

// Open begins to keep time, with the run as a whole in phase Rest.
func Open() *Book { return open(time.Now) }

func open(now func() time.Time) *Book {
	return &Book{now: now, last: now(), ground: Rest, at: map[Phase]int{}, wall: map[Phase]time.Duration{}, work: map[Phase]time.Duration{}}
}

// pass gives what went by since the last call to whoever was at work; mu is held.
func (b *Book) pass() time.Time {
	now := b.now()
	gone := now.Sub(b.last)
	b.last = now
	if b.busy == 0 {
		b.wall[b.ground] += gone
		return now
	}
	given := time.Duration(0)
	largest := Phase("")
	for phase, lanes := range b.at {
		share := gone * time.Duration(lanes) / time.Duration(b.busy)
		b.wall[phase] += share
		b.work[phase] += gone * time.Duration(lanes)
		given += share
		if largest == "" || lanes > b.at[largest] {
			largest = phase
		}
	}
	b.wall[largest] += gone - given // what dividing has left over
	return now
}

// Enter says what the run as a whole is at from now on.
func (b *Book) Enter(phase Phase) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass()
	b.ground = phase
}

// Spent is what time went into so far, without phases that took none. The Wall of
// all adds up to the time since Open.
func (b *Book) Spent() []Spent {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pass()
	var out []Spent
	for _, phase := range Phases() {
		if b.wall[phase] > 0 {
			out = append(out, Spent{phase, b.wall[phase], b.work[phase]})
		}
	}
	return out
}

// Lane keeps the time of one scenario. It is at work while it is in a phase, in
// one at a time, and belongs to one goroutine at a time.
type Lane struct {
	book  *Book
	phase Phase
	since time.Time
	own   map[Phase]time.Duration
}

// Lane is a new one, which is not at work.
func (b *Book) Lane() *Lane {
	if b == nil {
		return nil
	}
	return &Lane{book: b, own: map[Phase]time.Duration{}}
}

// In has the lane be in a phase until the function that it returns is called,
// which puts it back to where it was: of phases within each other the innermost
// counts.
func (l *Lane) In(phase Phase) (back func()) {
	if l == nil {
		return func() {}
	}
	before := l.move(phase)
	return func() { l.move(before) }
}

// move puts the lane into another phase, or away from work with "".
func (l *Lane) move(to Phase) (from Phase) {
	b := l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.pass()
	from = l.phase
	if from != "" {
		l.own[from] += now.Sub(l.since)
		b.busy--
		if b.at[from]--; b.at[from] == 0 {
			delete(b.at, from)
		}
	}
	if to != "" {
		b.busy++
		b.at[to]++
	}
	l.phase, l.since = to, now
	return from
}

// Spent is what the lane's own time went into, up to when it last changed its
// phase. Wall and Work are the same.
func (l *Lane) Spent() []Spent {
	if l == nil {
		return nil
	}
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	var out []Spent
	for _, phase := range Phases() {
		if took := l.own[phase]; took > 0 {
			out = append(out, Spent{phase, took, took})
		}
	}
	return out
}

// Sum adds up the Wall of all.
func Sum(all []Spent) time.Duration {
	sum := time.Duration(0)
	for _, one := range all {
		sum += one.Wall
	}
	return sum
}

// Known reports whether a phase is one of Phases.
func Known(phase Phase) bool { return slices.Contains(Phases(), phase) }
