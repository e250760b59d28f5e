package transition

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
)

// Phase is a part of a step.
type Phase string

// The phases.
const (
	// Before: from when the change before was in force until this one is written.
	Before Phase = "before"
	// During: from when it is written until the step ends.
	During Phase = "during"
	// After: from when it is in force until the step ends.
	After Phase = "after"
)

// Phases lists all of them.
func Phases() []Phase { return []Phase{Before, During, After} }

// MinSamples is how many answers of a policy a window must hold: with fewer,
// nothing can be said of it (B3).
const MinSamples = 5

// Window is what was seen of a stream in a phase of a step.
type Window struct {
	Stream string
	Phase  Phase
	// From and To are its ends; equal when there is no such window.
	From, To time.Duration
	// Requests were made, and Seen of them were answered by a policy.
	Requests, Seen int
	// Telling are answers that only the policy before the step gives, or only the
	// one after it.
	Telling int
	// Slow calls had no answer, and nobody knows for what they waited.
	Slow int
	// Allowed, Denied and Other are outcomes. Those without an answer are among
	// the others, unless they look like a denial.
	Allowed, Denied, Other int
	// Wrong are answers that the policies of the phase do not give; First is the
	// place of the first of them, -1 when there is none.
	Wrong, First int
	// Findings of the stream in the window, by their places.
	Findings []int
}

// Enough reports whether anything can be said of the window (B3): of what was asked
// a policy has answered enough, and more than was left without an answer.
func (w Window) Enough() bool { return w.Seen >= MinSamples && w.Seen > w.Slow }

// Window is what was seen of a stream in a phase of a step; nil for a stream or a
// step that is not in the recording.
func (v *Verdict) Window(step, stream string, phase Phase) *Window {
	r := v.c.Recording
	s := slices.IndexFunc(r.Steps, func(one history.StepSpan) bool { return one.Name == step })
	at := slices.IndexFunc(r.Streams, func(one history.Stream) bool { return one.Name == stream })
	if s < 0 || at < 0 {
		return nil
	}
	return v.WindowAt(s, at, phase)
}

// WindowAt is Window by the places in the recording.
func (v *Verdict) WindowAt(step, stream int, phase Phase) *Window {
	r := v.c.Recording
	b := v.bounds(step)
	w := &Window{Stream: r.Streams[stream].Name, Phase: phase, First: -1}
	least, most := b.before, b.before
	switch phase {
	case Before:
		w.From, w.To = b.settled, b.wrote
		least = min(b.known, b.before)
	case During:
		w.From, w.To = b.wrote, b.to
		least, most = min(b.known, b.before), b.after
	case After:
		w.From, w.To = b.inForce, b.to
		least, most = b.after, b.after
		if r.Steps[step].FirstWrite == 0 {
			least = min(b.known, b.before) // what came before may be under way still
		}
	}
	if w.To <= w.From {
		w.To = w.From
		return w
	}
	calls := v.calls[stream]
	from := 0
	if phase != During {
		from = sort.Search(len(calls), func(i int) bool { return r.Requests[calls[i]].Start >= w.From })
	}
	for _, i := range calls[from:] {
		q, t := &r.Requests[i], &v.traces[i]
		if q.Start > w.To {
			break
		}
		if phase == During && q.End < w.From || phase != During && q.End > w.To {
			continue // outside, or across the end and so perhaps of another policy
		}
		w.Requests++
		switch {
		case q.Kind == clients.Allowed:
			w.Allowed++
		case q.Kind.Denial():
			w.Denied++
		default:
			w.Other++
		}
		if t.finding >= 0 {
			w.Findings = append(w.Findings, t.finding)
		}
		if t.slow {
			w.Slow++
		}
		if !t.answer.told {
			continue
		}
		w.Seen++
		if t.answer.fits.Contains(b.before) != t.answer.fits.Contains(b.after) {
			w.Telling++
		}
		if !t.answer.fits.Within(least, most) {
			w.Wrong++
			if w.First < 0 {
				w.First = i
			}
		}
	}
	slices.Sort(w.Findings)
	return w
}

// bounds of a step.
type bounds struct {
	// settled is when the state before the step is known to have been in force
	// from, wrote when the step began to change it, inForce when what it had
	// written was in force, and to when it ended. inForce is to where nobody could
	// wait for it.
	settled, wrote, inForce, to time.Duration
	// before and after are the versions at its ends; known is the last one before
	// it of which it is known that it was in force.
	before, known, after int
}

func (v *Verdict) bounds(step int) bounds {
	r := v.c.Recording
	s := r.Steps[step]
	b := bounds{wrote: s.FirstWrite, inForce: s.InForce, to: s.To}
	for i := range step {
		if earlier := r.Steps[i]; earlier.InForce != 0 {
			b.settled, b.known = earlier.InForce, v.c.until(earlier.To)
		}
	}
	if b.wrote == 0 {
		// Nothing was written: policy is the same on either side of whatever else
		// the step does.
		b.wrote = s.From
		if b.inForce == 0 {
			b.inForce = s.From
		}
	}
	if b.to == 0 && len(r.Requests) > 0 {
		for i := range r.Requests {
			b.to = max(b.to, r.Requests[i].End)
		}
	}
	if b.inForce == 0 {
		b.inForce = b.to
	}
	b.before, b.after = v.c.until(b.wrote), v.c.until(b.to)
	return b
}

// until is the version that the writes have made that were called before a moment.
func (c *Case) until(at time.Duration) int {
	n := 0
	for i, w := range c.Recording.Writes {
		if w.Call < at {
			n = i + 1
		}
	}
	return n
}

// Thin tells of the windows around changes that hold too few answers to say
// anything (B3), a line each. A stream owes answers from its first request to its
// last.
func (v *Verdict) Thin() []string {
	r := v.c.Recording
	var lines []string
	for stream, calls := range v.calls {
		if len(calls) == 0 {
			lines = append(lines, fmt.Sprintf("stream %s never called", r.Streams[stream].Name))
		}
	}
	for step, span := range r.Steps {
		for stream, calls := range v.calls {
			if len(calls) == 0 || span.FirstWrite == 0 {
				continue
			}
			began, ended := r.Requests[calls[0]].Start, r.Requests[calls[len(calls)-1]].Start
			for _, phase := range Phases() {
				w := v.WindowAt(step, stream, phase)
				if w.Enough() || w.From == w.To || w.To <= began || w.From >= ended {
					continue
				}
				lines = append(lines, fmt.Sprintf("%s / %s %s: %d answers of a policy in %s are too few to say anything", span.Name, w.Stream, phase, w.Seen, moment(w.To-w.From)))
			}
		}
	}
	return lines
}

// Wrong tells of the windows in which the first answer that the policies of the
// phase do not give is no finding yet, a line each: what nobody has said to be in
// force at that pod may have had its budget still, but the engine had waited for it.
func (v *Verdict) Wrong() []string {
	r := v.c.Recording
	var lines []string
	for step, span := range r.Steps {
		for stream := range r.Streams {
			for _, phase := range []Phase{Before, After} {
				w := v.WindowAt(step, stream, phase)
				if w.First < 0 || v.traces[w.First].finding >= 0 {
					continue
				}
				q := &r.Requests[w.First]
				lines = append(lines, fmt.Sprintf("%s / %s %s: request %s, %s to %s, was %s, which is right by no policy of this time", span.Name, w.Stream, phase,
					v.name(q), moment(q.Start), moment(q.End), observed(q.Kind, q.HTTPStatus, q.GRPCStatus)))
			}
		}
	}
	return lines
}
