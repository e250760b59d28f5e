package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// flowRun is one flow of a rate claim while it is made.
type flowRun struct {
	call   *scenarios.RateCall
	from   client
	pod    *corev1.Pod
	spec   control.StreamSpec
	calls  []clients.Outcome
	missed int64
	err    error
}

// rateAttempts is how often calls are made at a rate, when a busy machine has not
// kept the rate. Such an attempt has no verdict that another one could hide.
const rateAttempts = 3

// judgeRate judges the claim by the first attempt at which the rate was kept.
func (s *scenarioRun) judgeRate(ctx context.Context, claim *scenarios.PlannedClaim, base *baseline) verdict {
	for attempt := 1; ; attempt++ {
		v := s.rateOnce(ctx, claim, base)
		if v.outcome != result.Inconclusive || attempt == rateAttempts || ctx.Err() != nil {
			if attempt > 1 {
				v.details = append(v.details, fmt.Sprintf("attempt %d: the rate was not kept before", attempt))
			}
			return v
		}
	}
}

// rateOnce makes the calls, all flows at once, and holds how many were limited
// against the rules and against what is written. Nobody else may call meanwhile.
func (s *scenarioRun) rateOnce(ctx context.Context, claim *scenarios.PlannedClaim, base *baseline) verdict {
	c := claim.Claim.Rate
	flows, q, err := s.flows(ctx, claim)
	if err != nil {
		return unsure("the calls were not made: %v", err)
	}
	// A second after the last call every bucket is full.
	if err := pause(ctx, fullAfter); err != nil {
		return unsure("the calls were not made: %v", err)
	}
	makeFlows(ctx, flows, c.Lasts())
	for _, f := range flows {
		if f.err != nil {
			return unsure("%s: %v", f.call.Client, f.err)
		}
	}
	q.Observed.Sent = sent(flows)
	v := compareRates(c, flows)
	if v.outcome == result.Inconclusive || claim.Claim.NoOracle != "" {
		return v
	}
	world, oracle, err := base.world.of(ctx, s, flows[0].pod)
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	forecast, err := q.Forecast(world, oracle)
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	for i, f := range flows {
		v.details = append(v.details, fmt.Sprintf("by the rules %d to %d of the calls of %s are limited", forecast.Low[i], forecast.High[i], f.call.Client))
	}
	if contrary := contradicted(c, forecast, flows); contrary != "" {
		v = failing(v, "the expectation contradicts the rule book: %s; observed %s", contrary, v.observed)
	} else if differences := forecast.Differences(q); len(differences) > 0 {
		v = failing(v, "%s", strings.Join(differences, "; "))
		for i, f := range flows {
			v.details = append(v.details, "the rules for "+f.call.Client+":")
			v.details = append(v.details, chain(forecast.Verdicts[i])...)
		}
	}
	if err := s.e.history.Add(world, q); err != nil && v.outcome == result.Passed {
		return unsure("%v", err)
	}
	return v
}

// queue holds judgements that must not overlap where they need the same.
type queue []queued

type queued struct {
	needs []string
	judge func()
}

func (q *queue) add(needs []string, judge func()) { *q = append(*q, queued{needs, judge}) }

// chains are the judgements in their order, those that need the same one after
// the other in one chain. Chains may be carried out side by side.
func (q queue) chains() [][]func() {
	type chain struct {
		needs  map[string]bool
		judges []func()
	}
	var all []*chain
	for _, one := range q {
		merged := &chain{needs: map[string]bool{}}
		for _, name := range one.needs {
			merged.needs[name] = true
		}
		all = slices.DeleteFunc(all, func(c *chain) bool {
			if !slices.ContainsFunc(one.needs, func(name string) bool { return c.needs[name] }) {
				return false
			}
			maps.Copy(merged.needs, c.needs)
			merged.judges = append(merged.judges, c.judges...)
			return true
		})
		merged.judges = append(merged.judges, one.judge)
		all = append(all, merged)
	}
	var out [][]func()
	for _, c := range all {
		out = append(out, c.judges)
	}
	return out
}

// limiters are the ports, each with limits of its own, that a rate claim calls.
func (s *scenarioRun) limiters(c *scenarios.RateClaim) []string {
	var out []string
	for i := range c.Calls {
		if target, err := s.planned.Target(c.Calls[i].Target, c.Calls[i].Protocol); err == nil {
			out = append(out, fmt.Sprintf("%s:%d", target.Component, target.Port))
		}
	}
	return out
}

