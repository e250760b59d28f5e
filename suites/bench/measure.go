package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/meshproof/meshproof/clients/load"
)

// sample is what one contender did in one scenario of one round. What makes no
// sense in a scenario is zero.
type sample struct {
	// CPU is processor time per request in microseconds, of the target alone.
	CPU float64 `json:"cpuMicros,omitempty"`
	// Busy is how much of a processor the target used while it was counted: a rate
	// is the target's own where this is near 1, and the load's or the application's
	// where it is not.
	Busy float64 `json:"busy,omitempty"`
	// PerSecond are requests.
	PerSecond float64 `json:"perSecond,omitempty"`
	// P50 and P99 are in microseconds.
	P50 float64 `json:"p50Micros,omitempty"`
	P99 float64 `json:"p99Micros,omitempty"`
	// Gbit is Gbit/s, CPUPerGB processor seconds per 10^9 bytes.
	Gbit     float64 `json:"gbit,omitempty"`
	CPUPerGB float64 `json:"cpuSecondsPerGB,omitempty"`
	// Allocations are heap objects per request, in tenths; nil for targets that do
	// not tell.
	Allocations *float64 `json:"allocations,omitempty"`
	// Figure is one of the controller's, in its own unit.
	Figure *float64 `json:"figure,omitempty"`
	// Resident is in MiB, PerConnection in KiB.
	Resident      float64 `json:"residentMiB,omitempty"`
	PerConnection float64 `json:"perConnectionKiB,omitempty"`
	// HeapPerConnection is in KiB, live heap and stacks after a collection.
	HeapPerConnection float64 `json:"heapPerConnectionKiB,omitempty"`
}

// round is scenario id -> contender -> sample.
type round map[string]map[string]sample

// settings of a run.
type settings struct {
	rounds    int
	warm, per time.Duration
}

// runner makes all rounds.
type runner struct {
	settings
	world   *world
	where   places
	running map[string]instance
	started map[string]func(context.Context) (instance, error)
	talk    io.Writer
	// failures are what could not be measured, at most one for each scenario and
	// contender.
	failures map[string]error
}

// present are the contenders of a scenario that there are.
func (r *runner) present(s scenario) []contender {
	var all []contender
	for _, c := range s.contenders {
		if r.running[c.target] != nil {
			all = append(all, c)
		}
	}
	if s.contenders != nil {
		return all
	}
	for _, t := range targets {
		i := r.running[t.name]
		if i == nil || i.address(s.service()) == "" || s.fresh && i.pid() == 0 {
			continue
		}
		all = append(all, contender{name: t.name, target: t.name})
	}
	return all
}

// all runs the scenarios in every round. It ends early with ctx only.
func (r *runner) all(ctx context.Context, chosen []scenario) ([]round, error) {
	var rounds []round
	for n := range r.rounds {
		one := round{}
		for _, s := range chosen {
			one[s.id] = map[string]sample{}
			contenders := r.present(s)
			for i := range contenders {
				c := contenders[(i+n)%len(contenders)]
				got, err := r.measure(ctx, s, c)
				if ctx.Err() != nil {
					return rounds, context.Cause(ctx)
				}
				if err != nil {
					r.failures[s.id+" "+c.name] = err
					fmt.Fprintf(r.talk, "  %s, %s: %v\n", s.name, c.name, err)
					continue
				}
				one[s.id][c.name] = got
			}
			fmt.Fprintf(r.talk, "round %d of %d: %s\n", n+1, r.rounds, s.name)
		}
		rounds = append(rounds, one)
	}
	return rounds, nil
}

func (r *runner) measure(ctx context.Context, s scenario, c contender) (_ sample, err error) {
	target := r.running[c.target]
	if s.fresh {
		start := r.started[c.target]
		if s.heap {
			start = r.profiled
		}
		fresh, err := start(ctx)
		if err != nil {
			return sample{}, err
		}
		defer fresh.stop()
		target = fresh
	}
	if c.policy != nil {
		port := target.(enforcing)
		if err := port.apply(ctx, s.service().protocol, c.policy()); err != nil {
			return sample{}, err
		}
		// The loads that follow want the usual one.
		defer func() { err = errors.Join(err, port.apply(ctx, s.service().protocol, enforced())) }()
	}
	plan := s.load
	plan.Address, plan.Authority, plan.From, plan.Warm, plan.For = target.address(s.service()), "bench.example", neighbour, r.warm, r.per
	if s.mesh {
		plan.TLS = r.world.client
	}
	r.workers(plan)
	switch {
	case s.heap:
		each, err := idle(ctx, plan, func() (float64, error) { return target.(ours).heap(ctx) })
		return sample{HeapPerConnection: each}, err
	case s.idle:
		each, err := idle(ctx, plan, func() (float64, error) {
			used, err := usageOf(target.pid())
			return float64(used.resident), err
		})
		return sample{PerConnection: each}, err
	}
	return loaded(ctx, plan, target)
}

