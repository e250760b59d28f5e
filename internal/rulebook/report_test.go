package rulebook

import (
	"errors"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
)

// turning is a recording in which the negations of some rules turn some claims.
type turning map[string][]string

func (t turning) Turned(n oracle.Negation) ([]string, error) { return t[n.Rule], nil }

type broken struct{}

func (broken) Turned(oracle.Negation) ([]string, error) { return nil, errors.New("cut off") }

func claim(id string, outcome result.Outcome, shows ...string) result.Claim {
	return result.Claim{ID: id, Name: "claim " + id, Shows: shows, Outcome: outcome, Reason: "because"}
}

func run(id string, recording Recording, claims ...result.Claim) Run {
	return Run{Recording: recording, Result: &result.Run{ID: id, Mesh: result.Mesh{Dialect: "d" + id},
		Scenarios: []result.Scenario{{Name: "s", Steps: []result.Step{{Name: "t", Claims: claims}}}}}}
}

// seen is a rule that claims show and nothing negates, decided one that is negated.
const seen, decided = "N-16", "X-31"

func entryOf(t *testing.T, e Evidence, id string) Entry {
	t.Helper()
	report, err := Judge(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range report.Rules {
		if entry.ID == id {
			return entry
		}
	}
	t.Fatalf("no rule %s", id)
	return Entry{}
}

func TestARuleIsShownByAClaimThatPassedAndByNothingLess(t *testing.T) {
	for _, test := range []struct {
		name string
		runs []Run
		rule string
		why  string
	}{
		{"no claim", []Run{run("1", nil)}, seen, "no claim carries it"},
		{"passed", []Run{run("1", nil, claim("a", result.Passed, seen))}, seen, ""},
		{"skipped", []Run{run("1", nil, claim("a", result.Skipped, seen))}, seen, "none of its claims passed (because)"},
		{"inconclusive", []Run{run("1", nil, claim("a", result.Inconclusive, seen))}, seen, "none of its claims passed (because)"},
		{"failed beside passed", []Run{run("1", nil, claim("a", result.Passed, seen), claim("b", result.Failed, seen))}, seen, "one of its claims failed"},
		{"skipped here and passed in the other dialect", []Run{run("1", nil, claim("a", result.Skipped, seen)), run("2", nil, claim("a", result.Passed, seen))}, seen, ""},
		{"decided by the oracle, without a history", []Run{run("1", nil, claim("a", result.Passed, decided))}, decided, "no run has left a history on which its contrary could be tried"},
		{"turned", []Run{run("1", turning{decided: {"a"}}, claim("a", result.Passed, decided))}, decided, ""},
		{"not turned", []Run{run("1", turning{}, claim("a", result.Passed, decided))}, decided, "none of its claims would fail if the contrary held"},
		{"a claim of another rule turned", []Run{run("1", turning{decided: {"b"}}, claim("a", result.Passed, decided), claim("b", result.Passed, seen))}, decided,
			"none of its claims would fail if the contrary held"},
		{"a skipped claim turned", []Run{run("1", turning{decided: {"b"}}, claim("a", result.Passed, decided), claim("b", result.Skipped, decided))}, decided,
			"none of its claims would fail if the contrary held"},
		{"turned in another run than the one where it passed", []Run{run("1", turning{decided: {"a"}}, claim("a", result.Skipped, decided)),
			run("2", turning{}, claim("a", result.Passed, decided))}, decided, "none of its claims would fail if the contrary held"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entry := entryOf(t, Evidence{Runs: test.runs}, test.rule)
			if !strings.HasPrefix(entry.Why, test.why) || entry.Shown != (test.why == "") {
				t.Errorf("shown %v because %q, want %q", entry.Shown, entry.Why, test.why)
			}
		})
	}
}

// A rule that the oracle decides in several functions is shown from each side.
func TestEverySideOfARuleHasToTurnAClaim(t *testing.T) {
	for turned, why := range map[int]string{1: "", 0: "none of its claims would fail if the contrary held: the second"} {
		entry := Entry{Claims: []Claim{{Outcome: result.Passed}}, Negations: []Negation{{"the first", 1}, {"the second", turned}}}
		if got := entry.lacks(true); got != why {
			t.Errorf("turned %d: %q, want %q", turned, got, why)
		}
	}
}

