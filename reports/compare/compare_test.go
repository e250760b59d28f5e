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
			got, err := compare.Runs(claims("old", c.older...), claims("new", c.new...), compare.UsualLimits())
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
		_, err := compare.Runs(runs[0], runs[1], compare.UsualLimits())
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
	got, err := compare.Runs(one, one, compare.UsualLimits())
	if err != nil || got.Totals.Same != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEveryFormShowsWhatDiffersAndTheTotals(t *testing.T) {
	compared, err := compare.Runs(claims("old", "a|x=passed", "b=skipped", "c=passed"), claims("new", "a|x=failed", "b=passed"), compare.UsualLimits())
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

// measured is a run on a kind of cluster with values around a median.
func measured(provider string, median float64, n int) *result.Run {
	run := claims(provider, "a=passed")
	run.Cluster.Provider = provider
	s := result.Sample{Name: "propagation, grant added", Unit: "ms"}
	for i := range n {
		s.Values = append(s.Values, median*(1+0.1*(float64(i)/float64(n)-0.5)))
	}
	run.Samples = []result.Sample{s}
	return run
}

// noisy gives a run a noise floor.
func noisy(run *result.Run, floor float64) *result.Run {
	run.Noise = &result.Noise{Floor: floor}
	return run
}

func TestAShiftIsARegressionWhenItIsMoreThanChanceAndMoreThanMayBe(t *testing.T) {
	for _, c := range []struct {
		name          string
		older, newer  *result.Run
		limits        compare.Limits
		regression    bool
		significant   bool
		changed, note string
	}{
		{"alike", measured("embedded", 40, 30), measured("embedded", 40, 30), compare.UsualLimits(), false, false, "~", ""},
		{"twice as long", measured("embedded", 40, 30), measured("embedded", 80, 30), compare.UsualLimits(), true, true, "+100 % REGRESSION", ""},
		{"half as long", measured("embedded", 80, 30), measured("embedded", 40, 30), compare.UsualLimits(), false, true, "-50 %", ""},
		{"less than the threshold", measured("embedded", 40, 30), measured("embedded", 52, 30), compare.UsualLimits(), false, true, "+30 %", ""},
		{"with a lower threshold", measured("embedded", 40, 30), measured("embedded", 52, 30), compare.Limits{Threshold: 0.2, Alpha: 0.01}, true, true, "+30 % REGRESSION", ""},
		{"nobody wants it judged", measured("embedded", 40, 30), measured("embedded", 80, 30), compare.Limits{Threshold: -1, Alpha: 0.01}, false, true, "+100 %", ""},
		{"on another kind of cluster", measured("embedded", 40, 30), measured("kind", 80, 30), compare.UsualLimits(), false, true, "+100 %", ""},
		{"finer than the noise floor of one", measured("embedded", 4, 30), noisy(measured("embedded", 8, 30), 4.5), compare.UsualLimits(), false, true, "~ (finer than the noise floor)", ""},
		{"coarser than the noise floor", noisy(measured("embedded", 4, 30), 1), noisy(measured("embedded", 8, 30), 3.5), compare.UsualLimits(), true, true, "+100 % REGRESSION", ""},
		{"too few to tell", measured("embedded", 40, 2), measured("embedded", 80, 2), compare.UsualLimits(), false, false, "? (need >= 5 samples", "samples"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := compare.Runs(c.older, c.newer, c.limits)
			if err != nil || len(got.Shifts) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			s := got.Shifts[0]
			if s.Regression != c.regression || s.Significant != c.significant || !strings.Contains(s.Note, c.note) {
				t.Errorf("%+v", s)
			}
			for _, format := range compare.Formats() {
				var out strings.Builder
				if err := format.Write(&out, got); err != nil {
					t.Fatal(err)
				}
				if text := strings.ReplaceAll(out.String(), "&gt;", ">"); format.Name != "json" && !strings.Contains(text, c.changed) {
					t.Errorf("%s lacks %q:\n%s", format.Name, c.changed, text)
				}
			}
			if _, shifts := got.Worse(); shifts != map[bool]int{true: 1}[c.regression] {
				t.Errorf("%d shifts are worse", shifts)
			}
		})
	}
}

func TestWhatIsWorseIsToldFromWhatIsBetter(t *testing.T) {
	for _, c := range []struct {
		was, is string
		worse   int
	}{{"passed", "failed", 1}, {"passed", "inconclusive", 1}, {"inconclusive", "failed", 1}, {"failed", "passed", 0}, {"inconclusive", "passed", 0}} {
		got, err := compare.Runs(claims("old", "a="+c.was), claims("new", "a="+c.is), compare.UsualLimits())
		if err != nil {
			t.Fatal(err)
		}
		if worse, _ := got.Worse(); worse != c.worse {
			t.Errorf("from %s to %s: %d are worse, want %d", c.was, c.is, worse, c.worse)
		}
	}
}

func TestScenariosThatAppearAndVanishAreNamed(t *testing.T) {
	older, newer := claims("old", "a=passed"), claims("new", "a=passed")
	older.Scenarios = append(older.Scenarios, result.Scenario{Name: "gone"})
	newer.Scenarios = append(newer.Scenarios, result.Scenario{Name: "come"})
	got, err := compare.Runs(older, newer, compare.UsualLimits())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Appeared, []string{"come"}) || !reflect.DeepEqual(got.Vanished, []string{"gone"}) {
		t.Errorf("appeared %q, vanished %q", got.Appeared, got.Vanished)
	}
}
