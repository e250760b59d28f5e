package session

import (
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/calibrate"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func TestABudgetFinerThanTheMachineCanTellIsRefused(t *testing.T) {
	out := Run(t.Context(), &scenarios.Plan{Set: &scenarios.Set{}}, Options{Provider: slow{}, TransitionBudget: time.Nanosecond})
	if out.Outcome != result.Error || out.ExitCode != result.ExitSetup || !strings.Contains(out.Reason, "finer than this machine can tell") {
		t.Errorf("%s, exit code %d: %s", out.Outcome, out.ExitCode, out.Reason)
	}
	out = Run(t.Context(), &scenarios.Plan{Set: &scenarios.Set{}}, Options{Provider: slow{}, TransitionBudget: time.Hour})
	if !strings.Contains(out.Reason, "no room") {
		t.Errorf("with a wide budget it ends with %s", out.Reason)
	}
}

func TestNoiseIsMeasuredWhereTrafficFlows(t *testing.T) {
	calm := &scenarios.PlannedScenario{Scenario: &scenarios.Scenario{}}
	flowing := &scenarios.PlannedScenario{Scenario: &scenarios.Scenario{}}
	flowing.Spec.Traffic = make([]scenarios.Stream, 1)
	if noise := listen(t.Context(), &scenarios.Plan{Scenarios: []*scenarios.PlannedScenario{calm}})(); noise != nil {
		t.Errorf("without traffic there is %+v", noise)
	}
	var noise *result.Noise
	// A busy machine may need longer for the first sample.
	for long := 2 * calibrate.BesideRun; noise == nil && long < time.Minute; long *= 2 {
		heard := listen(t.Context(), &scenarios.Plan{Scenarios: []*scenarios.PlannedScenario{calm, flowing}})
		<-time.After(long)
		noise = heard()
	}
	if noise == nil || noise.Floor <= 0 || noise.Timer.N == 0 {
		t.Errorf("with traffic there is %+v", noise)
	}
}
