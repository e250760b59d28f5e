package merge_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/reports/merge"
	"github.com/meshproof/meshproof/reports/result"
)

// scenario makes a scenario of one step with claims of those outcomes.
func scenario(name string, outcomes ...result.Outcome) result.Scenario {
	step := result.Step{Name: "step"}
	for i, outcome := range outcomes {
		step.Claims = append(step.Claims, result.Claim{Name: fmt.Sprint("claim ", i), Outcome: outcome})
	}
	return result.Scenario{Name: name, Outcome: result.Passed, Source: result.Source{File: name + ".yaml", Line: 1}, Steps: []result.Step{step}}
}

func run(id string, scenarios ...result.Scenario) *result.Run {
	r := &result.Run{SchemaVersion: result.SchemaVersion, ID: id, Seed: 7, Scenarios: scenarios, Started: time.Unix(0, 0).UTC(), Finished: time.Unix(60, 0).UTC()}
	r.Conclude(nil, false)
	return r
}

// shard makes part index of count of a plan with that many claims.
func shard(index, count, claims int, scenarios ...result.Scenario) *result.Run {
	r := run(fmt.Sprint("r", index), scenarios...)
	r.Shard = &result.Shard{Group: "job", Index: index, Count: count, Plan: "plan", Claims: claims}
	r.Reason = ""
	r.Conclude(nil, false)
	return r
}

const passed, failed, inconclusive, skipped = result.Passed, result.Failed, result.Inconclusive, result.Skipped

// in gives a run an end of its own.
func in(r *result.Run, outcome result.Outcome, code int, reason string) *result.Run {
	r.Outcome, r.ExitCode, r.Reason = outcome, code, reason
	return r
}

func TestTheVerdictFollowsFromTheClaimsOfAllParts(t *testing.T) {
	for _, c := range []struct {
		name    string
		runs    []*result.Run
		outcome result.Outcome
		code    int
		reason  string
	}{
		{"all pass", []*result.Run{shard(1, 2, 2, scenario("a", passed)), shard(2, 2, 2, scenario("b", passed))}, passed, 0, ""},
		{"in any order", []*result.Run{shard(2, 2, 2, scenario("b", passed)), shard(1, 2, 2, scenario("a", passed))}, passed, 0, ""},
		{"one part fails", []*result.Run{shard(1, 2, 2, scenario("a", passed)), shard(2, 2, 2, scenario("b", failed))}, failed, 1, ""},
		{"one part could not tell", []*result.Run{shard(1, 2, 2, scenario("a", passed)), shard(2, 2, 2, scenario("b", inconclusive))}, inconclusive, 2, ""},
		{"an empty part is no failure", []*result.Run{shard(1, 2, 1, scenario("a", passed)), shard(2, 2, 1)}, passed, 0, ""},
		{"nor is one that had to skip everything", []*result.Run{shard(1, 2, 2, scenario("a", passed)), shard(2, 2, 2, scenario("b", skipped))}, passed, 0, ""},
		{"but nothing at all is not enough", []*result.Run{shard(1, 2, 2, scenario("a", skipped)), shard(2, 2, 2, scenario("b", skipped))}, inconclusive, 2, "nothing was judged"},
		{"a part that could not be set up", []*result.Run{shard(1, 2, 2, scenario("a", passed)), in(shard(2, 2, 2, scenario("b", skipped)), result.Error, 3, "no cluster")},
			result.Error, 3, "shard 2 of 2: no cluster"},
		{"two parts that could not for the same reason", []*result.Run{in(shard(1, 3, 3, scenario("a", skipped)), result.Error, 3, "no cluster"), in(shard(2, 3, 3, scenario("b", skipped)), result.Error, 3, "slow"),
			in(shard(3, 3, 3, scenario("c", skipped)), result.Error, 3, "no cluster")}, result.Error, 3, "shard 1 of 3, shard 3 of 3: no cluster; shard 2 of 3: slow"},
		{"a part with bad input", []*result.Run{shard(1, 2, 2, scenario("a", passed)), in(shard(2, 2, 2, scenario("b", skipped)), result.Error, 4, "no such port")},
			result.Error, 4, "shard 2 of 2: no such port"},
		{"a bug of ours", []*result.Run{in(shard(1, 2, 2, scenario("a", skipped)), result.Error, 4, "no such port"), in(shard(2, 2, 2, scenario("b", skipped)), result.Error, 70, "what")},
			result.Error, 70, "shard 2 of 2: what"},
		{"a finding weighs more than trouble elsewhere", []*result.Run{shard(1, 2, 2, scenario("a", failed)), in(shard(2, 2, 2, scenario("b", skipped)), result.Error, 3, "no cluster")},
			failed, 1, "shard 2 of 2: no cluster"},
		{"a part that was ended", []*result.Run{shard(1, 2, 2, scenario("a", passed)), in(shard(2, 2, 2, scenario("b", skipped)), inconclusive, 143, "terminated")},
			inconclusive, 143, "shard 2 of 2: terminated"},
		{"a finding and a part that was ended", []*result.Run{shard(1, 2, 2, scenario("a", failed)), in(shard(2, 2, 2, scenario("b", skipped)), inconclusive, 143, "terminated")},
			failed, 143, "shard 2 of 2: terminated"},
		{"a part is missing", []*result.Run{shard(1, 3, 3, scenario("a", passed)), shard(3, 3, 3, scenario("b", passed))}, result.Error, 3, "shard 2 of 3 is missing"},
		{"one is missing, one was ended", []*result.Run{shard(1, 3, 3, scenario("a", passed)), in(shard(3, 3, 3, scenario("b", skipped)), inconclusive, 143, "terminated")},
			result.Error, 3, "shard 2 of 3 is missing; shard 3 of 3: terminated"},
		{"a part has lost claims", []*result.Run{shard(1, 2, 3, scenario("a", passed)), shard(2, 2, 3, scenario("b", passed))}, result.Error, 3, "the shards have 2 of the plan's 3 claims"},
		{"runs that are no parts", []*result.Run{run("x", scenario("a", passed)), run("y", scenario("b", passed))}, passed, 0, ""},
		{"a single one", []*result.Run{run("x", scenario("a", failed))}, failed, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := merge.Runs("merged", c.runs...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome != c.outcome || got.ExitCode != c.code || !strings.Contains(got.Reason, c.reason) || (c.reason == "") != (got.Reason == "") {
				t.Errorf("%s, exit code %d, %q; want %s, %d, %q", got.Outcome, got.ExitCode, got.Reason, c.outcome, c.code, c.reason)
			}
			if missing := len(merge.Missing(got)); missing != strings.Count(c.reason, "is missing") {
				t.Errorf("%d parts are missing", missing)
			}
			if len(got.Parts) != len(c.runs) || got.Shard != nil {
				t.Errorf("parts %v, shard %v", got.Parts, got.Shard)
			}
		})
	}
}

