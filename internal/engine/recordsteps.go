package engine

import (
	"context"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/transition"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// settleWindow is how long streams are watched before the first change and once
	// a change is in force; in between steps follow each other at once.
	settleWindow = 300 * time.Millisecond
	// windowBudget is for windows in which too few calls were answered: the machine
	// may be busy, or the rate low.
	windowBudget = 4 * time.Second
	// answerBudget is for the calls that were under way at the end of a window: above
	// what a busy machine needs, below the time-out of one that nobody answers.
	answerBudget = 3 * time.Second
)

// begin notes that a step begins. Before one that changes something, every stream
// has been watched for a while.
func (r *recorder) begin(ctx context.Context, step *scenarios.PlannedStep) error {
	if r == nil {
		return nil
	}
	r.step = history.StepSpan{Name: step.Name, From: r.now()}
	if !step.Changes() {
		return nil
	}
	return r.watch(ctx, r.settled)
}

// dwell watches the streams in the middle of a step of which it is claimed that
// something can be seen there.
func (r *recorder) dwell(ctx context.Context, step *scenarios.PlannedStep) error {
	passing := func(c scenarios.StreamCourse) bool {
		return c.Course == scenarios.WindowOfDenials || c.Course == scenarios.WindowOfGrants
	}
	if r == nil || len(r.unsettled) > 0 || !slices.ContainsFunc(step.During, passing) {
		return nil
	}
	return r.watch(ctx, r.settled)
}

// watch waits until every stream was watched since then for long enough.
func (r *recorder) watch(ctx context.Context, since time.Duration) error {
	defer r.s.lane.In(walltime.Windows)()
	until := time.Now().Add(windowBudget)
	if rest := since + settleWindow - r.now(); rest > 0 {
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	for time.Now().Before(until) {
		few := r.watchedLess(since)
		if len(few) == 0 {
			break
		}
		if err := r.take(ctx, few, pollInterval); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// watchedLess are the streams of which too few calls that were made since then have
// been answered.
func (r *recorder) watchedLess(since time.Duration) []*flow {
	return slices.DeleteFunc(slices.Clone(r.flows), func(f *flow) bool { return r.answered(f, since) >= transition.MinSamples })
}

// answered counts the calls of a stream that were made since then and answered,
// up to as many as are needed.
func (r *recorder) answered(f *flow, since time.Duration) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := 0
	for i := len(r.rec.Requests) - 1; i >= 0 && count < transition.MinSamples && r.rec.Requests[i].End >= since; i-- {
		if one := &r.rec.Requests[i]; one.Stream == f.place && one.Start >= since {
			count++
		}
	}
	return count
}

// end closes the window of a step: every stream was watched for long enough, and
// what was called until then was answered and is recorded.
func (r *recorder) end(ctx context.Context) error {
	defer r.s.lane.In(walltime.Windows)()
	if len(r.unsettled) > 0 {
		r.step.InForce = 0
	}
	if r.step.FirstWrite > 0 {
		if err := r.watch(ctx, max(r.step.InForce, r.step.FirstWrite)); err != nil {
			return err
		}
	}
	r.step.To = r.now()
	late := time.Now().Add(answerBudget)
	for {
		if err := r.read(ctx); err != nil {
			return err
		}
		if !r.underWay(r.step.To) || time.Now().After(late) {
			break
		}
		if err := pause(ctx, pollInterval/4); err != nil {
			return err
		}
	}
	if r.step.InForce == 0 && r.step.FirstWrite > 0 {
		r.settled = r.step.To
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Steps = append(r.rec.Steps, r.step)
	return nil
}

// underWay says whether a call that began before then may have no answer yet.
func (r *recorder) underWay(then time.Duration) bool {
	for _, f := range r.flows {
		f.mu.Lock()
		open := f.sent > f.answered+f.lost || r.since(f.asked) < then
		f.mu.Unlock()
		if open {
			return true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.unplaced) > 0
}
