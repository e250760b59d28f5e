package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func planOf(names ...string) *scenarios.Plan {
	plan := &scenarios.Plan{Set: &scenarios.Set{}}
	for _, name := range names {
		s := &scenarios.Scenario{}
		s.Metadata.Name = name
		plan.Scenarios = append(plan.Scenarios, &scenarios.PlannedScenario{Scenario: s})
	}
	return plan
}

func inOrder(plan *scenarios.Plan) string {
	var names []string
	for _, s := range plan.Scenarios {
		names = append(names, s.Metadata.Name)
	}
	return strings.Join(names, " ")
}

// Over the nights every scenario has its turn.
func TestANightTakesWhatFitsAndOthersTheNextTime(t *testing.T) {
	plan := planOf("a", "b", "c", "d", "e")
	for _, c := range []struct {
		number int
		seed   int64
		want   string
	}{{9, 3, "a b c d e"}, {5, 3, "a b c d e"}, {2, 0, "a b"}, {2, 1, "b c"}, {2, 4, "a e"}, {2, 5, "a b"}, {2, -1, "a b"}} {
		if got := inOrder(fitting(plan, c.number, c.seed)); got != c.want {
			t.Errorf("%d with seed %d: %s, want %s", c.number, c.seed, got, c.want)
		}
	}
	seen := map[string]bool{}
	for seed := range int64(5) {
		for _, s := range fitting(plan, 2, seed).Scenarios {
			seen[s.Metadata.Name] = true
		}
	}
	if len(seen) != 5 {
		t.Errorf("five nights have taken %v", seen)
	}
}

func TestANightSaysHowItDividesItsTime(t *testing.T) {
	var said strings.Builder
	n := &night{streams: IOStreams{Err: &said}, lasting: 3 * time.Minute, seed: 1, id: "id"}
	plans, err := n.divide()
	if err != nil {
		t.Fatal(err)
	}
	if len(plans) != 2 || len(plans[0].Scenarios) != 48 || len(plans[1].Scenarios) != 9 {
		t.Errorf("%d and %d scenarios", len(plans[0].Scenarios), len(plans[1].Scenarios))
	}
	for _, want := range []string{"transitions 48 of ", "in about 1m10s", "faults 9 of ", "in about 45s", "the rest for generated scenarios and the soak, at least 30s"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q: %s", want, said.String())
		}
	}
}

func TestANightIsComparedWithTheLastOneThatPassed(t *testing.T) {
	folder := t.TempDir()
	if got := lastNight(filepath.Join(folder, "absent")); got != nil {
		t.Errorf("without a folder: %v", got)
	}
	write := func(day int, outcome string) string {
		run := runOf(fmt.Sprintf("202601%02d-000000-abcd", day), "scenario", "a="+outcome)
		run.Outcome = result.Outcome(outcome)
		if err := reports.WriteAll(filepath.Join(folder, run.ID), run); err != nil {
			t.Fatal(err)
		}
		return run.ID
	}
	only := write(1, "failed")
	if got := lastNight(folder); got == nil || got.ID != only {
		t.Errorf("the only one: %v", got)
	}
	green := write(2, "passed")
	write(3, "failed")
	if got := lastNight(folder); got == nil || got.ID != green {
		t.Errorf("the last that passed: %v", got)
	}
}

func TestANightThatIsWorseThanTheOneBeforeIsARegression(t *testing.T) {
	for _, c := range []struct {
		was, is string
		code    int
	}{{"passed", "passed", ExitOK}, {"failed", "passed", ExitOK}, {"passed", "inconclusive", ExitRegression}} {
		var out strings.Builder
		n := &night{streams: IOStreams{Out: &out}, id: "now", folder: t.TempDir()}
		if err := reports.WriteAll(n.dir(), runOf("now", "scenario", "a="+c.is)); err != nil {
			t.Fatal(err)
		}
		err := n.compare(runOf("before", "scenario", "a="+c.was), runOf("now", "scenario", "a="+c.is), nil)
		if code := exitCode(t.Context(), err); code != c.code {
			t.Errorf("from %s to %s: exit code %d, want %d (%v)", c.was, c.is, code, c.code, err)
		}
		if !slices.Contains(strings.Split(out.String(), "\n"), fmt.Sprintf("compared with night before: %d verdicts are worse, 0 values have grown", c.code/ExitRegression)) {
			t.Errorf("it says %s", out.String())
		}
	}
}