// flows resolves the calls, and the question that they are to the rules.
func (s *scenarioRun) flows(ctx context.Context, claim *scenarios.PlannedClaim) ([]*flowRun, *history.Question, error) {
	c := claim.Claim.Rate
	var flows []*flowRun
	q := &history.Question{Claim: claim.ID, Shows: claim.Shows, Form: history.Rate}
	for i := range c.Calls {
		call := &c.Calls[i]
		request, from, err := s.request(ctx, &call.Request, "")
		if err != nil {
			return nil, nil, err
		}
		request.Keep = call.Answer != nil
		target, err := s.planned.Target(call.Target, call.Protocol)
		if err != nil {
			return nil, nil, err
		}
		pods := s.componentPods(target.Component)
		at := slices.IndexFunc(pods, ready)
		if at < 0 {
			return nil, nil, fmt.Errorf("%s has no pod that is ready", target.Component)
		}
		one, err := s.question(claim, &call.Request, from, pods[at], target.Port)
		if err != nil {
			return nil, nil, err
		}
		q.Flows = append(q.Flows, history.Flow{Pod: one.Pod, Port: one.Port, Client: one.Client, Request: one.Request})
		name := fmt.Sprintf("%s-%d-%s", claim.ID, i+1, uuid.NewString()[:8])
		flows = append(flows, &flowRun{call: call, from: from, pod: pods[at],
			spec: control.StreamSpec{Name: name, Request: request, Rate: call.Rate, Count: int64(call.Count(c.Lasts()))}})
	}
	return flows, q, nil
}

// makeFlows makes the calls of all flows at once.
func makeFlows(ctx context.Context, flows []*flowRun, lasts time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, lasts+agentBudget)
	defer cancel()
	var group sync.WaitGroup
	for _, f := range flows {
		group.Go(func() { f.err = f.make(ctx) })
	}
	group.Wait()
}

func (f *flowRun) make(ctx context.Context) error {
	if err := f.from.agent.StartStream(ctx, f.spec); err != nil {
		return fmt.Errorf("begin to call: %w", err)
	}
	seq := int64(0)
	for running := true; running; {
		page, err := f.from.agent.Stream(ctx, f.spec.Name, seq, pollInterval)
		if err != nil {
			return fmt.Errorf("read what was answered: %w", err)
		}
		f.take(page)
		seq, running = page.Last, page.Running
		if page.Dropped > 0 {
			return fmt.Errorf("%d answers were no longer kept", page.Dropped)
		}
	}
	page, err := f.from.agent.StopStream(ctx, f.spec.Name, seq)
	if err != nil {
		return fmt.Errorf("end the calls: %w", err)
	}
	f.take(page)
	if len(f.calls) == 0 {
		return errors.New("no call was made")
	}
	return nil
}

func (f *flowRun) take(page control.StreamPage) {
	for _, one := range page.Outcomes {
		f.calls = append(f.calls, one.Outcome)
	}
	f.missed = page.Missed
}

// limited is how many of the flow's calls were, and the rate at which it called.
func (f *flowRun) limited() (limited int, reached float64) {
	first, last := f.calls[0].Start, f.calls[0].Start
	for _, one := range f.calls {
		if one.Kind == clients.Limited {
			limited++
		}
		if one.Start.Before(first) {
			first = one.Start
		}
		if one.Start.After(last) {
			last = one.Start
		}
	}
	span := last.Sub(first)
	if len(f.calls) < 2 || span <= 0 {
		return limited, f.call.Rate
	}
	return limited, float64(len(f.calls)-1) / span.Seconds()
}

