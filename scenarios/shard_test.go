package scenarios

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// anyPlan makes up a plan whose scenarios share namespaces and turns.
func anyPlan(random *rand.Rand) *Plan {
	plan := &Plan{}
	for i := range random.IntN(25) {
		s := &Scenario{Metadata: Metadata{Name: fmt.Sprintf("s%02d", i)}}
		s.Spec.Serial = random.IntN(5) == 0
		if random.IntN(4) == 0 {
			s.Spec.Namespace = fmt.Sprintf("n%d", random.IntN(3))
		}
		for range random.IntN(3) {
			s.Spec.Namespaces = append(s.Spec.Namespaces, Namespace{Name: fmt.Sprintf("n%d", random.IntN(6)), Exact: random.IntN(2) == 0})
		}
		planned := &PlannedScenario{Scenario: s}
		for j := range 1 + random.IntN(3) {
			step := PlannedStep{Step: &Step{Name: fmt.Sprintf("step %d", j)}}
			for k := range 1 + random.IntN(30) {
				step.Claims = append(step.Claims, &PlannedClaim{ID: fmt.Sprintf("%s.%d.%d", s.Metadata.Name, j, k), Scenario: s, Step: step.Step, Name: fmt.Sprint(k)})
			}
			planned.Steps = append(planned.Steps, step)
		}
		plan.Scenarios = append(plan.Scenarios, planned)
	}
	return plan
}

func ids(plan *Plan) []string {
	var all []string
	for _, claim := range plan.Claims() {
		all = append(all, claim.ID)
	}
	return all
}

// exact are the namespaces that the scenario shares with others.
func exact(s *Scenario) []string {
	var all []string
	if s.Spec.Namespace != "" {
		all = append(all, s.Spec.Namespace)
	}
	for _, n := range s.Spec.Namespaces {
		if n.Exact {
			all = append(all, n.Name)
		}
	}
	return all
}

const anyPlans = 300

func TestShardsAreThePlanInParts(t *testing.T) {
	for seed := range uint64(anyPlans) {
		random := rand.New(rand.NewPCG(seed, 1))
		plan := anyPlan(random)
		count := 1 + random.IntN(8)
		if random.IntN(10) == 0 {
			count = len(plan.Scenarios) + 3
		}
		seen, serial, owner := map[string]int{}, -1, map[string]int{}
		for index := range count {
			part := Shard(plan, index, count)
			for _, id := range ids(part) {
				if other, twice := seen[id]; twice {
					t.Fatalf("seed %d: %s is in parts %d and %d of %d", seed, id, other, index, count)
				}
				seen[id] = index
			}
			for _, s := range part.Scenarios {
				if s.Spec.Serial {
					if serial >= 0 && serial != index {
						t.Fatalf("seed %d: parts %d and %d both have serial scenarios", seed, serial, index)
					}
					serial = index
				}
				for _, name := range exact(s.Scenario) {
					if other, known := owner[name]; known && other != index {
						t.Fatalf("seed %d: parts %d and %d both use namespace %s", seed, other, index, name)
					}
					owner[name] = index
				}
			}
			if !slices.IsSortedFunc(part.Scenarios, func(a, b *PlannedScenario) int {
				return slices.Index(plan.Scenarios, a) - slices.Index(plan.Scenarios, b)
			}) {
				t.Fatalf("seed %d: part %d is not in the plan's order", seed, index)
			}
		}
		if len(seen) != len(plan.Claims()) {
			t.Fatalf("seed %d: %d of %d claims are in some part", seed, len(seen), len(plan.Claims()))
		}
	}
}

// The order of files differs between machines; the parts must not.
func TestShardsDependOnNamesAlone(t *testing.T) {
	for seed := range uint64(anyPlans) {
		random := rand.New(rand.NewPCG(seed, 2))
		plan := anyPlan(random)
		shuffled := &Plan{Scenarios: slices.Clone(plan.Scenarios)}
		random.Shuffle(len(shuffled.Scenarios), func(i, j int) {
			shuffled.Scenarios[i], shuffled.Scenarios[j] = shuffled.Scenarios[j], shuffled.Scenarios[i]
		})
		count := 1 + random.IntN(6)
		for index := range count {
			want, got := ids(Shard(plan, index, count)), ids(Shard(shuffled, index, count))
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(want, got) {
				t.Fatalf("seed %d: part %d of %d depends on the order: %v and %v", seed, index, count, want, got)
			}
		}
	}
}

func TestShardsHaveAboutTheSameNumberOfClaims(t *testing.T) {
	for seed := range uint64(anyPlans) {
		random := rand.New(rand.NewPCG(seed, 3))
		plan := anyPlan(random)
		count := 1 + random.IntN(5)
		largest := 0
		for _, g := range together(plan) {
			largest = max(largest, g.claims)
		}
		var loads []int
		for index := range count {
			loads = append(loads, len(Shard(plan, index, count).Claims()))
		}
		// Whoever got the last group had least before.
		if spread := slices.Max(loads) - slices.Min(loads); spread > largest {
			t.Errorf("seed %d: parts of %v claims, and the largest group has %d", seed, loads, largest)
		}
	}
}

func TestMoreShardsThanScenariosLeavesSomeEmpty(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	plan := NewPlan(set, nil)
	count, claims, empty := len(plan.Scenarios)+5, 0, 0
	for index := range count {
		part := Shard(plan, index, count)
		claims += len(part.Claims())
		if len(part.Scenarios) == 0 {
			empty++
		}
	}
	if claims != len(plan.Claims()) || empty < 5 {
		t.Errorf("%d of %d claims, %d empty parts", claims, len(plan.Claims()), empty)
	}
}

// Runs are compared and merged claim by claim, so names must tell them apart.
func TestNamesTellTheClaimsOfTheLibraryApart(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	type name struct{ scenario, step, claim, client, target, protocol string }
	seen := map[name]Pos{}
	for _, c := range NewPlan(set, nil).Claims() {
		n := name{scenario: c.Scenario.Metadata.Name, step: c.Step.Name, claim: c.Name}
		if c.Call != nil {
			n.client, n.target, n.protocol = c.Call.Client, c.Call.Target, string(c.Call.Protocol)
		}
		if first, twice := seen[n]; twice {
			t.Errorf("%s and %s: two claims are %+v", first, c.Source, n)
		}
		seen[n] = c.Source
	}
}

func TestADigestTellsPlansApart(t *testing.T) {
	set, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	all := NewPlan(set, nil)
	if again := NewPlan(set, nil); again.Digest() != all.Digest() {
		t.Error("the same plan has two digests")
	}
	if part := Shard(all, 0, 2); part.Digest() == all.Digest() {
		t.Error("a part has the digest of the whole")
	}
}
