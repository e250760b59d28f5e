package fuzz

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// paperBench carries scenarios out on paper, with a mesh that follows other rules
// than those by which it is judged.
type paperBench struct{ mesh oracle.Rules }

func (b paperBench) Run(_ context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	res := &result.Scenario{Name: planned.Metadata.Name, Outcome: result.Passed}
	right, err := generate.Play(planned.Scenario, oracle.DefaultRules())
	if err == nil {
		var seen [][]generate.Answer
		if seen, err = generate.Play(planned.Scenario, b.mesh); err == nil {
			for i := range right {
				res.Steps = append(res.Steps, judged(planned.Steps[i], right[i], seen[i]))
			}
		}
	}
	if err != nil {
		res.Outcome, res.Reason = result.Error, err.Error()
	}
	return res
}

func (b paperBench) Try(ctx context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	return b.Run(ctx, planned)
}

// judged is the result of a step by what should have been seen and what was.
func judged(step scenarios.PlannedStep, right, seen []generate.Answer) result.Step {
	out := result.Step{Name: step.Name, Outcome: result.Passed}
	calls := 0
	for _, claim := range step.Claims {
		one := result.Claim{ID: claim.ID, Name: claim.Name, Outcome: result.Passed}
		if claim.Call != nil {
			want, got := right[calls], seen[calls]
			calls++
			one.Client = claim.Call.Client
			var expected []string
			for _, kind := range asked.Kinds(want.Verdict, want.Client, want.Request.Protocol) {
				expected = append(expected, string(kind))
			}
			one.Expected = strings.Join(expected, " or ")
			one.Observed = string(asked.Kinds(got.Verdict, got.Client, got.Request.Protocol)[0])
			if !slices.Contains(expected, one.Observed) {
				one.Outcome, out.Outcome = result.Failed, result.Failed
				one.Reason = fmt.Sprintf("expected %s, observed %s", one.Expected, one.Observed)
			}
		}
		out.Claims = append(out.Claims, one)
	}
	return out
}

func TestARightMeshHasNoFindings(t *testing.T) {
	f := New(Options{Seed: 5, Most: 20, KeepGoing: true})
	if err := f.run(context.Background(), paperBench{oracle.DefaultRules()}); err != nil {
		t.Fatal(err)
	}
	s := f.Summary()
	if len(f.Findings()) > 0 || s.Broken > 0 || s.Scenarios != 20+s.Twins || s.Edits < 20 {
		t.Errorf("%d findings: %+v", len(f.Findings()), s)
	}
}

// The figures that the smallest scenarios must reach.
const (
	mostObjects = 5
	mostSteps   = 3
)

func TestWhatANegatedRuleShowsIsFoundAndMadeSmall(t *testing.T) {
	for _, id := range []string{"X-04", "X-33", "H-19", "X-45", "X-72", "X-31", "X-48", "H-13", "X-11", "X-12", "C-09", "X-43"} {
		t.Run(id, func(t *testing.T) {
			tried := 0
			for _, negation := range oracle.Negations() {
				if negation.Rule != id || strings.Contains(negation.As, "raw") { // that is about the other dialect
					continue
				}
				tried++
				mesh := oracle.DefaultRules()
				negation.Apply(&mesh)
				f := New(Options{Seed: 11, Most: 250, Dir: t.TempDir()})
				if err := f.run(context.Background(), paperBench{mesh}); err != nil {
					t.Fatal(err)
				}
				if len(f.Findings()) == 0 {
					t.Errorf("%+v: %d scenarios did not show it", negation, f.Summary().Scenarios)
					continue
				}
				found := f.Findings()[slices.IndexFunc(f.Findings(), func(one *Finding) bool { return one.Small != nil })]
				size := generate.SizeOf(found.Small)
				t.Logf("scenario %d of %d: %s, %+v after %d attempts", found.Case.Index, f.Summary().Scenarios, found.Kind, size, found.Shrunk.Attempts)
				if size.Objects > mostObjects || size.Steps > mostSteps || found.Shrunk.Again != found.Shrunk.Of {
					t.Errorf("it was made no smaller than %+v, and recurred %d of %d times", size, found.Shrunk.Again, found.Shrunk.Of)
				}
			}
			if tried == 0 {
				t.Skipf("nobody negates %s", id)
			}
		})
	}
}