// profiled starts a proxy of ours that tells what its time and memory go to.
func (r *runner) profiled(ctx context.Context) (i instance, err error) {
	free, err := freePorts([]service{{}})
	if err != nil {
		return nil, err
	}
	err = on(r.where.target, func() (err error) {
		i, err = startProfiled(ctx, r.world, free[service{}])
		return err
	})
	return i, err
}

// badShare of calls may fail before a sample is no sample.
const badShare = 0.01

func loaded(ctx context.Context, plan load.Plan, target instance) (sample, error) {
	var before, after use
	var errBefore, errAfter error
	var allocated func() (float64, error)
	if pid := target.pid(); pid != 0 {
		plan.Counting = func() {
			if t, ok := target.(telling); ok {
				allocated, errBefore = allocationsOf(ctx, t)
			}
			var err error
			before, err = usageOf(pid)
			errBefore = errors.Join(errBefore, err)
		}
		plan.Counted = func() { after, errAfter = usageOf(pid) }
	}
	result, err := load.Run(ctx, plan)
	if err == nil && float64(result.Errors) > badShare*float64(result.Requests) {
		err = fmt.Errorf("%d of %d calls failed: %w", result.Errors, result.Requests+result.Errors, result.Failure)
	}
	if err = errors.Join(err, errBefore, errAfter); err != nil {
		return sample{}, err
	}
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	cpu := after.cpu - before.cpu
	got := sample{PerSecond: result.PerSecond(), P50: micros(result.P50), P99: micros(result.P99),
		CPU: micros(cpu) / float64(result.Requests), Busy: cpu.Seconds() / result.Elapsed.Seconds(), Resident: float64(after.resident) / (1 << 20)}
	if allocated != nil {
		total, err := allocated()
		if err != nil {
			return sample{}, err
		}
		const tenths = 10
		each := math.Round(max(total, 0)*tenths/float64(result.Requests)) / tenths
		got.Allocations = &each
	}
	if plan.Protocol == load.Bulk {
		got = sample{Gbit: result.Gbit(), Busy: got.Busy, CPUPerGB: cpu.Seconds() * 1e9 / float64(result.Bytes)}
	}
	return got, nil
}

// telling is an instance that knows how many heap objects it has allocated.
type telling interface {
	allocations(ctx context.Context) (float64, error)
}

// allocationsOf begins to count. What asking costs is found out by asking twice,
// and left out.
func allocationsOf(ctx context.Context, t telling) (func() (float64, error), error) {
	first, err := t.allocations(ctx)
	if err != nil {
		return nil, err
	}
	second, err := t.allocations(ctx)
	if err != nil {
		return nil, err
	}
	return func() (float64, error) {
		last, err := t.allocations(ctx)
		return last - second - (second - first), err
	}, nil
}

// settleFor is how long connections are idle before memory is read: long enough
// for a target to give back what it gives back.
const settleFor = time.Second

// idle measures what a connection takes. A few connections are opened before, so
// that what the first one makes a target set up is not counted.
func idle(ctx context.Context, plan load.Plan, memory func() (float64, error)) (perConnection float64, err error) {
	few := plan
	few.Connections = plan.Connections / 10
	first, err := load.Idle(ctx, few)
	if err != nil {
		return 0, err
	}
	defer closeAll(first)
	settled := func() (float64, error) {
		select {
		case <-time.After(settleFor):
			return memory()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	before, err := settled()
	if err != nil {
		return 0, err
	}
	rest, err := load.Idle(ctx, plan)
	if err != nil {
		return 0, err
	}
	defer closeAll(rest)
	after, err := settled()
	return (after - before) / float64(len(rest)) / (1 << 10), err
}

func closeAll[C io.Closer](conns []C) {
	for _, conn := range conns {
		conn.Close()
	}
}
