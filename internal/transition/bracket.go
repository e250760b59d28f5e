package transition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/check"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Bracket is between which two delays after it was written a change took effect
// for one stream at one pod (N4).
type Bracket struct {
	// Write is its place in the recording; of a group the last one.
	Write int
	// Stream is its place in the recording.
	Stream int
	Pod    string
	// Transition is the kind of change, and Class that of client.
	Transition, Class string
	// Low is from the write's call to the call of the last request that was still
	// answered as before, High to the return of the first one that was answered
	// anew.
	Low, High time.Duration
	// Informative requests tell on which side of the change they are.
	Informative int
	// Suspended says that a fault lay in between, and Coarse that the pod was hardly
	// called in between, for instance because it was not there: neither is a measure
	// of how fast changes are.
	Suspended, Coarse bool
}

// Measures reports whether the bracket tells how fast changes are.
func (b Bracket) Measures() bool { return !b.Suspended && !b.Coarse }

// coarse is how many times wider than the calls of its stream to one pod are apart
// a bracket may be and still measure something.
const coarse = 10

// Skew is how far the pods of a target were apart in a change (N4): at least Low
// and at most High between the first and the last of them.
type Skew struct {
	Write, Stream, Pods int
	Low, High           time.Duration
}

// Class is what kind of client a stream has: per connection and per request
// decisions differ, so fresh and reused connections are classes of their own.
func (c *Case) Class(stream int) string {
	s := &c.Recording.Streams[stream]
	return strings.Join([]string{s.ClientKind, s.Protocol, cmp.Or(s.Connection, fresh)}, " ")
}

// fresh is how a recording calls the connection of a stream that makes a new one
// for each call.
const fresh = "fresh"

// Transition is the kind of change that a version is for a stream at a pod: what
// was written, and what becomes of the answer; empty when the answer stays. Of a
// group it is about the version that ends it.
func (c *Case) Transition(stream, version int, pod string) (string, error) {
	first := c.first(version)
	before, err := c.Said(stream, first-1, pod)
	if err != nil {
		return "", err
	}
	after, err := c.Said(stream, version, pod)
	if err != nil || len(before) == 0 || len(after) == 0 || before[0].Outcome == after[0].Outcome {
		return "", err
	}
	return c.wrote(first, version) + ": " + course(before[0], after[0]), nil
}

// course is what becomes of an answer.
func course(before, after oracle.Verdict) string {
	word := func(v oracle.Verdict) string { return map[bool]string{true: "allow", false: "deny"}[v.Allowed()] }
	if before.Allowed() != after.Allowed() {
		return word(before) + "→" + word(after)
	}
	return fmt.Sprintf("%s→%s", before.Outcome, after.Outcome)
}

// first is the version that the group of a version begins with.
func (c *Case) first(version int) int {
	writes := c.Recording.Writes
	for version > 1 && writes[version-2].Group == writes[version-1].Group {
		version--
	}
	return version
}

// wrote is what the writes of the versions are, by kind.
func (c *Case) wrote(from, to int) string {
	var words []string
	for _, w := range c.Recording.Writes[from-1 : to] {
		if word := w.Kind + " " + w.Verb; !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, " + ")
}

// brackets finds those of the streams that come to a place. h are the requests
// there, spans what they were explained by, requests their places.
func (v *Verdict) brackets(p place, h *check.History, spans []check.Span, requests []int) error {
	r := v.c.Recording
	streams := map[int]bool{}
	for _, i := range requests {
		streams[r.Requests[i].Stream] = true
	}
	for stream := range r.Streams {
		if !streams[stream] {
			continue
		}
		found := h.BracketsOf(spans, func(i int) bool { return r.Requests[requests[i]].Stream == stream })
		for _, b := range found {
			if v.c.versions[b.Version].partial || !b.Seen {
				continue
			}
			transition, err := v.c.Transition(stream, b.Version, p.pod)
			if err != nil {
				return err
			}
			if transition == "" {
				continue
			}
			write := r.Writes[v.c.first(b.Version)-1].Call
			one := Bracket{Write: b.Version - 1, Stream: stream, Pod: p.pod, Transition: transition, Class: v.c.Class(stream),
				Low: max(0, b.LastOld-write), High: max(0, b.FirstNew-write), Informative: b.Informative}
			one.Low = min(one.Low, one.High)
			one.Suspended = slices.ContainsFunc(h.Suspended, func(i check.Interval) bool { return i.From <= b.FirstNew && i.To >= write })
			if rate := r.Streams[stream].Rate; rate > 0 {
				apart := time.Duration(float64(time.Second) / rate * float64(len(v.c.Pods(r.Streams[stream].Target))))
				one.Coarse = one.High-one.Low > coarse*apart
			}
			v.Brackets = append(v.Brackets, one)
		}
	}
	return nil
}

// skews compares the pods in each change.
func (v *Verdict) skews() {
	type key struct{ write, stream int }
	at := map[key][]Bracket{}
	var order []key
	for _, b := range v.Brackets {
		k := key{b.Write, b.Stream}
		if at[k] == nil {
			order = append(order, k)
		}
		at[k] = append(at[k], b)
	}
	for _, k := range order {
		all := at[k]
		if len(all) < 2 || slices.ContainsFunc(all, func(b Bracket) bool { return !b.Measures() }) {
			continue
		}
		byLow := func(a, b Bracket) int { return cmp.Compare(a.Low, b.Low) }
		byHigh := func(a, b Bracket) int { return cmp.Compare(a.High, b.High) }
		v.Skews = append(v.Skews, Skew{Write: k.write, Stream: k.stream, Pods: len(all),
			Low: max(0, slices.MaxFunc(all, byLow).Low-slices.MinFunc(all, byHigh).High), High: slices.MaxFunc(all, byHigh).High - slices.MinFunc(all, byLow).Low})
	}
}

// Rate is what became of the plan to call at a rate.
type Rate struct {
	Stream int
	// Planned and Reached are in calls per second; Reached is 0 where fewer than
	// two calls were made.
	Planned, Reached float64
}

// rates compares the streams with their plans.
func (v *Verdict) rates() {
	r := v.c.Recording
	for stream, calls := range v.calls {
		rate := Rate{Stream: stream, Planned: r.Streams[stream].Rate}
		if n := len(calls); n > 1 {
			if span := r.Requests[calls[n-1]].Start - r.Requests[calls[0]].Start; span > 0 {
				rate.Reached = float64(n-1) / span.Seconds()
			}
		}
		v.Rates = append(v.Rates, rate)
	}
}
