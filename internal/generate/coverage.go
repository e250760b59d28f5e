package generate

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// Coverage counts what generated scenarios come to on paper: it shows whether
// generation reaches what it leans to. The zero value counts nothing yet.
type Coverage struct {
	Scenarios, Steps, Edits, Calls int
	// Turned are calls of which something else became by a step.
	Turned int
	// Rules that stand in the chains of reasons, by whether they held.
	Rules map[string]Held
	// Transitions and Outcomes by how often there was one.
	Transitions map[Transition]int
	Outcomes    map[oracle.Outcome]int
	Clients     map[scenarios.ClientKind]int
	Protocols   map[scenarios.Protocol]int
	Laws        map[Law]int
	// Flowing scenarios are called all the time.
	Flowing int
}

// Held is how often a rule was found to hold, and not to.
type Held struct{ Yes, No int }

// Add plays a scenario on paper and counts.
func (c *Coverage) Add(one *Case) error {
	if c.Rules == nil {
		c.Rules, c.Transitions, c.Outcomes = map[string]Held{}, map[Transition]int{}, map[oracle.Outcome]int{}
		c.Clients, c.Protocols, c.Laws = map[scenarios.ClientKind]int{}, map[scenarios.Protocol]int{}, map[Law]int{}
	}
	s := one.Scenario
	c.Scenarios++
	if len(s.Spec.Traffic) > 0 {
		c.Flowing++
	}
	if one.Law != "" {
		c.Laws[one.Law]++
	}
	for _, client := range s.Spec.Clients {
		c.Clients[client.Kind]++
	}
	for _, step := range one.Transitions {
		for _, t := range step {
			c.Edits++
			c.Transitions[t]++
		}
	}
	played, err := Play(s, oracle.DefaultRules())
	if err != nil {
		return err
	}
	for i, answers := range played {
		c.Steps++
		if i > 0 {
			c.Turned += turned(played[i-1], answers)
		}
		for _, one := range answers {
			c.Calls++
			c.Outcomes[one.Verdict.Outcome]++
			c.Protocols[one.Call.Protocol]++
			for _, reason := range one.Verdict.Steps {
				held := c.Rules[reason.Rule]
				if reason.Holds {
					held.Yes++
				} else {
					held.No++
				}
				c.Rules[reason.Rule] = held
			}
		}
	}
	return nil
}

// callsOf are the calls that the claims of a step make.
func callsOf(step *scenarios.Step) []*scenarios.Call {
	var out []*scenarios.Call
	for i := range step.Claims {
		if m := step.Claims[i].Matrix; m != nil {
			out = append(out, m.Calls()...)
		}
	}
	return out
}

// Write prints the counts, each kind of them sorted.
func (c *Coverage) Write(w io.Writer) {
	fmt.Fprintf(w, "%d scenarios (%d with traffic), %d steps, %d edits, %d calls, %d turned by an edit\n", c.Scenarios, c.Flowing, c.Steps, c.Edits, c.Calls, c.Turned)
	counts(w, "outcome", c.Outcomes)
	counts(w, "transition", c.Transitions)
	counts(w, "client", c.Clients)
	counts(w, "protocol", c.Protocols)
	counts(w, "law", c.Laws)
	for _, rule := range slices.Sorted(maps.Keys(c.Rules)) {
		fmt.Fprintf(w, "rule %s held %d times, did not %d times\n", rule, c.Rules[rule].Yes, c.Rules[rule].No)
	}
}

func counts[K ~string](w io.Writer, what string, of map[K]int) {
	for _, key := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintf(w, "%s %s: %d\n", what, key, of[key])
	}
}
