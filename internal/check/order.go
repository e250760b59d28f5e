package check

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// Kind says what is wrong with a request.
type Kind string

// The kinds of findings, by the name of the check that is broken.
const (
	// Impossible: no version that had been written when the request returned
	// answers so (N1).
	Impossible Kind = "impossible"
	// Backwards: only a version answers so that is older than one by which this
	// proxy had provably decided before (N2).
	Backwards Kind = "backwards"
	// Stale: only a version answers so whose successor had been acknowledged for
	// longer than the budget, or was in force already (N3).
	Stale Kind = "stale"
)

// Kinds lists all of them.
func Kinds() []Kind { return []Kind{Impossible, Backwards, Stale} }

// Finding is a request that nothing explains.
type Finding struct {
	// Request is its place in History.Requests.
	Request int
	Kind    Kind
	// AtLeast and AtMost are the versions that can have decided it.
	AtLeast, AtMost int
}

// Span are the versions that can have decided a request, whatever its answer was:
// Decided is the greatest by which the proxy had provably decided before its call,
// AtLeast moreover no older than what was overdue, and AtMost the last one that
// was being written when it returned.
type Span struct{ Decided, AtLeast, AtMost int }

// Order finds the requests that no order of switches and decisions explains, in
// the order of their calls; none means that there is one.
//
// Versions are totally ordered, so this is no search: each request is given the
// smallest version that it fits and that is neither overdue nor older than what
// was decided before its call. Smaller choices leave more to those that follow,
// so if this fails, everything does. A request without an explanation is left
// out of what follows, and the others are judged without it.
func (h *History) Order() []Finding {
	findings, _ := h.Explain()
	return findings
}

// Explain is Order with the span of each request, by its place.
func (h *History) Explain() ([]Finding, []Span) {
	due := h.known(h.due())
	byCall, byReturn := h.sorted(func(r Request) time.Duration { return r.Call }), h.sorted(func(r Request) time.Duration { return r.Return })
	chosen, spans := make([]int, len(h.Requests)), make([]Span, len(h.Requests))
	var findings []Finding
	returned, decided := 0, 0
	for _, i := range byCall {
		r := h.Requests[i]
		// What had returned before this call is decided already: it was called
		// earlier still.
		for ; returned < len(byReturn) && h.Requests[byReturn[returned]].Return < r.Call; returned++ {
			decided = max(decided, chosen[byReturn[returned]])
		}
		overdue := sort.Search(len(due), func(w int) bool { return due[w] >= r.Call })
		written := sort.Search(len(h.Writes), func(w int) bool { return h.Writes[w].Call > r.Return })
		span := Span{Decided: decided, AtLeast: max(overdue, decided), AtMost: written}
		if r.Elsewhere {
			span.Decided, span.AtLeast = 0, overdue
		}
		spans[i] = span
		choice := r.Fits.from(span.AtLeast)
		if choice <= written {
			// What is overdue now is so for all that follow: only an answer beyond
			// that proves a decision.
			if !r.Elsewhere && choice > overdue {
				chosen[i] = choice
			}
			continue
		}
		finding := Finding{Request: i, Kind: Stale, AtLeast: span.AtLeast, AtMost: written}
		switch {
		case r.Fits.from(0) > written:
			finding.Kind = Impossible
		case r.Fits.from(overdue) <= written:
			finding.Kind = Backwards
		}
		findings = append(findings, finding)
	}
	return findings, spans
}

// sorted are the places of the requests by a time of theirs.
func (h *History) sorted(by func(Request) time.Duration) []int {
	places := make([]int, len(h.Requests))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(by(h.Requests[a]), by(h.Requests[b])) })
	return places
}

// due is until when each write may take to come into force. What follows from a
// later write is never due before an earlier one.
func (h *History) due() []time.Duration {
	due := make([]time.Duration, 0, len(h.Writes))
	if h.Budget == Unlimited {
		return due
	}
	for i, w := range h.Writes {
		end := h.extended(w.Ack, h.Budget)
		if i > 0 {
			end = max(end, due[i-1])
		}
		due = append(due, end)
	}
	return due
}

// known is due with what is known beside the budget: that a version is in force, and
// so all before it are over.
func (h *History) known(due []time.Duration) []time.Duration {
	if len(due) == 0 {
		due = slices.Repeat([]time.Duration{never}, len(h.Writes))
	}
	over := never
	for i := len(h.Writes) - 1; i >= 0; i-- {
		if at := h.Writes[i].InForce; at != 0 {
			over = min(over, at)
		}
		due[i] = min(due[i], over)
	}
	return due
}

// never is later than anything.
const never = time.Duration(1<<63 - 1)

// extended is the instant at which the budget, begun at from, is spent; it does
// not run while the proxy is suspended.
func (h *History) extended(from, budget time.Duration) time.Duration {
	suspended := slices.Clone(h.Suspended)
	slices.SortFunc(suspended, func(a, b Interval) int { return cmp.Compare(a.From, b.From) })
	end := from + budget
	for _, pause := range suspended {
		if pause.To > from && pause.From <= end {
			end += pause.To - max(pause.From, from)
			from = pause.To
		}
	}
	return end
}
