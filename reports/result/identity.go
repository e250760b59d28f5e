package result

import (
	"fmt"
	"strings"
)

// Identity tells a claim from every other claim of a run, and is the same in
// every run of the same scenario: it is made of names only, not of positions,
// so that a label filter or a claim that was added in front changes nothing.
type Identity struct {
	Scenario string `json:"scenario"`
	Step     string `json:"step"`
	Claim    string `json:"claim"`
	Client   string `json:"client,omitempty"`
	Target   string `json:"target,omitempty"`
	Protocol string `json:"protocol,omitempty"`
}

// String is the identity in one line; what the claim's name already says of
// client, target and protocol is not said again.
func (i Identity) String() string {
	text := i.Scenario + " / " + i.Step + " / " + i.Claim
	for _, part := range []string{i.Client, i.Target, i.Protocol} {
		if part != "" && !strings.Contains(i.Claim, part) {
			return text + fmt.Sprintf(" (%s → %s over %s)", i.Client, i.Target, i.Protocol)
		}
	}
	return text
}

// Identify is the identity of one claim of a scenario's step.
func Identify(scenario *Scenario, step *Step, claim *Claim) Identity {
	return Identity{scenario.Name, step.Name, claim.Name, claim.Client, claim.Target, claim.Protocol}
}

// DuplicateError says that a run has two claims that cannot be told apart.
type DuplicateError struct {
	Identity Identity
	// Where the two stand.
	First, Second Source
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("two claims cannot be told apart: %s, at %s:%d and at %s:%d; give one another name",
		e.Identity, e.First.File, e.First.Line, e.Second.File, e.Second.Line)
}

// Index maps the identity of every claim of the run to the claim, and lists the
// identities in the order of the run. The error is a *DuplicateError.
func (r *Run) Index() (claims map[Identity]*Claim, order []Identity, err error) {
	claims = map[Identity]*Claim{}
	for i := range r.Scenarios {
		scenario := &r.Scenarios[i]
		for j := range scenario.Steps {
			step := &scenario.Steps[j]
			for k := range step.Claims {
				claim := &step.Claims[k]
				id := Identify(scenario, step, claim)
				if first, twice := claims[id]; twice {
					return nil, nil, &DuplicateError{id, first.Source, claim.Source}
				}
				claims[id] = claim
				order = append(order, id)
			}
		}
	}
	return claims, order, nil
}
