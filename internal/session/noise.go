package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/calibrate"
	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// firstListen is how long the machine is listened to before a run that was given a
// budget.
const firstListen = 200 * time.Millisecond

// coarse refuses a budget for transitions that is finer than this machine can tell:
// whatever it came to would be no finding.
func (s *session) coarse(ctx context.Context) error {
	if s.TransitionBudget == 0 {
		return nil
	}
	noise, err := calibrate.Listen(ctx, firstListen)
	if err != nil {
		return fmt.Errorf("listen to the machine: %w", err)
	}
	if err := noise.Allows("a budget", s.TransitionBudget); err != nil {
		return &cluster.SetupError{Cause: "keep the budget for transitions", Remedy: "meshproof calibrate says what can be told", Err: err}
	}
	return nil
}

// listen measures the machine's noise while traffic flows; the function that is
// returned ends it. Without traffic, and when it cannot be measured, there is none:
// the run's verdict stands all the same.
func listen(ctx context.Context, plan *scenarios.Plan) func() *result.Noise {
	flows := func(s *scenarios.PlannedScenario) bool { return len(s.Spec.Traffic) > 0 }
	if !slices.ContainsFunc(plan.Scenarios, flows) {
		return func() *result.Noise { return nil }
	}
	meter, err := calibrate.Start(ctx, calibrate.BesideRun)
	if err != nil {
		return func() *result.Noise { return nil }
	}
	return func() *result.Noise {
		noise, err := meter.Stop()
		if err != nil {
			return nil
		}
		return noise.Result()
	}
}
