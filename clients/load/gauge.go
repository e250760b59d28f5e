package load

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// gauge is what a running load counts into. Times are offsets from begun.
type gauge struct {
	plan  Plan
	begun time.Time

	counting         atomic.Bool
	requests, errors atomic.Int64
	bytes            atomic.Int64
	latency, late    histogram

	// mu guards the rest.
	mu       sync.Mutex
	elapsed  time.Duration
	firstErr error
}

func (g *gauge) now() time.Duration { return time.Since(g.begun) }

// answered counts a call that was due at that time.
func (g *gauge) answered(due time.Duration) {
	if g.counting.Load() {
		g.requests.Add(1)
		g.latency.add(g.now() - due)
	}
}

func (g *gauge) failed(err error) {
	if g.counting.Load() {
		g.errors.Add(1)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.firstErr == nil {
		g.firstErr = err
	}
}

// count waits for the warm-up, then counts for as long as was planned.
func (g *gauge) count(ctx context.Context) error {
	if err := wait(ctx, g.plan.Warm); err != nil {
		return err
	}
	if g.plan.Counting != nil {
		g.plan.Counting()
	}
	from := g.now()
	g.counting.Store(true)
	err := wait(ctx, g.plan.For)
	g.counting.Store(false)
	to := g.now()
	if g.plan.Counted != nil {
		g.plan.Counted()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.elapsed = to - from
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gauge) result() Result {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Result{Requests: g.requests.Load(), Errors: g.errors.Load(), Bytes: g.bytes.Load(), Elapsed: g.elapsed,
		P50: g.latency.quantile(0.5), P99: g.latency.quantile(0.99), Late: g.late.quantile(0.5), Failure: g.firstErr}
}

// histogram counts durations to within a hundredth. The zero value is empty.
type histogram struct {
	counts [(64 - fine) << fine]atomic.Uint32
}

// fine is how many bits of a duration are kept below its first.
const fine = 7

func bucket(ns uint64) int {
	shift := max(bits.Len64(ns)-1-fine, 0)
	return shift<<fine + int(ns>>shift)
}

// value is the middle of what bucket i counts.
func value(i int) uint64 {
	if i < 2<<fine {
		return uint64(i)
	}
	shift := i>>fine - 1
	return uint64(i-shift<<fine)<<shift + 1<<shift/2
}

func (h *histogram) add(d time.Duration) { h.counts[bucket(uint64(max(d, 0)))].Add(1) }

func (h *histogram) quantile(q float64) time.Duration {
	var total uint64
	for i := range h.counts {
		total += uint64(h.counts[i].Load())
	}
	if total == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(total-1)), uint64(0)
	for i := range h.counts {
		if seen += uint64(h.counts[i].Load()); seen > rank {
			return time.Duration(value(i))
		}
	}
	return 0 // never
}
