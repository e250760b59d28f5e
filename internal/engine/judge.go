package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// verdict is what a judge found about one claim.
type verdict struct {
	outcome  result.Outcome
	reason   string
	expected string
	observed string
	witness  string
	details  []string
	samples  int
	call     *clients.Outcome
}

func passed(observed string) verdict { return verdict{outcome: result.Passed, observed: observed} }

func failed(format string, args ...any) verdict {
	return verdict{outcome: result.Failed, reason: fmt.Sprintf(format, args...)}
}

// unsure is for what could not be judged: it is never passed.
func unsure(format string, args ...any) verdict {
	return verdict{outcome: result.Inconclusive, reason: fmt.Sprintf(format, args...)}
}

// judge judges the claims of a step side by side, after them those that must be
// alone on a port, one by one, and last those that count what others cause; and
// fills the result. late is set when the policy did not come into force in time: the claims
// are then failed, whatever the clients see.
func (s *scenarioRun) judge(ctx context.Context, index int, late error, base *baseline) {
	defer s.lane.In(walltime.Judging)()
	planned, res := &s.planned.Steps[index], &s.res.Steps[index]
	var done sync.WaitGroup
	finish := func(i int, began time.Time, v verdict) {
		claim := &res.Claims[i]
		claim.Duration = time.Since(began).Seconds()
		claim.Outcome, claim.Reason = v.outcome, v.reason
		claim.Observed, claim.Witness, claim.Details, claim.Samples = v.observed, v.witness, v.details, v.samples
		if v.expected != "" {
			claim.Expected = v.expected
		}
		s.finished(index, i, v.call)
	}
	var batch []*callJudge
	var places []int
	var alone queue
	var counting []func()
	var windows []int
	s.mark(ctx, planned, base)
	for i, claim := range planned.Claims {
		switch {
		case s.skipped(claim) != "":
			s.finished(index, i, nil)
		case claim.Claim.Window != nil:
			windows = append(windows, i)
		case late != nil:
			v := failed("the policy was not in force in time: %v", late)
			finish(i, time.Now(), v)
		case claim.Call != nil && claim.Claim.Within == 0:
			batch = append(batch, &callJudge{claim: claim})
			places = append(places, i)
		default:
			one := func() {
				began := time.Now()
				v := s.judgeOne(ctx, claim, base)
				finish(i, began, cutOff(ctx, v))
			}
			switch {
			case claim.Claim.Rate != nil:
				alone.add(s.limiters(claim.Claim.Rate), one)
			case claim.Claim.Counts():
				counting = append(counting, one)
			default:
				done.Go(one)
			}
		}
	}
	began := time.Now()
	s.judgeCalls(ctx, batch, base)
	for i, one := range batch {
		finish(places[i], began, cutOff(ctx, one.verdict))
	}
	done.Wait()
	for _, chain := range alone.chains() {
		done.Go(func() {
			for _, one := range chain {
				one()
			}
		})
	}
	done.Wait()
	for _, one := range counting {
		done.Go(one)
	}
	done.Wait()
	// What the streams have seen until now is the last to be judged.
	s.judgeWindows(ctx, index, windows, late, finish)
}

// judgeWindows judges the claims about streams at these places.
func (s *scenarioRun) judgeWindows(ctx context.Context, index int, places []int, late error, finish func(int, time.Time, verdict)) {
	began := time.Now()
	planned := &s.planned.Steps[index]
	var claims []*scenarios.WindowClaim
	for _, i := range places {
		claims = append(claims, planned.Claims[i].Claim.Window)
	}
	if s.recorder == nil && len(claims) == 0 {
		return
	}
	for i, v := range s.recorder.windows(ctx, planned, claims) {
		if late != nil && v.outcome != result.Failed {
			v = failing(v, "the policy was not in force in time: %v", late)
		}
		finish(places[i], began, cutOff(ctx, v))
	}
}

// judgeOne judges one claim that is not part of the batch of calls.
func (s *scenarioRun) judgeOne(ctx context.Context, c *scenarios.PlannedClaim, base *baseline) verdict {
	switch claim := c.Claim; {
	case c.Call != nil:
		return s.within(ctx, claim.Within, func() verdict {
			one := &callJudge{claim: c}
			s.judgeCalls(ctx, []*callJudge{one}, base)
			return one.verdict
		})
	case claim.Probe != nil:
		return s.ruleProbe(ctx, c, base, s.judgeProbe(ctx, claim, base))
	case claim.Held != nil:
		return s.judgeHeld(ctx, c, base)
	case claim.Traffic != nil:
		return s.judgeTraffic(ctx, claim.Traffic)
	case claim.Authz != nil:
		return s.judgeAuthz(ctx, claim, base)
	case claim.Metric != nil:
		return s.counted(ctx, claim, claim.Metric.Is, func() verdict { return s.judgeMetric(ctx, claim.Metric, base) })
	case claim.Log != nil:
		return s.counted(ctx, claim, claim.Log.Is, func() verdict { return s.judgeLog(ctx, claim.Log, base) })
	case claim.Rate != nil:
		return s.judgeRate(ctx, c, base)
	case claim.Status != nil:
		return s.judgeStatus(ctx, claim)
	case claim.Command != nil:
		return s.judgeCommand(ctx, claim.Command)
	case claim.Admission != nil:
		return s.within(ctx, claim.Within, func() verdict { return s.judgeAdmission(ctx, claim.Admission) })
	case claim.Certify != nil:
		return s.judgeCertify(ctx, claim.Certify)
	case claim.Event != nil:
		return s.within(ctx, budget(claim.Within, probeBudget), func() verdict { return s.judgeEvent(ctx, claim.Event) })
	case claim.Healthy != nil:
		return s.within(ctx, budget(claim.Within, settleBudget), func() verdict { return s.judgeHealthy(ctx, claim.Healthy) })
	case claim.Policy != nil:
		return s.rulePolicy(ctx, c, base, s.within(ctx, claim.Within, func() verdict { return s.judgePolicy(ctx, claim.Policy) }))
	case claim.Pods != nil:
		return s.within(ctx, claim.Within, func() verdict { return s.judgePods(claim.Pods) })
	}
	return unsure("no judge knows this form of claim")
}

func budget(asked, otherwise time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	return otherwise
}

// within repeats a judgement until it passes or the budget is spent; without a
// budget it is made once.
func (s *scenarioRun) within(ctx context.Context, budget time.Duration, judge func() verdict) verdict {
	ctx, cancel := context.WithTimeout(ctx, max(budget, time.Nanosecond))
	defer cancel()
	for {
		v := judge()
		if v.outcome == result.Passed || budget == 0 {
			return v
		}
		if pause(ctx, pollInterval) != nil {
			if v.reason != "" && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				v.reason += fmt.Sprintf(", for %s", budget)
			}
			return v
		}
	}
}

// counted is within for what is counted, which may be told a moment after it
// happened: a number that must not be higher has to stay as it is.
func (s *scenarioRun) counted(ctx context.Context, claim *scenarios.Claim, is scenarios.Count, judge func() verdict) verdict {
	v := s.within(ctx, budget(claim.Within, countBudget), judge)
	if v.outcome != result.Passed || !is.Exact() || pause(ctx, countRest) != nil {
		return v
	}
	return judge()
}

func lines(parts ...string) string {
	var out []string
	for _, part := range parts {
		if part != "" {
			out = append(out, part)
		}
	}
	return strings.Join(out, "; ")
}
