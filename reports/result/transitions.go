package result

import (
	"cmp"
	"math"
	"slices"
)

// Transitions are the figures of a scenario whose policy changed under traffic.
type Transitions struct {
	// Requests that were judged, and Unavailable the ones among them that had no
	// answer, for a reason that is known or after a long wait.
	Requests    int `json:"requests"`
	Unavailable int `json:"unavailable,omitempty"`
	// Leaks were let through although no policy in force lets them, Outages refused
	// although every policy in force lets them through; Others are wrong in another
	// way.
	Leaks   int `json:"leaks"`
	Outages int `json:"outages"`
	Others  int `json:"others,omitempty"`
	// Propagation are the delays from a change to its effect, by kind of transition
	// and client, and Cuts those from a revocation to the end of a connection.
	Propagation []Delays `json:"propagation,omitempty"`
	Cuts        []Delays `json:"cuts,omitempty"`
	// Skew is how far the proxies of a workload were apart.
	Skew []Delays `json:"skew,omitempty"`
}

// Delays are brackets of one kind, in milliseconds: High[i] is when the effect had
// been seen, Low[i] when it had not yet.
type Delays struct {
	// Transition is what was written and what became of the answers, and Class the
	// kind of client.
	Transition string    `json:"transition"`
	Class      string    `json:"class,omitempty"`
	Low        []float64 `json:"low"`
	High       []float64 `json:"high"`
}

// Propagated is a summary of upper ends, in milliseconds.
type Propagated struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Changes are the figures of a run in which policy changed under traffic.
type Changes struct {
	Requests    int `json:"requests"`
	Unavailable int `json:"unavailable,omitempty"`
	Leaks       int `json:"leaks"`
	Outages     int `json:"outages"`
	Others      int `json:"others,omitempty"`
	// Propagation of all changes, Kinds of each kind, and Cut and Skew as in
	// Transitions.
	Propagation Propagated   `json:"propagation"`
	Kinds       []KindOfMove `json:"kinds,omitempty"`
	Cut         *Propagated  `json:"cut,omitempty"`
	Skew        *Propagated  `json:"skew,omitempty"`
	// Floor is the run's noise floor in milliseconds, below which nothing is
	// concluded; 0 when it is not known.
	Floor float64 `json:"floor,omitempty"`
}

// Heard takes in what the machine added to what the run has measured.
func (r *Run) Heard(n *Noise) {
	r.Noise = n
	if r.Changes != nil && n != nil {
		r.Changes.Floor = n.Floor
	}
}

// KindOfMove is one kind of transition for one class of client.
type KindOfMove struct {
	Transition string `json:"transition"`
	Class      string `json:"class"`
	Propagated
}

// Noise is what a machine adds to whatever is measured on it, in milliseconds.
type Noise struct {
	// Floor is how far two times must be apart to be told from each other.
	Floor float64 `json:"floor"`
	// Timer is how late timers were, Handoff how long one that was woken needed to
	// run, RoundTrip what a byte took to a peer on the same machine and back.
	Timer     Propagated `json:"timer"`
	Handoff   Propagated `json:"handoff"`
	RoundTrip Propagated `json:"roundTrip"`
}

// Of summarizes delays by their upper ends: what is said is never better than what
// was seen.
func Of(delays ...Delays) Propagated {
	var all []float64
	for _, d := range delays {
		all = append(all, d.High...)
	}
	if len(all) == 0 {
		return Propagated{}
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[max(int(math.Ceil(q*float64(len(all))))-1, 0)] }
	return Propagated{N: len(all), P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// changes sums the scenarios' transitions up; nil when there are none.
func (r *Run) changes() *Changes {
	var out *Changes
	var moved, cut, skewed []Delays
	for _, s := range r.Scenarios {
		t := s.Transitions
		if t == nil {
			continue
		}
		if out == nil {
			out = &Changes{}
		}
		out.Requests += t.Requests
		out.Unavailable += t.Unavailable
		out.Leaks += t.Leaks
		out.Outages += t.Outages
		out.Others += t.Others
		moved, cut, skewed = append(moved, t.Propagation...), append(cut, t.Cuts...), append(skewed, t.Skew...)
	}
	if out == nil {
		return nil
	}
	if r.Noise != nil {
		out.Floor = r.Noise.Floor
	}
	out.Propagation = Of(moved...)
	for _, one := range []struct {
		delays []Delays
		into   **Propagated
	}{{cut, &out.Cut}, {skewed, &out.Skew}} {
		if p := Of(one.delays...); p.N > 0 {
			*one.into = &p
		}
	}
	slices.SortStableFunc(moved, compareKinds)
	for from := 0; from < len(moved); {
		to := from + 1
		for to < len(moved) && compareKinds(moved[from], moved[to]) == 0 {
			to++
		}
		out.Kinds = append(out.Kinds, KindOfMove{moved[from].Transition, moved[from].Class, Of(moved[from:to]...)})
		from = to
	}
	return out
}

func compareKinds(a, b Delays) int {
	return cmp.Or(cmp.Compare(a.Transition, b.Transition), cmp.Compare(a.Class, b.Class))
}
