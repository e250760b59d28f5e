package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/again"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// earlier leaves a run in which two scenarios of the library and a user's own have
// the given outcomes.
func earlier(t *testing.T, first, second, own result.Outcome) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "own.yaml")
	if err := os.WriteFile(file, []byte(ownScenario), 0o644); err != nil {
		t.Fatal(err)
	}
	claim := func(o result.Outcome) []result.Step {
		return []result.Step{{Name: "step", Claims: []result.Claim{{Name: "claim", Outcome: o}}}}
	}
	library := result.Source{File: "scenarios/library/walk-through.yaml"}
	run := &result.Run{SchemaVersion: result.SchemaVersion, ID: "20260101-000000-abcd", Scenarios: []result.Scenario{
		{Name: "walk-through", Outcome: first, Source: library, Steps: claim(first)},
		{Name: "probes", Outcome: second, Source: result.Source{File: "scenarios/library/probes.yaml"}, Steps: claim(second)}}}
	if own != "" {
		run.Scenarios = append(run.Scenarios, result.Scenario{Name: "own", Outcome: own, Source: result.Source{File: file}, Steps: claim(own)})
	}
	run.Conclude(nil, false)
	journal, err := again.Begin(dir, again.Begun{Run: run.ID, Select: []string{"walk-through", "probes"}}, run.Scenarios[:1])
	if err != nil {
		t.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := reports.WriteAll(dir, run); err != nil {
		t.Fatal(err)
	}
	return dir
}

const ownScenario = `apiVersion: meshproof.dev/v1alpha1
kind: Scenario
metadata: {name: own, feature: Denials}
spec:
  summary: A user's own
  workloads: [{name: app, kind: echo}]
  clients: [{name: bob, kind: unmeshed}]
  steps:
    - name: nothing changes
      claims: [{name: everybody may call, call: {client: bob, target: "app:tcp", protocol: tcp, expect: allowed}}]
`

// selectedBy are the scenarios that a dry run with these arguments lists.
func selectedBy(t *testing.T, args ...string) (names []string, code int, errOut string) {
	t.Helper()
	code, out, errOut := runLine(t, append([]string{"run", "--dry-run"}, args...)...)
	for _, name := range []string{"walk-through", "probes", "own"} {
		if strings.Contains("\n"+out, "\n"+name+".1.") {
			names = append(names, name)
		}
	}
	return names, code, errOut
}

func TestWhatHasNotPassedIsRunAgain(t *testing.T) {
	const passed, failed, unsure, skipped = result.Passed, result.Failed, result.Inconclusive, result.Skipped
	for _, c := range []struct {
		first, second, own result.Outcome
		want               []string
	}{
		{passed, failed, "", []string{"probes"}}, {unsure, passed, "", []string{"walk-through"}}, {failed, failed, "", []string{"walk-through", "probes"}},
		{result.Error, skipped, passed, []string{"walk-through"}}, {passed, passed, failed, []string{"own"}},
	} {
		if got, code, errOut := selectedBy(t, "--rerun-failed", earlier(t, c.first, c.second, c.own)); code != ExitOK || !slices.Equal(got, c.want) {
			t.Errorf("after %s, %s, %s: %q is run, want %q (exit code %d: %s)", c.first, c.second, c.own, got, c.want, code, errOut)
		}
	}
	if _, code, errOut := selectedBy(t, "--rerun-failed", earlier(t, passed, passed, passed)); code != ExitInconclusive || !strings.Contains(errOut, "has passed") {
		t.Errorf("when everything has passed: exit code %d: %s", code, errOut)
	}
}

func TestARunIsResumedWhereItEnded(t *testing.T) {
	dir := earlier(t, result.Passed, result.Skipped, "")
	if got, code, errOut := selectedBy(t, "--resume", dir); code != ExitOK || !slices.Equal(got, []string{"probes"}) {
		t.Errorf("%q is run (exit code %d: %s)", got, code, errOut)
	}
}

// A run that was killed after its last scenario has no reports.
func TestARunThatHasNothingLeftIsReportedWithoutACluster(t *testing.T) {
	dir := earlier(t, result.Passed, result.Passed, "")
	journal := filepath.Join(dir, again.JournalFile)
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	run, err := reports.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	j, err := again.Begin(dir, again.Begun{Run: run.ID, Select: []string{"walk-through", "probes"}}, run.Scenarios)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := runLine(t, "run", "--resume", dir, "--output-dir", t.TempDir())
	if code != ExitOK || !strings.Contains(out, "Ran 2 of 2 scenarios") {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
}

func TestWhatContradictsItselfIsNotRunAgain(t *testing.T) {
	dir := earlier(t, result.Passed, result.Failed, "")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--resume", dir, "--rerun-failed", dir}, "say one of them"},
		{[]string{"--resume", dir, "probes"}, "none by name"},
		{[]string{"--rerun-failed", dir, "probes"}, "none by name"},
		{[]string{"--resume", t.TempDir()}, "no run has left a journal.jsonl there"},
		{[]string{"--rerun-failed", t.TempDir()}, "run.json"},
		{[]string{"--resume", dir, "--repeat", "2"}, "does not go with repeating"},
		{[]string{"--flake-attempts", "2", "--repeat", "2"}, "neither --repeat nor"},
		{[]string{"--flake-attempts", "2", "--until-it-fails"}, "neither --repeat nor"},
		{[]string{"--repeat", "-1"}, "numbers of times"},
	} {
		if _, code, errOut := selectedBy(t, c.args...); code != ExitUsage || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: exit code %d: %s", c.args, code, errOut)
		}
	}
}
