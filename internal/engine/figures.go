package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// inForceTarget is what a write may take until it is enforced, as p99; it is
// printed beside the figure and never asserted.
const inForceTarget = 200 * time.Millisecond

// figures collects measured values. The zero value is empty.
type figures struct {
	mu sync.Mutex
	// alone are the writes of scenarios that ran alone, beside the others'.
	alone, busy []time.Duration
	others      []result.Figure
}

func (f *figures) wrote(took time.Duration, alone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if alone {
		f.alone = append(f.alone, took)
	} else {
		f.busy = append(f.busy, took)
	}
}

func (f *figures) add(one result.Figure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others = append(f.others, one)
}

func (f *figures) list() []result.Figure {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []result.Figure
	for _, set := range []struct {
		name   string
		values []time.Duration
		target time.Duration
	}{{"write to in force", f.alone, inForceTarget}, {"write to in force while pods start", f.busy, 0}} {
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}} {
			if len(set.values) == 0 {
				continue
			}
			one := result.Figure{Name: set.name + ", " + q.name, Unit: "ms", N: len(set.values), Value: milliseconds(quantile(set.values, q.at))}
			if q.name == "p99" {
				one.Target = milliseconds(set.target)
			}
			out = append(out, one)
		}
	}
	others := slices.Clone(f.others)
	slices.SortStableFunc(others, func(a, b result.Figure) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
	return append(out, others...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantile is the smallest value that at least the share q of all does not
// exceed.
func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	index := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(index, 0), len(sorted)-1)]
}
