package scenarios

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Shard is part index (from 0) of count parts of the plan. The parts depend on
// names and numbers of claims only: whoever splits the same plan, on whatever
// machine, gets the same parts, each claim in exactly one of them.
//
// Scenarios stay whole, in the order of the plan. Those that take turns anyway
// stay together, since they would wait for each other from different machines:
// those that use the same exact namespace, and all serial ones. Within that
// the parts have about the same number of claims. With more parts than there
// are such groups some parts are empty.
func Shard(plan *Plan, index, count int) *Plan {
	if count < 1 || index < 0 || index >= count {
		panic(fmt.Sprintf("scenarios: part %d of %d parts", index, count)) // the flag's parser has refused it
	}
	part := &Plan{Set: plan.Set}
	of := shards(plan, count)
	for i, scenario := range plan.Scenarios {
		if of[i] == index {
			part.Scenarios = append(part.Scenarios, scenario)
		}
	}
	return part
}

// shards says for each scenario of the plan which part it is in.
func shards(plan *Plan, count int) []int {
	groups := together(plan)
	// The largest group goes first, each to the part that has least; what is
	// equal is ordered by name, never by place in the plan.
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.claims, a.claims), cmp.Compare(a.name, b.name))
	})
	of, load := make([]int, len(plan.Scenarios)), make([]int, count)
	for _, g := range groups {
		least := 0
		for part := range load {
			if load[part] < load[least] {
				least = part
			}
		}
		load[least] += g.claims
		for _, i := range g.members {
			of[i] = least
		}
	}
	return of
}

// group is scenarios that must be in the same part.
type group struct {
	// name is the first of its scenarios' names.
	name    string
	members []int
	claims  int
}

// together finds the groups: scenarios that share a turn, also by way of a
// third, are in one.
func together(plan *Plan) []group {
	leader := make([]int, len(plan.Scenarios))
	find := func(i int) int {
		for leader[i] != i {
			i = leader[i]
		}
		return i
	}
	first := map[string]int{}
	for i, scenario := range plan.Scenarios {
		leader[i] = i
		for _, turn := range turns(scenario.Scenario) {
			if j, known := first[turn]; known {
				leader[find(i)] = find(j)
			} else {
				first[turn] = i
			}
		}
	}
	at := map[int]int{}
	var groups []group
	for i, scenario := range plan.Scenarios {
		l := find(i)
		if _, known := at[l]; !known {
			at[l] = len(groups)
			groups = append(groups, group{name: scenario.Metadata.Name})
		}
		g := &groups[at[l]]
		g.name = min(g.name, scenario.Metadata.Name)
		g.members = append(g.members, i)
		for _, step := range scenario.Steps {
			g.claims += len(step.Claims)
		}
	}
	return groups
}

// turns are what the scenario uses that only one scenario can use at a time.
func turns(s *Scenario) []string {
	var turns []string
	if s.Spec.Serial {
		turns = append(turns, "serial")
	}
	if s.Spec.Namespace != "" {
		turns = append(turns, "namespace/"+s.Spec.Namespace)
	}
	for _, n := range s.Spec.Namespaces {
		if n.Exact {
			turns = append(turns, "namespace/"+n.Name)
		}
	}
	return turns
}

// Digest tells plans apart that do not claim the same: parts of one plan come
// from plans of the same digest.
func (p *Plan) Digest() string {
	hash := sha256.New()
	for _, claim := range p.Claims() {
		fmt.Fprintf(hash, "%s\n%s\n%s\n", claim.ID, claim.Step.Name, claim.Name)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
