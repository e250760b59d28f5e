package github

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/reports/result"
)

func claim(name string, outcome result.Outcome, line int) result.Claim {
	return result.Claim{Name: name, Outcome: outcome, Expected: "denied", Observed: "allowed (HTTP 200)", Source: result.Source{File: "scenarios/library/a.yaml", Line: line}}
}

func scenario(name string, outcome result.Outcome, claims ...result.Claim) result.Scenario {
	return result.Scenario{Name: name, Outcome: outcome, Source: result.Source{File: "scenarios/library/a.yaml", Line: 4},
		Steps: []result.Step{{Name: "granted", Claims: claims}}}
}

func runOf(outcome result.Outcome, scenarios ...result.Scenario) *result.Run {
	run := &result.Run{Outcome: outcome, Scenarios: scenarios}
	run.Summary = run.Count()
	return run
}

// commands are the lines that the runner takes for commands.
func commands(t *testing.T, env Environment, run *result.Run) []string {
	t.Helper()
	var out strings.Builder
	if err := Commands(&out, env, run); err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(strings.ReplaceAll(out.String(), "\r", "\n")) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[") {
			found = append(found, strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}

func TestAFindingIsAnnotatedAtItsLine(t *testing.T) {
	run := runOf(result.Failed, scenario("walk-through", result.Failed,
		claim("web is denied", result.Failed, 7), claim("app is denied", result.Failed, 7), claim("unsure", result.Inconclusive, 9), claim("fine", result.Passed, 11)))
	want := []string{
		"::group::✗ walk-through: failed",
		"::endgroup::",
		"::error file=scenarios/library/a.yaml,line=7,title=walk-through%3A granted::web is denied%0Aexpected: denied%0Aobserved: allowed (HTTP 200)%0Alikewise: app is denied",
		"::warning file=scenarios/library/a.yaml,line=9,title=walk-through%3A granted::unsure%0Aexpected: denied%0Aobserved: allowed (HTTP 200)",
	}
	if diff := cmp.Diff(want, commands(t, Environment{}, run)); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestARunThatPassedSaysNothing(t *testing.T) {
	if got := commands(t, Environment{}, runOf(result.Passed, scenario("fine", result.Passed, claim("fine", result.Passed, 3)))); got != nil {
		t.Errorf("commands = %q, want none", got)
	}
}

func TestNoMoreThanGitHubShowsOfEachLevel(t *testing.T) {
	var claims []result.Claim
	for i := range 13 {
		claims = append(claims, claim("failed", result.Failed, 10+i), claim("unsure", result.Inconclusive, 100+i))
	}
	var out strings.Builder
	if err := Commands(&out, Environment{}, runOf(result.Failed, scenario("many", result.Failed, claims...))); err != nil {
		t.Fatal(err)
	}
	for _, level := range []string{"error", "warning"} {
		if n := len(regexp.MustCompile(`(?m)^::`+level+` `).FindAllString(out.String(), -1)); n != 10 {
			t.Errorf("%d annotations of level %s, want 10", n, level)
		}
	}
	if !strings.Contains(out.String(), "\n3 more errors and 3 more warnings are not annotated") {
		t.Errorf("what is left out is not told:\n%s", out.String())
	}
}

func TestAReasonThatScenariosShareTakesOneAnnotation(t *testing.T) {
	unreached := func(name string) result.Scenario {
		s := scenario(name, result.Error, claim("not reached", result.Skipped, 7))
		s.Reason = "no cluster"
		return s
	}
	got := commands(t, Environment{}, runOf(result.Error, unreached("one"), unreached("two"), unreached("three")))
	want := "::error file=scenarios/library/a.yaml,line=4,title=one::no cluster%0Alikewise: two, three"
	if last := got[len(got)-1]; last != want {
		t.Errorf("the last of %d commands is %q, want %q", len(got), last, want)
	}
}

func TestARunWithoutAFindingIsNotSilent(t *testing.T) {
	got := commands(t, Environment{}, &result.Run{Outcome: result.Error, Reason: "no Docker daemon: 100% sure\r\nnothing"})
	want := []string{"::error title=meshproof::no Docker daemon: 100%25 sure%0D%0Anothing"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestAScenarioThatBrokeOffIsAnErrorBesideItsDoubts(t *testing.T) {
	s := scenario("broken", result.Error, claim("unsure", result.Inconclusive, 7))
	s.Reason = "a pod does not start"
	got := commands(t, Environment{}, runOf(result.Error, s))
	want := "::error file=scenarios/library/a.yaml,line=4,title=broken::a pod does not start"
	if last := got[len(got)-1]; last != want {
		t.Errorf("the last of %d commands is %q, want %q", len(got), last, want)
	}
}

// What a program under test answers must not steer the runner.
func TestWhatWasObservedIsNoCommand(t *testing.T) {
	evil := claim("a, b: c", result.Failed, 7)
	evil.Observed = "HTTP 200\n::set-env name=PATH::x\n  ::add-mask::a\r\n##[error]x\r::debug::z"
	evil.Details = []string{"::stop-commands::x"}
	s := scenario("one,two:\n::error::three", result.Failed, evil)
	s.Reason = "\n::notice::y"
	for _, line := range commands(t, Environment{}, runOf(result.Failed, s)) {
		if !regexp.MustCompile(`^::(group::|endgroup::$|error file=scenarios/library/a\.yaml,line=7,title=[^,:]*::)`).MatchString(line) {
			t.Errorf("a command that is not this program's: %q", line)
		}
	}
}

func TestFilesAreNamedFromTheRepository(t *testing.T) {
	env := Environment{Workspace: "/home/runner/work/app", Dir: "/home/runner/work/app/test"}
	for file, want := range map[string]string{
		"scenarios/library/a.yaml":                "scenarios/library/a.yaml", // of the program's own repository, wherever it runs
		"policies/a.yaml":                         "test/policies/a.yaml",
		"../a.yaml":                               "a.yaml",
		"/home/runner/work/app/b/a.yaml":          "b/a.yaml",
		"/elsewhere/a.yaml":                       "/elsewhere/a.yaml",
		"../../a.yaml":                            "../../a.yaml",
		"/home/runner/work/app/..strange/a.yaml":  "..strange/a.yaml",
		"/home/runner/work/app-two/policies.yaml": "/home/runner/work/app-two/policies.yaml",
	} {
		if got := env.place(file); got != want {
			t.Errorf("%s is named %s, want %s", file, got, want)
		}
	}
}

func TestDetectAsksForActionsOnly(t *testing.T) {
	set := map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/s", "GITHUB_WORKSPACE": "/w"}
	env, on := Detect(func(name string) string { return set[name] }, "/w/d")
	if want := (Environment{Summary: "/s", Workspace: "/w", Dir: "/w/d"}); env != want || !on {
		t.Errorf("Detect = %+v, %t, want %+v, true", env, on, want)
	}
	delete(set, "GITHUB_ACTIONS")
	if _, on := Detect(func(name string) string { return set[name] }, "/w/d"); on {
		t.Error("Detect is true without GITHUB_ACTIONS")
	}
}

func TestTheSummaryIsAppendedAndStaysBelowTheLimit(t *testing.T) {
	long := strings.Repeat("what was seen, at length ", 300)
	var scenarios []result.Scenario
	for i := range 300 {
		c := claim(fmt.Sprintf("claim %d", i), result.Failed, i+1)
		c.Details = []string{long}
		scenarios = append(scenarios, scenario(fmt.Sprintf("scenario %d", i), result.Failed, c))
	}
	run := runOf(result.Failed, scenarios...)
	file := filepath.Join(t.TempDir(), "summary.md")
	const before = "### of another program\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 { // a step may run the program more than once
		var out strings.Builder
		if err := Write(&out, Environment{Summary: file}, run); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(page)
		if len(page) > MaxSummary {
			t.Fatalf("the summary has %d bytes, more than %d", len(page), MaxSummary)
		}
		if !strings.HasPrefix(text, before+"### meshproof: failed\n") || !strings.HasSuffix(text, cutNote) {
			t.Fatalf("the page of %d bytes does not stand behind the other program's, or does not say that it is cut", len(page))
		}
		for open, end := range map[string]string{openDetails: closeDetails, openText: closeText} {
			if strings.Count(text, open) != strings.Count(text, end) {
				t.Fatalf("%d times %s and %d times %s", strings.Count(text, open), open, strings.Count(text, end), end)
			}
		}
	}
}

func TestCutLeavesNothingWhereNothingFits(t *testing.T) {
	if got := cut([]byte("### a\n"), 3); got != nil {
		t.Errorf("cut = %q, want nothing", got)
	}
	if got := string(cut([]byte("### a\n"), 6)); got != "### a\n" {
		t.Errorf("cut = %q, want the page", got)
	}
}
