package repeat_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/repeat"
	"github.com/meshproof/meshproof/reports/result"
)

// attempt is a run of one scenario; each claim is written NAME=OUTCOME.
func attempt(claims ...string) *result.Run {
	step := result.Step{Name: "step", Outcome: result.Passed}
	for _, one := range claims {
		name, outcome, _ := strings.Cut(one, "=")
		claim := result.Claim{Name: name, Outcome: result.Outcome(outcome)}
		if claim.Outcome != result.Passed {
			claim.Reason = "because of " + name
		}
		step.Claims = append(step.Claims, claim)
		if claim.Outcome.Worse(step.Outcome) {
			step.Outcome = claim.Outcome
		}
	}
	run := &result.Run{ID: "run", Scenarios: []result.Scenario{{Name: "s", Outcome: step.Outcome, Bundle: "b", Steps: []result.Step{step}}}}
	run.Conclude(nil, false)
	return run
}

func TestNoAttemptMakesGoodWhatAnotherHasFound(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts []*result.Run
		outcome  result.Outcome
		flaky    []string
		folder   string
	}{
		{"passed each time", []*result.Run{attempt("a=passed"), attempt("a=passed")}, result.Passed, nil, ""},
		{"failed first", []*result.Run{attempt("a=failed", "b=passed"), attempt("a=passed", "b=passed")}, result.Failed, []string{"a: flaky: passed on attempt 2, and in 1 of 2 attempts; what did not pass counts"}, ""},
		{"failed later", []*result.Run{attempt("a=passed"), attempt("a=passed"), attempt("a=failed")}, result.Failed, []string{"a: flaky: passed on attempt 1, and in 2 of 3 attempts; what did not pass counts"}, "attempts/3"},
		{"failed each time", []*result.Run{attempt("a=failed"), attempt("a=failed")}, result.Failed, nil, ""},
		{"nobody could tell at first", []*result.Run{attempt("a=inconclusive"), attempt("a=passed")}, result.Inconclusive, []string{"a: flaky: passed on attempt 2, and in 1 of 2 attempts; what did not pass counts"}, ""},
		{"skipped once", []*result.Run{attempt("a=passed"), attempt("a=skipped")}, result.Passed, nil, ""},
		{"one claim each", []*result.Run{attempt("a=failed", "b=passed"), attempt("a=passed", "b=failed")}, result.Failed,
			[]string{"a: flaky: passed on attempt 2, and in 1 of 2 attempts; what did not pass counts", "b: flaky: passed on attempt 1, and in 1 of 2 attempts; what did not pass counts"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			attempts := []repeat.Attempt{{Run: c.attempts[0]}}
			for i, run := range c.attempts[1:] {
				attempts = append(attempts, repeat.Attempt{Run: run, Folder: []string{"attempts/2", "attempts/3"}[i]})
			}
			out := repeat.Fold(attempts)
			if out.Outcome != c.outcome || out.Scenarios[0].Outcome != c.outcome {
				t.Errorf("the run is %s and the scenario %s, want %s", out.Outcome, out.Scenarios[0].Outcome, c.outcome)
			}
			var flaky []string
			for _, f := range repeat.FlakesOf(out).Flakes {
				flaky = append(flaky, f.Claim+": "+f.Text)
			}
			if !slices.Equal(flaky, c.flaky) || out.Summary.Flaky != len(c.flaky) {
				t.Errorf("flaky are %q (%d), want %q", flaky, out.Summary.Flaky, c.flaky)
			}
			if s := out.Scenarios[0]; s.Folder != c.folder || s.Bundle != strings.TrimPrefix(c.folder+"/b", "/") {
				t.Errorf("the evidence is in %q and %q, want %q", s.Folder, s.Bundle, c.folder)
			}
		})
	}
}

// An attempt that was interrupted interrupts the run.
func TestWhatEndsAnAttemptEndsTheRun(t *testing.T) {
	first, second := attempt("a=passed"), attempt("a=skipped")
	second.Outcome, second.ExitCode, second.Reason = result.Inconclusive, result.ExitInterrupted, "interrupted"
	out := repeat.Fold([]repeat.Attempt{{Run: first}, {Run: second, Folder: "attempts/2"}})
	if out.ExitCode != result.ExitInterrupted || out.Reason != "interrupted" {
		t.Errorf("exit code %d: %s", out.ExitCode, out.Reason)
	}
}
