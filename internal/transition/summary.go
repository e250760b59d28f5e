package transition

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// Summary are the figures of the recording, as reports tell them.
func (v *Verdict) Summary() *result.Transitions {
	t := &result.Transitions{Requests: v.Counts.Requests, Unavailable: v.Counts.Unavailable + v.Counts.Slow, Leaks: v.Leaks(), Outages: v.Outages()}
	t.Others = len(v.Findings) - t.Leaks - t.Outages
	for _, b := range v.Brackets {
		if b.Measures() {
			keep(&t.Propagation, b.Transition, b.Class, b.Low, b.High)
		}
	}
	for _, s := range v.Skews {
		keep(&t.Skew, v.c.wrote(v.c.first(s.Write+1), s.Write+1), v.c.Class(s.Stream), s.Low, s.High)
	}
	for _, e := range v.Ends {
		if e.Version > 0 {
			hold := v.c.Recording.Holds[e.Hold]
			keep(&t.Cuts, v.c.wrote(e.Version, e.Version), fmt.Sprintf("%s %s", hold.ClientKind, hold.Protocol), e.Low, e.High)
		}
	}
	return t
}

// keep adds a bracket to those of its kind.
func keep(into *[]result.Delays, transition, class string, low, high time.Duration) {
	at, known := slices.BinarySearchFunc(*into, result.Delays{Transition: transition, Class: class}, func(a, b result.Delays) int {
		return cmp.Or(cmp.Compare(a.Transition, b.Transition), cmp.Compare(a.Class, b.Class))
	})
	if !known {
		*into = slices.Insert(*into, at, result.Delays{Transition: transition, Class: class})
	}
	d := &(*into)[at]
	d.Low, d.High = append(d.Low, milliseconds(low)), append(d.High, milliseconds(high))
}

// milliseconds is a delay as figures have it: to a hundredth, which is finer than
// anything here is measured.
func milliseconds(d time.Duration) float64 {
	return math.Round(d.Seconds()*100_000) / 100
}