func TestRunsThatAreNotPartsOfOneAreRefused(t *testing.T) {
	other := func(change func(*result.Shard)) *result.Run {
		r := shard(2, 2, 2, scenario("b", passed))
		change(r.Shard)
		return r
	}
	one := shard(1, 2, 2, scenario("a", passed))
	for _, c := range []struct {
		name string
		runs []*result.Run
		want string
	}{
		{"none", nil, "no run"},
		{"the same part twice", []*result.Run{one, shard(1, 2, 2, scenario("b", passed))}, "are both shard 1 of 2"},
		{"the same scenario twice", []*result.Run{run("x", scenario("a", passed)), run("y", scenario("a", passed))}, "scenario a is in run x and in run y"},
		{"of another plan", []*result.Run{one, other(func(s *result.Shard) { s.Plan = "another" })}, "different plans"},
		{"of another number", []*result.Run{one, other(func(s *result.Shard) { s.Count = 3 })}, "shard 2 of 3"},
		{"of another run", []*result.Run{one, other(func(s *result.Shard) { s.Group = "another" })}, "different runs"},
		{"a part and a run", []*result.Run{one, run("x", scenario("b", passed))}, "another run is none"},
		{"a part that cannot be", []*result.Run{other(func(s *result.Shard) { s.Index = 3 })}, "shard 3 of 2"},
	} {
		_, err := merge.Runs("merged", c.runs...)
		var mismatch *merge.MismatchError
		if !errors.As(err, &mismatch) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	twice := scenario("a", passed, passed)
	twice.Steps[0].Claims[1].Name = twice.Steps[0].Claims[0].Name
	_, err := merge.Runs("merged", run("x", twice))
	var duplicate *result.DuplicateError
	if !errors.As(err, &duplicate) {
		t.Errorf("two claims of one name: %v", err)
	}
}

// However a run is cut, its parts merge to the same claims and verdict.
func TestPartsMergeToTheWhole(t *testing.T) {
	outcomes := []result.Outcome{passed, passed, passed, failed, inconclusive, skipped}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		var all []result.Scenario
		kinds := outcomes[:1+random.IntN(len(outcomes))]
		for i := range 1 + random.IntN(10) {
			var claims []result.Outcome
			for range 1 + random.IntN(5) {
				claims = append(claims, kinds[random.IntN(len(kinds))])
			}
			all = append(all, scenario(fmt.Sprint("s", i), claims...))
		}
		whole := run("whole", all...)
		count := 1 + random.IntN(5)
		in := make([][]result.Scenario, count)
		for _, s := range all {
			at := random.IntN(count)
			in[at] = append(in[at], s)
		}
		var parts []*result.Run
		for i := range count {
			parts = append(parts, shard(i+1, count, whole.Summary.Total, in[i]...))
		}
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		got, err := merge.Runs("whole", parts...)
		if err != nil {
			t.Fatal(err)
		}
		got.Parts, got.Timings = nil, nil
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Fatalf("seed %d: the parts are not the whole (-whole +merged):\n%s", seed, diff)
		}
	}
}

