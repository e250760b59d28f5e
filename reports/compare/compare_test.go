package compare_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/compare"
	"github.com/meshproof/meshproof/reports/result"
)

// claims makes a run with one scenario of one step; each claim is written
// NAME=OUTCOME.
func claims(id string, all ...string) *result.Run {
	step := result.Step{Name: "step"}
	for _, one := range all {
		name, outcome, _ := strings.Cut(one, "=")
		claim := result.Claim{Name: name, Outcome: result.Outcome(outcome)}
		if claim.Outcome != result.Passed {
			claim.Reason = "because of " + name + "\nand more"
		}
		step.Claims = append(step.Claims, claim)
	}
	return &result.Run{ID: id, Scenarios: []result.Scenario{{Name: "scenario", Steps: []result.Step{step}}}}
}

func TestVerdictsAreComparedClaimByClaim(t *testing.T) {
	for _, c := range []struct {
		name       string
		older, new []string
		want       compare.Totals
		differ     []string
	}{
		{"alike", []string{"a=passed", "b=failed"}, []string{"a=passed", "b=failed"}, compare.Totals{InBoth: 2, Same: 2}, nil},
		{"in another order", []string{"a=passed", "b=failed"}, []string{"b=failed", "a=passed"}, compare.Totals{InBoth: 2, Same: 2}, nil},
		{"one differs", []string{"a=passed", "b=passed"}, []string{"a=passed", "b=failed"}, compare.Totals{InBoth: 2, Same: 1, Differ: 1}, []string{"b"}},
		{"not to know is a verdict", []string{"a=passed"}, []string{"a=inconclusive"}, compare.Totals{InBoth: 1, Differ: 1}, []string{"a"}},
		{"to be skipped is none", []string{"a=passed", "b=skipped"}, []string{"a=skipped", "b=failed"}, compare.Totals{InBoth: 2, JudgedInOne: 2}, nil},
		{"skipped twice", []string{"a=skipped"}, []string{"a=skipped"}, compare.Totals{InBoth: 1, SkippedInBoth: 1}, nil},
		{"runs of another shape", []string{"a=passed", "b=passed"}, []string{"b=passed", "c=failed", "d=passed"},
			compare.Totals{InBoth: 1, Same: 1, OnlyInOld: 1, OnlyInNew: 2}, nil},
		{"nothing in common", []string{"a=passed"}, []string{"b=passed"}, compare.Totals{OnlyInOld: 1, OnlyInNew: 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := compare.Runs(claims("old", c.older...), claims("new", c.new...))
			if err != nil {
				t.Fatal(err)
			}
			if got.Totals != c.want {
				t.Errorf("totals %+v, want %+v", got.Totals, c.want)
			}
			var differ []string
			for _, pair := range got.Differ {
				differ = append(differ, pair.Claim)
			}
			if !reflect.DeepEqual(differ, c.differ) {
				t.Errorf("%v differ, want %v", differ, c.differ)
			}
			if n := len(got.JudgedInOne); n != c.want.JudgedInOne {
				t.Errorf("%d are listed as judged in one run, %d counted", n, c.want.JudgedInOne)
			}
			if n := len(got.OnlyInOne); n != c.want.OnlyInOld+c.want.OnlyInNew {
				t.Errorf("%d are listed as being in one run only", n)
			}
		})
	}
}

func TestClaimsThatCannotBeToldApartAreRefused(t *testing.T) {
	twice := claims("twice", "a=passed", "a=failed")
	for _, runs := range [][2]*result.Run{{twice, claims("x")}, {claims("x"), twice}} {
		_, err := compare.Runs(runs[0], runs[1])
		var duplicate *result.DuplicateError
		if !errors.As(err, &duplicate) || !strings.Contains(err.Error(), "run twice") {
			t.Errorf("error %v", err)
		}
	}
}

// The same name may be about another client, target or protocol.
func TestWhoCallsWhatTellsClaimsApart(t *testing.T) {
	one := claims("one", "a=passed", "a=failed", "a=passed", "a=passed")
	all := one.Scenarios[0].Steps[0].Claims
	all[1].Client, all[2].Target, all[3].Protocol = "alice", "app", "tcp"
	got, err := compare.Runs(one, one)
	if err != nil || got.Totals.Same != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEveryFormShowsWhatDiffersAndTheTotals(t *testing.T) {
	compared, err := compare.Runs(claims("old", "a|x=passed", "b=skipped", "c=passed"), claims("new", "a|x=failed", "b=passed"))
	if err != nil {
		t.Fatal(err)
	}
	const last = "2 claims in both, 1 differ, 1 judged in one only; 1 only in the first run, 0 only in the second"
	for _, format := range compare.Formats() {
		var out strings.Builder
		if err := format.Write(&out, compared); err != nil {
			t.Fatal(err)
		}
		want := []string{last, "because of a", "because of b", "step / c"}
		switch format.Name {
		case "json":
			var back compare.Comparison
			if err := json.Unmarshal([]byte(out.String()), &back); err != nil || !reflect.DeepEqual(&back, compared) {
				t.Errorf("read back: %v", err)
			}
			continue
		case "md":
			want = append(want, `a\|x`)
		case "table":
			if !strings.HasSuffix(out.String(), "\n"+last+"\n") {
				t.Errorf("the last line is not the totals:\n%s", out.String())
			}
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%s lacks %q:\n%s", format.Name, text, out.String())
			}
		}
		if strings.Contains(out.String(), "and more") {
			t.Errorf("%s has more than the first line of a reason", format.Name)
		}
	}
}
