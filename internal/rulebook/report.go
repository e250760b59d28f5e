package rulebook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
)

// Evidence is what rules are judged by.
type Evidence struct {
	// Runs that were recorded, of one dialect or of several: what one of them
	// shows is shown.
	Runs []Run
	// Tests are the outcomes of Go tests; nil when none were run.
	Tests Tests
}

// Run is one recorded run.
type Run struct {
	Result *result.Run
	// Recording judges the run's questions again; nil when the run has left none.
	Recording Recording
}

// Recording is the questions of a run with their answers, to be judged again.
type Recording interface {
	// Turned lists the IDs of the claims that come out differently when the
	// negation is in force.
	Turned(oracle.Negation) ([]string, error)
}

// Report says of every rule whether it is shown.
type Report struct {
	// Runs are the IDs of those that were judged by, and their dialects.
	Runs []RunName `json:"runs"`
	// Shown of InScope rules.
	Shown   int     `json:"shown"`
	InScope int     `json:"inScope"`
	Rules   []Entry `json:"rules"`
}

// RunName tells a run from others.
type RunName struct {
	ID      string `json:"id"`
	Dialect string `json:"dialect"`
}

// Entry is one rule with what shows it.
type Entry struct {
	Rule
	Section string `json:"section"`
	Shown   bool   `json:"shown"`
	// Why the rule is not shown; empty when it is, or out of scope.
	Why       string     `json:"why,omitempty"`
	Claims    []Claim    `json:"claims,omitempty"`
	Outcomes  []Test     `json:"testOutcomes,omitempty"`
	Negations []Negation `json:"negations,omitempty"`
}

// Claim is one that carries the rule's ID, with its outcome in one run.
type Claim struct {
	Run     string         `json:"run"`
	ID      string         `json:"id"`
	Name    string         `json:"name"`
	Outcome result.Outcome `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
}

// Negation is the contrary of a rule, and how many of the rule's passed claims
// it turns.
type Negation struct {
	As     string `json:"as"`
	Turned int    `json:"turned"`
}

// Judge says of every rule whether the evidence shows it. The error is about
// evidence that cannot be read.
func Judge(e Evidence) (*Report, error) {
	report := &Report{}
	carried := map[string][]Claim{}
	for _, run := range e.Runs {
		report.Runs = append(report.Runs, RunName{run.Result.ID, run.Result.Mesh.Dialect})
		for _, scenario := range run.Result.Scenarios {
			for _, step := range scenario.Steps {
				for _, c := range step.Claims {
					for _, id := range c.Shows {
						carried[id] = append(carried[id], Claim{run.Result.ID, c.ID, scenario.Name + " / " + step.Name + " / " + c.Name, c.Outcome, c.Reason})
					}
				}
			}
		}
	}
	recorded := slices.ContainsFunc(e.Runs, func(r Run) bool { return r.Recording != nil })
	negations, err := negated(e.Runs, carried)
	if err != nil {
		return nil, err
	}
	for _, section := range Sections() {
		for _, rule := range section.Rules {
			entry := Entry{Rule: rule, Section: section.Title, Claims: carried[rule.ID], Negations: negations[rule.ID]}
			for _, name := range rule.Tests {
				entry.Outcomes = append(entry.Outcomes, Test{name, e.Tests.of(name)})
			}
			if rule.OutOfScope == "" {
				entry.Why = entry.lacks(recorded)
				entry.Shown = entry.Why == ""
				report.InScope++
				if entry.Shown {
					report.Shown++
				}
			}
			report.Rules = append(report.Rules, entry)
		}
	}
	return report, nil
}

// negated puts every rule's contrary in force on every recorded run, and counts
// the passed claims of the rule that it turns.
func negated(runs []Run, carried map[string][]Claim) (map[string][]Negation, error) {
	out := map[string][]Negation{}
	for _, negation := range oracle.Negations() {
		one := Negation{As: negation.As}
		for _, run := range runs {
			if run.Recording == nil {
				continue
			}
			turned, err := run.Recording.Turned(negation)
			if err != nil {
				return nil, fmt.Errorf("judge run %s with %s negated: %w", run.Result.ID, negation.Rule, err)
			}
			for _, c := range carried[negation.Rule] {
				if c.Run == run.Result.ID && c.Outcome == result.Passed && slices.Contains(turned, c.ID) {
					one.Turned++
				}
			}
		}
		out[negation.Rule] = append(out[negation.Rule], one)
	}
	return out, nil
}

// lacks says what is missing for the rule to be shown; empty when nothing is.
// recorded says that there are questions to judge again.
func (e *Entry) lacks(recorded bool) string {
	if count := e.Counts(); count[result.Failed]+count[result.Error] > 0 {
		first := e.Claims[slices.IndexFunc(e.Claims, func(c Claim) bool { return c.Outcome == result.Failed || c.Outcome == result.Error })]
		return fmt.Sprintf("%s of its claims failed, first %s in run %s: %s", few(count[result.Failed]+count[result.Error]), first.ID, first.Run, first.Reason)
	}
	why := e.lacksClaims(recorded)
	if why == "" || e.Unseen == "" {
		return why
	}
	for _, test := range e.Outcomes {
		if test.Outcome != result.Passed {
			return fmt.Sprintf("test %s: %s", test.Name, test.Outcome)
		}
	}
	return ""
}

// lacksClaims says why the rule's claims do not show it.
func (e *Entry) lacksClaims(recorded bool) string {
	switch {
	case len(e.Claims) == 0:
		return "no claim carries it"
	case e.Counts()[result.Passed] == 0:
		return fmt.Sprintf("none of its claims passed (%s)", e.Claims[0].Reason)
	case len(e.Negations) > 0 && !recorded:
		return "no run has left a history on which its contrary could be tried"
	}
	for _, n := range e.Negations { // a rule with several sides is shown from each
		if n.Turned == 0 {
			return "none of its claims would fail if the contrary held: " + n.As
		}
	}
	return ""
}

func few(n int) string {
	if n == 1 {
		return "one"
	}
	return fmt.Sprint(n)
}

// Counts are the rule's claims by outcome.
func (e *Entry) Counts() map[result.Outcome]int {
	count := map[result.Outcome]int{}
	for _, c := range e.Claims {
		count[c.Outcome]++
	}
	return count
}

// Turned is how many claims the rule's negations turn, "-" where the rule has
// none.
func (e *Entry) Turned() string {
	if len(e.Negations) == 0 {
		return "-"
	}
	var all []string
	for _, n := range e.Negations {
		all = append(all, fmt.Sprint(n.Turned))
	}
	return strings.Join(all, "+")
}

// TestsPassed is how many of the rule's tests passed.
func (e *Entry) TestsPassed() int {
	passed := 0
	for _, t := range e.Outcomes {
		if t.Outcome == result.Passed {
			passed++
		}
	}
	return passed
}

// Totals is the last line of every report.
func (r *Report) Totals() string { return fmt.Sprintf("%d of %d rules shown", r.Shown, r.InScope) }
