package again

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/engine"
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

func scenario(name string, o result.Outcome) result.Scenario {
	return result.Scenario{Name: name, Outcome: o, Steps: []result.Step{{Name: "step", Outcome: o, Claims: []result.Claim{{Name: "claim", Outcome: o}}}}}
}

// carriedOut is what was carried out of a plan of a and b, where a comes out as
// its letters say, one for each attempt.
func carriedOut(t *testing.T, times Times, a string) (attempts []string, out *result.Run) {
	root := t.TempDir()
	outcomes := map[byte]result.Outcome{'p': result.Passed, 'f': result.Failed, '?': result.Inconclusive}
	out = times.carry(context.Background(), planOf("a", "b"), engine.Options{Dir: filepath.Join(root, "dir"), Leave: true}, func(_ context.Context, plan *scenarios.Plan, options engine.Options) *result.Run {
		if n := len(attempts); n > 0 { // that of the first is there already
			if _, err := os.Stat(options.Dir); err != nil {
				t.Error(err)
			}
		}
		run := &result.Run{}
		var names []string
		for _, s := range plan.Scenarios {
			o := result.Passed
			if s.Metadata.Name == "a" {
				o = outcomes[a[len(attempts)]]
			}
			names = append(names, s.Metadata.Name)
			run.Scenarios = append(run.Scenarios, scenario(s.Metadata.Name, o))
		}
		attempts = append(attempts, fmt.Sprintf("%s in %s %v", strings.Join(names, " "), strings.TrimPrefix(options.Dir, root+"/"), options.Leave))
		run.Conclude(nil, false)
		return run
	})
	return attempts, out
}

func TestAPlanIsCarriedOutAsOftenAsAsked(t *testing.T) {
	const first, second, third = "a b in dir false", "a b in dir/attempts/2 false", "a b in dir/attempts/3 false"
	for _, c := range []struct {
		name    string
		times   Times
		a       string
		want    []string
		outcome result.Outcome
		flaky   int
	}{
		{"once", Times{}, "p", []string{first}, result.Passed, 0},
		{"three times", Times{Repeat: 3}, "ppp", []string{first, second, third}, result.Passed, 0},
		{"three times, whatever fails", Times{Repeat: 3}, "fpp", []string{first, second, third}, result.Failed, 1},
		{"until it fails", Times{UntilItFails: true}, "ppf", []string{first, second, third}, result.Failed, 1},
		{"until it fails, twice at most", Times{UntilItFails: true, Repeat: 2}, "pp", []string{first, second}, result.Passed, 0},
		{"further attempts at what failed", Times{Attempts: 3}, "fpp", []string{first, "a in dir/attempts/2 false"}, result.Failed, 1},
		{"no attempt helps", Times{Attempts: 3}, "fff", []string{first, "a in dir/attempts/2 false", "a in dir/attempts/3 false"}, result.Failed, 0},
		{"nothing failed", Times{Attempts: 3}, "p", []string{first}, result.Passed, 0},
		{"nobody could tell", Times{Attempts: 2}, "?p", []string{first, "a in dir/attempts/2 false"}, result.Inconclusive, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			attempts, out := carriedOut(t, c.times, c.a)
			if !slices.Equal(attempts, c.want) {
				t.Errorf("carried out %q, want %q", attempts, c.want)
			}
			if out.Outcome != c.outcome || out.Summary.Flaky != c.flaky {
				t.Errorf("it is %s with %d flaky, want %s with %d", out.Outcome, out.Summary.Flaky, c.outcome, c.flaky)
			}
		})
	}
}

func TestAJournalRemembersWhatHasAVerdict(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a journal: %v", err)
	}
	begun := Begun{Run: "id", Seed: 7, Select: []string{"--profile", "core", "transitions"}}
	journal, err := Begin(dir, begun, []result.Scenario{scenario("earlier", result.Passed)})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []result.Outcome{result.Passed, result.Failed, result.Inconclusive, result.Skipped, result.Error} {
		s := scenario(string(o), o)
		journal.Add(&s)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash cuts off the last line.
	file, err := os.OpenFile(filepath.Join(dir, JournalFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"scenario":{"na`); err != nil {
		t.Fatal(err)
	}
	file.Close()
	got, settled, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	begun.Note = note
	if diff := cmp.Diff(&begun, got); diff != "" {
		t.Error("-want +got:", diff)
	}
	var names []string
	for _, s := range settled {
		names = append(names, s.Name)
	}
	if want := []string{"earlier", "passed", "failed", "inconclusive", "skipped"}; !slices.Equal(names, want) {
		t.Errorf("settled are %q, want %q", names, want)
	}
}

func TestAResumedRunIsJudgedByAllItsScenarios(t *testing.T) {
	out := &result.Run{Scenarios: []result.Scenario{scenario("b", result.Passed)}}
	out.Conclude(nil, false)
	Join(out, planOf("a", "b", "c"), []result.Scenario{scenario("c", result.Passed), scenario("a", result.Failed)})
	var names []string
	for _, s := range out.Scenarios {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || out.ExitCode != result.ExitFailed || out.Summary.Total != 3 {
		t.Errorf("%q, exit code %d, %+v", names, out.ExitCode, out.Summary)
	}
	// One that was interrupted again stays so.
	out = &result.Run{Scenarios: []result.Scenario{scenario("b", result.Skipped)}}
	out.Conclude(&result.End{Reason: "interrupted", Outcome: result.Inconclusive, ExitCode: result.ExitInterrupted}, false)
	Join(out, planOf("a", "b"), []result.Scenario{scenario("a", result.Passed)})
	if out.ExitCode != result.ExitInterrupted || out.Reason != "interrupted" {
		t.Errorf("exit code %d: %s", out.ExitCode, out.Reason)
	}
}
