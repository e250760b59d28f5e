package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// shardFolder writes a shard of a plan of three claims, with evidence.
func shardFolder(t *testing.T, index int, claims ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shard")
	run := runOf("20261122-000000-000"+string(rune('0'+index)), "scenario-"+string(rune('0'+index)), claims...)
	run.Shard = &result.Shard{Index: index, Count: 3, Plan: "p", Claims: 3}
	run.Scenarios[0].Bundle = "scenarios/" + run.Scenarios[0].Name + "/bundle"
	if err := os.MkdirAll(filepath.Join(dir, run.Scenarios[0].Bundle), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, run.Scenarios[0].Bundle, "events.yaml"), []byte("evidence"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := reports.WriteAll(dir, run); err != nil {
		t.Fatal(err)
	}
	recorded, err := history.Create(filepath.Join(dir, history.FileName))
	if err == nil {
		err = recorded.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSeveralRunsAreMergedIntoOneWithAllReportsAndEvidence(t *testing.T) {
	folder := t.TempDir()
	dirs := []string{shardFolder(t, 1, "a=passed"), shardFolder(t, 2, "a=failed"), shardFolder(t, 3, "a=passed")}
	code, out, talk := runLine(t, append([]string{"report", "--output-dir", folder}, dirs...)...)
	if code != ExitFinding || !strings.Contains(out, "3 claims in all") || !strings.Contains(out, "2 passed, 1 failed, 0 skipped") {
		t.Errorf("exit code %d, printed %q, said %q", code, out, talk)
	}
	merged, err := reports.Read(filepath.Join(folder, "latest"))
	if err != nil || len(merged.Parts) != 3 || merged.Summary.Total != 3 {
		t.Fatalf("%+v, %v", merged, err)
	}
	for _, file := range []string{reports.JUnitFile, reports.MarkdownFile, reports.HTMLFile, "scenarios/scenario-2/bundle/events.yaml"} {
		if _, err := os.Stat(filepath.Join(folder, merged.ID, file)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range merged.Scenarios {
		if _, err := os.Stat(filepath.Join(folder, merged.ID, s.Folder, history.FileName)); err != nil || s.Folder == "" {
			t.Errorf("the history of %s in %q: %v", s.Name, s.Folder, err)
		}
	}
	// The same order of folders or another, it is the same run.
	dirs[0], dirs[2] = dirs[2], dirs[0]
	if _, out, _ := runLine(t, append([]string{"report", "--output-dir", t.TempDir()}, dirs...)...); !strings.Contains(out, "2 passed, 1 failed") {
		t.Errorf("in another order: %s", out)
	}
}

func TestAMissingShardIsAnErrorThatNamesIt(t *testing.T) {
	code, out, talk := runLine(t, "report", "--output-dir", t.TempDir(), shardFolder(t, 1, "a=passed"), shardFolder(t, 3, "a=passed"))
	if code != ExitSetup || !strings.Contains(out, "outcome error, exit code 3: shard 2 of 3 is missing") {
		t.Errorf("exit code %d, printed %q, said %q", code, out, talk)
	}
}

func TestRunsThatCannotBeMergedAreBadInput(t *testing.T) {
	one := shardFolder(t, 1, "a=passed")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{one, one}, "are both shard 1 of 3"},
		{[]string{one, wroteRun(t, "x", "a=passed")}, "another run is none"},
		{[]string{one, "absent"}, "absent"},
		{nil, "name the folder"},
	} {
		folder := filepath.Join(t.TempDir(), "artifacts")
		code, out, talk := runLine(t, append([]string{"report", "--output-dir", folder}, c.args...)...)
		if code != ExitUsage || out != "" || !strings.Contains(talk, c.want) || strings.Count(talk, "\n") != 1 {
			t.Errorf("%v: exit code %d, printed %q, said %q", c.args, code, out, talk)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Errorf("%v: a folder stays behind", c.args)
		}
	}
}
