package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2/types"

	"github.com/meshproof/meshproof/scenarios"
)

// Selection says which claims of a set are wanted.
type Selection struct {
	// Names of scenarios; none means all.
	Names []string
	// Labels is a filter in Ginkgo's expression language over the labels of
	// claims: those of the scenario, its name, and what the claim shows.
	Labels string
	// IDs are the claims wanted, by PlannedClaim.ID; nil means all.
	IDs map[string]bool
}

// Plan selects from a set. A name that no scenario has, or a filter that is not
// one, is an error about the input.
func Plan(set *scenarios.Set, selection Selection) (*scenarios.Plan, error) {
	for _, name := range selection.Names {
		if !slices.ContainsFunc(set.Scenarios, func(s *scenarios.Scenario) bool { return s.Metadata.Name == name }) {
			return nil, fmt.Errorf("no scenario is called %q: %s", name, scenarios.Suggest(name, names(set)))
		}
	}
	fits := func([]string) bool { return true }
	if strings.TrimSpace(selection.Labels) != "" {
		filter, err := types.ParseLabelFilter(selection.Labels)
		if err != nil {
			return nil, fmt.Errorf("the label filter %q is not one: %w", selection.Labels, err)
		}
		fits = filter
	}
	return scenarios.NewPlan(set, func(c *scenarios.PlannedClaim) bool {
		return (len(selection.Names) == 0 || slices.Contains(selection.Names, c.Scenario.Metadata.Name)) &&
			(selection.IDs == nil || selection.IDs[c.ID]) && fits(c.Labels)
	}), nil
}

func names(set *scenarios.Set) []string {
	var out []string
	for _, s := range set.Scenarios {
		out = append(out, s.Metadata.Name)
	}
	return out
}
