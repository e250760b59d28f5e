package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// notReached is the reason of what was not judged because the scenario ended
// before; such a claim counts as skipped, and the scenario as an error.
const notReached = "not reached"

// abandon says of every claim that was not judged why not, and tells of it.
func (s *scenarioRun) abandon(err error) {
	s.res.Outcome, s.res.Reason = result.Error, err.Error()
	for i := range s.res.Steps {
		for j := range s.res.Steps[i].Claims {
			if claim := &s.res.Steps[i].Claims[j]; claim.Reason == notReached {
				claim.Reason = notReached + ": " + err.Error()
				s.finished(i, j, nil)
			}
		}
		if s.res.Steps[i].Reason == notReached {
			s.res.Steps[i].Reason = notReached + ": " + err.Error()
		}
	}
}

// finished tells that a claim has its outcome.
func (s *scenarioRun) finished(step, claim int, outcome *clients.Outcome) {
	done := s.res.Steps[step].Claims[claim]
	s.e.tell(Event{Kind: ClaimFinished, Scenario: s.res.Name, Step: s.res.Steps[step].Name, Text: done.Name,
		Claim: s.planned.Steps[step].Claims[claim], Result: &done, Outcome: outcome})
}

// steps takes the steps in order. An error ends the scenario; a policy that is
// not in force in time does not, it fails the step's claims.
func (s *scenarioRun) steps(ctx context.Context) error {
	for i := range s.planned.Steps {
		if err := s.step(ctx, i); err != nil {
			return fmt.Errorf("step %q: %w", s.planned.Steps[i].Name, err)
		}
	}
	return nil
}

func (s *scenarioRun) step(ctx context.Context, index int) error {
	planned, res := &s.planned.Steps[index], &s.res.Steps[index]
	s.e.tell(Event{Kind: StepStarted, Scenario: s.res.Name, Step: planned.Name})
	began := time.Now()
	defer func() { res.Duration = time.Since(began).Seconds() }()
	res.Reason = ""
	base := s.before(ctx, planned)
	if err := s.recorder.begin(ctx, planned); err != nil {
		return err
	}

	var late error
	times := 0
	// Of a mesh that is late once more of the same tells nothing, and takes long.
	for ; times < max(planned.Repeat, 1) && late == nil; times++ {
		for i := range planned.Actions {
			action := &planned.Actions[i]
			s.recorder.begins(action)
			line, err := s.act(ctx, action)
			if err == nil && (action.Fault != nil || action.Heal != "") {
				s.recorder.healed(ctx)
			}
			if err == nil && i+1 < len(planned.Actions) {
				err = s.recorder.dwell(ctx, planned)
			}
			if planned.Repeat <= 1 {
				res.Actions = append(res.Actions, line)
			}
			if errors.Is(err, errBudget) {
				late = errors.Join(late, fmt.Errorf("%s: %s: %w", action.Pos, line, err))
				continue
			}
			if err != nil {
				var wrong *inputError
				if !errors.As(err, &wrong) {
					err = fmt.Errorf("%s: %s: %w", action.Pos, line, err)
				}
				res.Outcome, res.Reason = result.Error, err.Error()
				return err
			}
		}
	}
	if planned.Repeat > 1 {
		res.Actions = append(res.Actions, fmt.Sprintf("%d times: %d actions", times, len(planned.Actions)))
	}
	s.judge(ctx, index, late, base)
	res.Outcome = sum(res.Claims)
	if late != nil {
		res.Reason = late.Error()
		if len(res.Claims) == 0 {
			// Nobody would be told otherwise.
			res.Outcome = result.Failed
		}
	}
	return ctx.Err()
}

// before notes how things stand as a step begins, which its claims are judged
// against.
func (s *scenarioRun) before(ctx context.Context, planned *scenarios.PlannedStep) *baseline {
	defer s.lane.In(walltime.Judging)()
	s.begins[planned.Name] = s.positions(ctx)
	return s.open(ctx, planned)
}

// sum is the worst outcome of some claims; without claims it is passed, because
// the actions were carried out.
func sum(claims []result.Claim) result.Outcome {
	count := map[result.Outcome]int{}
	for _, claim := range claims {
		count[claim.Outcome]++
	}
	switch {
	case count[result.Failed]+count[result.Error] > 0:
		return result.Failed
	case count[result.Inconclusive] > 0:
		return result.Inconclusive
	case count[result.Skipped] > 0 && count[result.Passed] == 0:
		return result.Skipped
	}
	return result.Passed
}

// conclude gives the scenario its outcome. err ended it early.
func (s *scenarioRun) conclude(ctx context.Context, err error) {
	worst := result.Passed
	for i := range s.res.Steps {
		switch s.res.Steps[i].Outcome {
		case result.Failed:
			worst = result.Failed
		case result.Inconclusive:
			if worst == result.Passed {
				worst = result.Inconclusive
			}
		}
	}
	if err != nil {
		var wrong *inputError
		s.badInput = errors.As(err, &wrong)
		outcome := result.Error
		// Whatever failed after the end of ctx failed because of it.
		if why, end, _ := ended(ctx); why != nil && !s.badInput {
			err, outcome = why, end
		}
		s.abandon(err)
		if worst != result.Failed {
			s.res.Outcome = outcome
		}
		if worst != result.Failed {
			return
		}
	}
	s.res.Outcome = worst
	if worst == result.Passed {
		return
	}
	for _, step := range s.res.Steps {
		if step.Reason != "" && s.res.Reason == "" {
			s.res.Reason = step.Reason
		}
		for _, claim := range step.Claims {
			if claim.Outcome == worst && s.res.Reason == "" {
				s.res.Reason = fmt.Sprintf("%s: %s", claim.Name, claim.Reason)
			}
		}
	}
}
