package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// wroteRun writes a run of one scenario, whose claims are written NAME=OUTCOME,
// and returns its folder.
func wroteRun(t *testing.T, id string, claims ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), id)
	if err := reports.WriteAll(dir, runOf(id, "scenario", claims...)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func runOf(id, scenario string, claims ...string) *result.Run {
	step := result.Step{Name: "step", Outcome: result.Passed}
	for _, one := range claims {
		name, outcome, _ := strings.Cut(one, "=")
		step.Claims = append(step.Claims, result.Claim{Name: name, Outcome: result.Outcome(outcome)})
	}
	run := &result.Run{SchemaVersion: result.SchemaVersion, ID: id, Outcome: result.Passed, Scenarios: []result.Scenario{{Name: scenario, Outcome: result.Passed, Steps: []result.Step{step}}}}
	run.Summary = run.Count()
	return run
}

func TestCompareSaysByItsExitCodeWhetherVerdictsDiffer(t *testing.T) {
	passed := wroteRun(t, "passed", "a=passed", "b=passed")
	failed := wroteRun(t, "failed", "a=passed", "b=failed")
	skipped := wroteRun(t, "skipped", "a=skipped", "b=skipped")
	twice := wroteRun(t, "twice", "a=passed", "a=passed")
	later := t.TempDir()
	next := runOf("later", "scenario", "a=passed")
	next.SchemaVersion++
	if err := reports.WriteAll(later, next); err != nil {
		t.Fatal(err)
	}
	other, broken := filepath.Join(t.TempDir(), "other.json"), filepath.Join(t.TempDir(), "broken.json")
	for path, text := range map[string]string{other: "{}", broken: `{"schemaVersion": 1, "scen`} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		claim     string
		args      []string
		want      int
		out, talk string
	}{
		{"the same verdicts", []string{passed, passed}, ExitOK, "2 claims in both, 0 differ, 0 judged in one only\n", ""},
		{"a file instead of a folder", []string{filepath.Join(passed, reports.RunFile), passed}, ExitOK, "2 claims in both, 0 differ", ""},
		{"a verdict differs", []string{passed, failed}, ExitRegression, "scenario / step / b", ""},
		{"it differs the other way round", []string{failed, passed}, ExitRegression, "1 differ", ""},
		{"it is better", []string{failed, passed, "--allow-better"}, ExitOK, "1 differ", ""},
		{"it is worse", []string{passed, failed, "--allow-better"}, ExitRegression, "1 differ", ""},
		{"no probability", []string{passed, passed, "--alpha", "2"}, ExitUsage, "", "between 0 and 1"},
		{"as Markdown", []string{passed, failed, "-o", "md"}, ExitRegression, "| scenario / step / b | passed | failed |", ""},
		{"as JSON", []string{passed, failed, "-o", "json"}, ExitRegression, `"differ": 1`, ""},
		{"nothing was judged in both", []string{passed, skipped}, ExitInconclusive, "2 judged in one only", "nothing can be compared"},
		{"one run", []string{passed}, ExitUsage, "", "accepts 2 arg"},
		{"no such folder", []string{passed, "absent"}, ExitUsage, "", "absent"},
		{"a folder without a run", []string{passed, t.TempDir()}, ExitUsage, "", "run.json"},
		{"another kind of file", []string{other, passed}, ExitUsage, "", "other.json is not a run"},
		{"half a file", []string{broken, passed}, ExitUsage, "", "broken.json"},
		{"another schema version", []string{passed, later}, ExitUsage, "", "schema version 2"},
		{"claims that cannot be told apart", []string{passed, twice}, ExitUsage, "", "run twice: two claims"},
		{"an unknown form", []string{passed, passed, "-o", "yaml"}, ExitUsage, "", `"yaml"`},
	} {
		t.Run(c.claim, func(t *testing.T) {
			code, out, talk := runLine(t, append([]string{"compare"}, c.args...)...)
			if code != c.want || !strings.Contains(out, c.out) || !strings.Contains(talk, c.talk) {
				t.Errorf("exit code %d, want %d; printed %q, said %q", code, c.want, out, talk)
			}
			if c.want == ExitUsage && (out != "" || strings.Count(talk, "\n") != 1) {
				t.Errorf("bad input is not one line: printed %q, said %q", out, talk)
			}
		})
	}
}
