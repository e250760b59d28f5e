package timelines

import (
	"maps"
	"slices"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/reports/result"
)

// mostValues of one kind are kept: enough to tell two runs apart, and little
// enough for a result tree.
const mostValues = 400

// samples collects measured values by what they measure.
type samples map[string][]float64

func newSamples() samples { return samples{} }

// Names of samples begin with what is measured; compare tells them by it.
const (
	propagation = "propagation, "
	latency     = "latency, "
)

// recording adds the upper ends of the brackets, by kind of change, and how long
// answers took, by class of client, all in milliseconds.
func (s samples) recording(r *history.Recording, v *transition.Verdict) {
	for _, b := range v.Brackets {
		if b.Measures() {
			name := propagation + b.Transition
			s[name] = append(s[name], float64(b.High.Microseconds())/1000)
		}
	}
	c := v.Case()
	classes := make([]string, len(r.Streams))
	for i := range r.Streams {
		classes[i] = latency + c.Class(i)
	}
	for i := range r.Requests {
		q := &r.Requests[i]
		if classOf(q.Kind) == 2 { // a time-out is no latency
			continue
		}
		name := classes[q.Stream]
		s[name] = append(s[name], float64((q.End-q.Start).Microseconds())/1000)
	}
}

// list thins out what is too much, evenly, and sorts by name.
func (s samples) list() []result.Sample {
	var all []result.Sample
	for _, name := range slices.Sorted(maps.Keys(s)) {
		values := s[name]
		if n := len(values); n > mostValues {
			thin := make([]float64, mostValues)
			for i := range thin {
				thin[i] = values[i*n/mostValues]
			}
			values = thin
		}
		all = append(all, result.Sample{Name: name, Unit: "ms", Values: values})
	}
	return all
}
