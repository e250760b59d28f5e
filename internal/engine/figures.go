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
	mu      sync.Mutex
	inForce []time.Duration
	podUp   []time.Duration
	others  []result.Figure
}

func (f *figures) wrote(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inForce = append(f.inForce, took)
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
	if n := len(f.inForce); n > 0 {
		for _, q := range []struct {
			name   string
			at     float64
			target time.Duration
		}{{"write to in force, p50", 0.5, 0}, {"write to in force, p99", 0.99, inForceTarget}, {"write to in force, max", 1, 0}} {
			out = append(out, result.Figure{Name: q.name, Unit: "ms", N: n, Value: milliseconds(quantile(f.inForce, q.at)), Target: milliseconds(q.target)})
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
