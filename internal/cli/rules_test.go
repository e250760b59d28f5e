package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

// recorded leaves a run with one claim in a folder of its own.
func recorded(t *testing.T, outcome result.Outcome) string {
	t.Helper()
	folder := t.TempDir()
	run := &result.Run{SchemaVersion: result.SchemaVersion, ID: "one", Scenarios: []result.Scenario{{Name: "s", Steps: []result.Step{{Name: "t",
		Claims: []result.Claim{{ID: "s.1.1", Name: "curl exits with 22", Shows: []string{"N-16"}, Outcome: outcome}}}}}}}
	if err := reports.WriteAll(folder, run); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestRulesThatAreNotShownAreAFinding(t *testing.T) {
	for outcome, shown := range map[result.Outcome]string{result.Passed: "1 of ", result.Skipped: "0 of "} {
		code, out, errOut := runLine(t, "rules", "--run", recorded(t, outcome))
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if last := lines[len(lines)-1]; code != ExitFinding || !strings.HasPrefix(last, shown) || !strings.HasSuffix(last, " rules shown") {
			t.Errorf("%s: exit code %d, want %d; the last line is %q\n%s", outcome, code, ExitFinding, last, errOut)
		}
	}
}

func TestRulesWithoutARunAreInconclusive(t *testing.T) {
	empty := t.TempDir()
	t.Chdir(empty)
	t.Setenv("ARTIFACTS", "")
	for _, args := range [][]string{{"rules"}, {"rules", "--run", filepath.Join(empty, "none")}} {
		if code, _, errOut := runLine(t, args...); code != ExitInconclusive || !strings.Contains(errOut, "there is no run to judge by") {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, ExitInconclusive, errOut)
		}
	}
}

func TestRulesRefuseWhatIsNoRunAndNoOutputOfTests(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--run", bad}, {"--run", recorded(t, result.Passed), "--tests", bad}, {"-o", "xml"}} {
		if code, _, errOut := runLine(t, append([]string{"rules"}, args...)...); code != ExitUsage {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, ExitUsage, errOut)
		}
	}
}

func TestTheListSaysWhatAChoiceOfFeaturesSkips(t *testing.T) {
	code, out, errOut := runLine(t, "list", "-o", "wide", "--features", "Authz", "walk-through")
	if code != ExitOK || !strings.Contains(out, "[skipped: feature Emojivoto is not among those asked for (--features)]") || !strings.Contains(out, "of them skipped)") {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
}

func TestThePodsOfAJobSkipWhatTheUserSkips(t *testing.T) {
	code, out, errOut := runLine(t, "gen", "job", "walk-through", "--features", "Authz", "--exempt-features", "Emojivoto,TLS", "--profile", "core")
	if code != ExitOK {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	for _, pair := range [][2]string{{"--features", "Authz"}, {"--exempt-features", "Emojivoto"}, {"--exempt-features", "TLS"}, {"--profile", "core"}} {
		if flat := strings.Join(strings.Fields(strings.ReplaceAll(out, "- ", "")), " "); !strings.Contains(flat, pair[0]+" "+pair[1]) {
			t.Errorf("the Job does not say %s %s:\n%s", pair[0], pair[1], out)
		}
	}
}
