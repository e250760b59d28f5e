package fuzz

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// twins has the twin of a scenario carried out too, and holds what was observed
// in the two against each other. The rules have no say in it.
func (f *Fuzz) twins(ctx context.Context, b bench, c *generate.Case, one *result.Scenario) error {
	if c.Twin == nil {
		return nil
	}
	twin, err := f.carry(ctx, b, c.Twin)
	if err != nil {
		return err
	}
	own := *c
	own.Scenario = c.Twin
	found := find(twin, &own)
	difference := unlike(one, twin)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(ctx, twin, &own)
	f.summary.Twins++
	switch {
	case found != nil:
		// By the rules one of the two is wrong: that says more.
	case ctx.Err() != nil:
		return nil
	case difference != "":
		found = &Finding{Kind: Unlike, Case: c, Step: -1, Claim: -1, Name: string(c.Law) + " changes nothing", Reason: difference}
	default:
		return nil
	}
	f.found(found)
	if found.Kind == Unlike && f.Dir != "" {
		found.File = filepath.Join(f.Dir, "scenarios", c.Twin.Metadata.Name, PlanFile)
	}
	return nil
}

// unlike says what clients saw of one world and not of the other, in the last step
// of each; empty when they saw the same.
func unlike(one, other *result.Scenario) string {
	if len(one.Steps) == 0 || len(other.Steps) == 0 {
		return ""
	}
	there := map[string]result.Claim{}
	for _, claim := range other.Steps[len(other.Steps)-1].Claims {
		there[claim.Name] = claim
	}
	var differences []string
	for _, claim := range one.Steps[len(one.Steps)-1].Claims {
		twin, both := there[claim.Name]
		if !both || claim.Client == "" || !judgedBoth(claim, twin) {
			continue
		}
		if a, b := saw(claim), saw(twin); a != b {
			differences = append(differences, fmt.Sprintf("%s: %s in one world, %s in the other", claim.Name, claim.Observed, twin.Observed))
		}
	}
	return strings.Join(differences, "; ")
}

func judgedBoth(a, b result.Claim) bool {
	judged := []result.Outcome{result.Passed, result.Failed}
	return slices.Contains(judged, a.Outcome) && slices.Contains(judged, b.Outcome)
}

// saw is what a client observed; the forms in which a connection is refused depend
// on what was under way, and count as one.
func saw(c result.Claim) string {
	word, _, _ := strings.Cut(c.Observed, " ")
	switch kind := clients.Kind(word); kind {
	case clients.Closed, clients.Reset, clients.Refused:
		return scenarios.Denied
	default:
		return word
	}
}