func TestFiguresAreMergedOnlyWhereThatIsTrue(t *testing.T) {
	one, two := shard(1, 2, 0), shard(2, 2, 0)
	one.Figures = []result.Figure{{Name: "write, p99", Unit: "ms", N: 10, Value: 5, Target: 200}, {Name: "write, max", Unit: "ms", N: 10, Value: 9}, {Name: "window", Unit: "ms", N: 3, Value: 1}}
	two.Figures = []result.Figure{{Name: "write, p99", Unit: "ms", N: 20, Value: 7, Target: 200}, {Name: "write, max", Unit: "ms", N: 20, Value: 8}}
	got, err := merge.Runs("merged", one, two)
	if err != nil {
		t.Fatal(err)
	}
	want := []result.Figure{{Name: "shard 1 of 2: write, p99", Unit: "ms", N: 10, Value: 5, Target: 200}, {Name: "write, max", Unit: "ms", N: 30, Value: 9},
		{Name: "window", Unit: "ms", N: 3, Value: 1}, {Name: "shard 2 of 2: write, p99", Unit: "ms", N: 20, Value: 7, Target: 200}}
	if diff := cmp.Diff(want, got.Figures); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if one.Figures[1].N != 10 {
		t.Error("the part was changed")
	}
}

func TestClockAndSeedCoverAllParts(t *testing.T) {
	one, two := shard(1, 2, 0), shard(2, 2, 0)
	one.Started, two.Finished, two.Seed = time.Unix(10, 0).UTC(), time.Unix(90, 0).UTC(), 8
	two.Started = time.Unix(5, 0).UTC()
	got, err := merge.Runs("merged", one, two)
	if err != nil {
		t.Fatal(err)
	}
	if got.Started.Unix() != 5 || got.Finished.Unix() != 90 || got.Seed != 0 || got.Parts[1].Seed != 8 {
		t.Errorf("%v to %v, seed %d, parts %+v", got.Started, got.Finished, got.Seed, got.Parts)
	}
}

func TestTheTimeOfPartsIsThatOfOneAfterTheOther(t *testing.T) {
	one, other := shard(1, 2, 2, scenario("a", passed)), shard(2, 2, 2, scenario("b", passed))
	one.WallTime = []result.Spent{{On: "mesh", Seconds: 2}, {On: "pods", Seconds: 3, Work: 9}}
	other.WallTime = []result.Spent{{On: "cluster", Seconds: 1}, {On: "pods", Seconds: 4, Work: 5}}
	one.Noise, other.Noise = &result.Noise{Floor: 3}, &result.Noise{Floor: 2}
	merged, err := merge.Runs("m", other, one)
	if err != nil {
		t.Fatal(err)
	}
	if merged.Noise == nil || merged.Noise.Floor != 3 {
		t.Errorf("noise %+v, want that of the noisier part", merged.Noise)
	}
	want := []result.Spent{{On: "mesh", Seconds: 2}, {On: "pods", Seconds: 7, Work: 14}, {On: "cluster", Seconds: 1}}
	if d := cmp.Diff(want, merged.WallTime); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if one.WallTime[1].Seconds != 3 {
		t.Error("a part was changed")
	}
}