// sent are the calls of all flows, as this machine's clock shows their times.
func sent(flows []*flowRun) []history.Sent {
	var out []history.Sent
	var first time.Time
	for _, f := range flows {
		for _, one := range f.calls {
			if at := f.from.clock.local(one.Start); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	for i, f := range flows {
		for _, one := range f.calls {
			out = append(out, history.Sent{Flow: i, At: f.from.clock.local(one.Start).Sub(first).Microseconds(),
				Answered: f.from.clock.local(one.End).Sub(first).Microseconds(), Kind: one.Kind})
		}
	}
	return out
}

// reachedShare is which share of the planned rate must have been reached: with
// fewer calls a claim is not about what it says.
const reachedShare = 0.9

// compareRates holds the calls against what is written.
func compareRates(c *scenarios.RateClaim, flows []*flowRun) verdict {
	v := verdict{outcome: result.Passed}
	all, limitedOfAll := 0, 0
	var expected, observed, wrong, slow []string
	within := func(who string, band *scenarios.Band, limited, calls int) {
		if band == nil {
			return
		}
		low, high := band.Bounds()
		text := fmt.Sprintf("%s%.0f to %.0f%% limited", who, 100*low, 100*high)
		expected = append(expected, text)
		if share := float64(limited) / float64(calls); share < low || share > high {
			wrong = append(wrong, fmt.Sprintf("expected %s, observed %d of %d (%.0f%%)", text, limited, calls, 100*share))
		}
	}
	for _, f := range flows {
		limited, reached := f.limited()
		all, limitedOfAll = all+len(f.calls), limitedOfAll+limited
		who := f.call.Client + ": "
		observed = append(observed, fmt.Sprintf("%s%d of %d limited at %.1f per second", who, limited, len(f.calls), reached))
		if reached < reachedShare*f.call.Rate || float64(len(f.calls)) < reachedShare*float64(f.spec.Count) {
			slow = append(slow, fmt.Sprintf("%splanned %d calls at %v per second, reached %d at %.1f", who, f.spec.Count, f.call.Rate, len(f.calls), reached))
		}
		within(who, f.call.Limited, limited, len(f.calls))
		if problem := f.wrongAnswer(); problem != "" {
			wrong = append(wrong, who+problem)
		}
		if len(f.call.Expect) == 0 {
			continue
		}
		kinds := f.call.Expect.Kinds(f.call.Protocol)
		expected = append(expected, who+"the others "+f.call.Expect.String())
		for _, one := range f.calls {
			if one.Kind != clients.Limited && !slices.Contains(kinds, one.Kind) {
				wrong = append(wrong, fmt.Sprintf("expected the calls of %s that are not limited to be %s, observed %s %s", f.call.Client, f.call.Expect, saw(one), one.Message))
				break
			}
		}
	}
	within("", c.Limited, limitedOfAll, all)
	v.expected, v.observed, v.samples = strings.Join(expected, "; "), strings.Join(observed, "; "), all
	if v.expected == "" {
		v.expected = "as many limited as the rules say"
	}
	switch {
	case len(slow) > 0:
		v.outcome, v.reason = result.Inconclusive, "the machine is too slow: "+strings.Join(slow, "; ")
	case len(wrong) > 0:
		return failing(v, "%s", strings.Join(wrong, "; "))
	}
	return v
}

// wrongAnswer says what is wrong with the answer to a call that was limited; an
// empty text means nothing. Where answers are to be compared there must be one.
func (f *flowRun) wrongAnswer() string {
	if f.call.Answer != nil && !slices.ContainsFunc(f.calls, func(o clients.Outcome) bool { return o.Kind == clients.Limited }) {
		return "no call was limited whose answer could be compared"
	}
	for _, one := range f.calls {
		if one.Kind != clients.Limited {
			continue
		}
		if problem := compareAnswer(f.call.Answer, one); problem != "" {
			return problem
		}
	}
	return ""
}

// contradicted says how what is written and the rules disagree, whatever was
// observed; empty when they do not.
func contradicted(c *scenarios.RateClaim, forecast history.Forecast, flows []*flowRun) string {
	var out []string
	compare := func(who string, band *scenarios.Band, least, most, calls int) {
		if band == nil {
			return
		}
		low, high := band.Bounds()
		if float64(most) < low*float64(calls) || float64(least) > high*float64(calls) {
			out = append(out, fmt.Sprintf("%s%.0f to %.0f%% are expected to be limited, and by the rules it is %d to %d of %d", who, 100*low, 100*high, least, most, calls))
		}
	}
	all := 0
	for i, f := range flows {
		all += len(f.calls)
		compare(f.call.Client+": ", f.call.Limited, forecast.Low[i], forecast.High[i], len(f.calls))
	}
	compare("", c.Limited, forecast.AllLow, forecast.AllHigh, all)
	return strings.Join(out, "; ")
}