func TestTestsShowOnlyWhatCannotBeSeen(t *testing.T) {
	const name = "internal/x.TestIt/a part"
	outcomes := func(o result.Outcome) []Test { return []Test{{name, o}} }
	hidden := rule("Z-01", server, "a rule").unseen("nobody can look", name)
	open := rule("Z-02", server, "a rule").and(name)
	for _, test := range []struct {
		name  string
		entry Entry
		why   string
	}{
		{"passed", Entry{Rule: hidden, Outcomes: outcomes(result.Passed)}, ""},
		{"failed", Entry{Rule: hidden, Outcomes: outcomes(result.Failed)}, "test " + name + ": failed"},
		{"not run", Entry{Rule: hidden, Outcomes: outcomes(NotRun)}, "test " + name + ": not run"},
		{"a claim failed", Entry{Rule: hidden, Outcomes: outcomes(result.Passed), Claims: []Claim{{Run: "1", ID: "a", Outcome: result.Failed, Reason: "why"}}}, "one of its claims failed, first a in run 1: why"},
		{"a claim was skipped", Entry{Rule: hidden, Outcomes: outcomes(result.Passed), Claims: []Claim{{Outcome: result.Skipped}}}, ""},
		{"seen from outside", Entry{Rule: open, Outcomes: outcomes(result.Passed)}, "no claim carries it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if why := test.entry.lacks(true); why != test.why {
				t.Errorf("have %q, want %q", why, test.why)
			}
		})
	}
}

func TestAHistoryThatCannotBeReadIsAnError(t *testing.T) {
	_, err := Judge(Evidence{Runs: []Run{run("1", broken{})}})
	if err == nil || !strings.Contains(err.Error(), "judge run 1 with") {
		t.Errorf("have %v", err)
	}
}

func TestOutcomesOfTestsAreReadFromGoTest(t *testing.T) {
	tests, err := ReadTests(strings.NewReader(`go: downloading nothing
{"Action":"run","Package":"github.com/meshproof/meshproof/internal/x","Test":"TestIt"}
{"Action":"pass","Package":"github.com/meshproof/meshproof/internal/x","Test":"TestIt/a_part"}
{"Action":"fail","Package":"github.com/meshproof/meshproof/internal/x","Test":"TestIt"}
{"Action":"skip","Package":"github.com/meshproof/meshproof/internal/y","Test":"TestOther"}
{"Action":"pass","Package":"github.com/meshproof/meshproof/internal/y"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]result.Outcome{"internal/x.TestIt/a part": result.Passed, "internal/x.TestIt": result.Failed,
		"internal/y.TestOther": result.Skipped, "internal/y.TestNone": NotRun} {
		if got := tests.of(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := ReadTests(strings.NewReader("PASS\n")); err == nil {
		t.Error("a stream without tests was taken")
	}
}

func TestEveryFormEndsWithTheTotals(t *testing.T) {
	report, err := Judge(Evidence{Runs: []Run{run("1", nil, claim("a", result.Passed, seen))}})
	if err != nil {
		t.Fatal(err)
	}
	if report.Shown != 1 {
		t.Errorf("%d rules shown, want 1", report.Shown)
	}
	var table, markdown, json strings.Builder
	for _, err := range []error{report.WriteTable(&table), report.WriteMarkdown(&markdown), report.WriteJSON(&json)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"table": table.String(), "markdown": markdown.String()} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if last := lines[len(lines)-1]; last != report.Totals() {
			t.Errorf("%s ends with %q, want %q", name, last, report.Totals())
		}
		if name == "table" && !strings.HasPrefix(lines[len(lines)-2], "not shown: ") {
			t.Errorf("before the totals stands %q, want a rule that is not shown", lines[len(lines)-2])
		}
		for _, rule := range Rules() {
			if !strings.Contains(text, rule.ID) {
				t.Errorf("%s does not name %s", name, rule.ID)
			}
		}
	}
	if !strings.Contains(json.String(), `"shown": 1,`) || !strings.Contains(json.String(), `"id": "a",`) {
		t.Error("JSON lacks the totals or the claims")
	}
}