// turningBench agrees with whatever it is asked, and shows twins another world:
// then only the law tells that something is wrong.
type turningBench struct{ other oracle.Rules }

func (b turningBench) Run(_ context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	rules := oracle.DefaultRules()
	if strings.HasSuffix(planned.Metadata.Name, "-twin") {
		rules = b.other
	}
	res := &result.Scenario{Name: planned.Metadata.Name, Outcome: result.Passed}
	answers, err := generate.Play(planned.Scenario, rules)
	if err != nil {
		res.Outcome, res.Reason = result.Error, err.Error()
		return res
	}
	for i := range answers {
		res.Steps = append(res.Steps, judged(planned.Steps[i], answers[i], answers[i]))
	}
	return res
}

func (b turningBench) Try(ctx context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	return b.Run(ctx, planned)
}

func TestTwoWorldsThatMustLookTheSameAreHeldAgainstEachOther(t *testing.T) {
	mesh := oracle.DefaultRules()
	mesh.Suffices = func(int) bool { return false } // nothing is ever granted
	f := New(Options{Seed: 5, Most: 60, KeepGoing: true, Dir: t.TempDir()})
	if err := f.run(context.Background(), turningBench{mesh}); err != nil {
		t.Fatal(err)
	}
	found := f.Findings()
	if len(found) == 0 || f.Summary().Twins == 0 {
		t.Fatalf("%d twins, %d findings", f.Summary().Twins, len(found))
	}
	for _, one := range found {
		if one.Kind != Unlike || !strings.Contains(one.Reason, "in one world") {
			t.Errorf("found %s", one)
		}
	}
}

// endlessBench finds a leak in the scenarios of one number, and takes for ever with
// the others after their first edit.
type endlessBench struct{ leaking string }

func (b endlessBench) Run(ctx context.Context, planned *scenarios.PlannedScenario) *result.Scenario {
	claim := func(outcome result.Outcome) []result.Claim {
		return []result.Claim{{Client: "alice", Outcome: outcome, Expected: string(clients.Forbidden), Observed: string(clients.Allowed)}}
	}
	res := &result.Scenario{Name: planned.Metadata.Name, Outcome: result.Failed, Steps: []result.Step{{Claims: claim(result.Passed)}, {Claims: claim(result.Passed)}}}
	if planned.Metadata.Name == b.leaking {
		res.Steps[1].Claims = claim(result.Failed)
		return res
	}
	<-ctx.Done()
	res.Outcome, res.Steps = result.Inconclusive, append(res.Steps, result.Step{Claims: append(claim(result.Passed), claim(result.Skipped)...)})
	return res
}

func (b endlessBench) Try(context.Context, *scenarios.PlannedScenario) *result.Scenario {
	return &result.Scenario{Outcome: result.Passed}
}

func TestAFindingOfOneCallEndsWhatIsUnderWay(t *testing.T) {
	f := New(Options{Seed: 3, Parallel: 4, Dir: t.TempDir()})
	if err := f.run(context.Background(), endlessBench{"g2"}); err != nil {
		t.Fatal(err)
	}
	if found := f.Findings(); len(found) != 1 || found[0].Kind != Leak {
		t.Errorf("found %v, want one leak", found)
	}
	edits := 0
	for index := range f.Summary().Scenarios {
		c, err := generate.New(3, index)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Transitions) > 0 { // with a twin there are none
			edits += len(c.Transitions[0]) // the second was not judged to its end
		}
	}
	if s := f.Summary(); s.Edits != edits || s.Inconclusive != 0 || s.Broken != 0 {
		t.Errorf("%+v, want %d edits", s, edits)
	}
	if len(f.results) != 1 {
		t.Errorf("%d scenarios are in the result, and one has an outcome", len(f.results))
	}
}
