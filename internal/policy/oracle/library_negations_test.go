package oracle_test

import (
	"slices"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/policy/paper"
	"github.com/meshproof/meshproof/scenarios"
)

// unturned are rules whose contrary no call on paper notices, and why. Runs on a
// cluster are judged by them again all the same.
var unturned = map[string]string{
	"H-20": "nobody on paper calls from localhost",
	"B-01": "nobody on paper calls from localhost",
	"B-02": "nobody on paper calls himself",
	"T-04": "addresses on paper are not mapped",
	"W-21": "the schema fills the status in",
	"N-14": "what is logged is no answer to a call",
}

// said is what the rules say of the calls that carry a rule's ID, in order, and
// whether a written expectation of another form contradicts them.
type said struct {
	verdicts []oracle.Verdict
	series   []paper.Counted
	differs  bool
}

func played(t *testing.T, set *scenarios.Set, scenario *scenarios.Scenario, dialect scenarios.Dialect, rule string, rules oracle.Rules) said {
	var out said
	p := paper.New(set, scenario, dialect)
	p.Rules = rules
	p.Differs = func(c scenarios.Claim, _ string) { out.differs = out.differs || claimShows(c, rule) }
	p.Saw = func(c scenarios.Claim, v oracle.Verdict) {
		if claimShows(c, rule) {
			out.verdicts = append(out.verdicts, v)
		}
	}
	p.SawSeries = func(c scenarios.Claim, n paper.Counted) {
		if claimShows(c, rule) {
			out.series = append(out.series, n)
		}
	}
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every rule with a contrary has a claim that carries its ID and comes out
// otherwise when the contrary holds: tagging alone shows nothing.
func TestTheLibraryNoticesTheContraryOfEveryRule(t *testing.T) {
	set, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	for _, negation := range oracle.Negations() {
		t.Run(negation.Rule+" "+negation.As, func(t *testing.T) {
			if why := unturned[negation.Rule]; why != "" {
				t.Skip(why)
			}
			contrary := oracle.DefaultRules()
			negation.Apply(&contrary)
			carried := 0
			for _, scenario := range set.Scenarios {
				if !scenarioShows(scenario, negation.Rule) {
					continue
				}
				carried++
				for _, dialect := range []scenarios.Dialect{scenarios.Documented, scenarios.Linkerd} {
					book, other := played(t, set, scenario, dialect, negation.Rule, oracle.DefaultRules()), played(t, set, scenario, dialect, negation.Rule, contrary)
					if other.differs != book.differs || !slices.EqualFunc(book.verdicts, other.verdicts, alike(dialect)) ||
						!slices.EqualFunc(book.series, other.series, paper.Counted.Alike) {
						return
					}
				}
			}
			t.Errorf("no claim of the %d scenarios that show %s notices", carried, negation.Rule)
		})
	}
}

// alike compares what can be seen of a verdict: the outcome, and the credit where
// the dialect says who gets it.
func alike(dialect scenarios.Dialect) func(a, b oracle.Verdict) bool {
	return func(a, b oracle.Verdict) bool {
		return a.Outcome == b.Outcome && (dialect != scenarios.Documented || a.Authorization == b.Authorization)
	}
}

func scenarioShows(scenario *scenarios.Scenario, rule string) bool {
	return slices.ContainsFunc(scenario.Spec.Steps, func(s scenarios.Step) bool {
		return slices.ContainsFunc(s.Claims, func(c scenarios.Claim) bool { return claimShows(c, rule) })
	})
}

func claimShows(c scenarios.Claim, rule string) bool {
	if slices.Contains(c.Shows, rule) {
		return true
	}
	return c.Matrix != nil && slices.ContainsFunc(c.Matrix.Rows, func(r scenarios.Row) bool { return slices.Contains(r.Shows, rule) })
}
