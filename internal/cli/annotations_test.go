package cli

import (
	"slices"
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

// An annotation stands at the line of its claim. Claims about streams are written
// nowhere as such: theirs is the line of the expectation, or else of the step.
func TestEveryClaimPointsIntoItsStep(t *testing.T) {
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	windows := 0
	for _, s := range scenarios.NewPlan(set, nil).Scenarios {
		var begins []int // lines of steps; those of a template come several times
		for _, step := range s.Spec.Steps {
			begins = append(begins, step.Line)
		}
		slices.Sort(begins)
		begins = slices.Compact(begins)
		for _, step := range s.Steps {
			at := slices.Index(begins, step.Line)
			for _, claim := range step.Claims {
				if claim.Claim.Window != nil {
					windows++
				}
				if claim.Source.File != s.File || claim.Source.Line < step.Line || at+1 < len(begins) && claim.Source.Line >= begins[at+1] {
					t.Errorf("%s: %s points at %s, and its step begins at line %d", claim.ID, claim.Text(), claim.Source, step.Line)
				}
			}
		}
	}
	if windows == 0 {
		t.Error("there is no claim about a stream")
	}
}
