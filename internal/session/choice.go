package session

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/scenarios"
)

// ChoiceFlags adds the flags that choose features, the same for the command line
// and the suites. What they leave out of a plan is skipped, with the reason.
func ChoiceFlags(flags *flag.FlagSet) *scenarios.Choice {
	c := &scenarios.Choice{Profile: scenarios.All}
	flags.Func("features", "judge these `features` only, separated by commas", listOf(&c.Only))
	flags.Func("exempt-features", "do not judge these `features`, separated by commas", listOf(&c.Exempt))
	flags.Func("profile", "`profile` whose features are judged: core, extended or all (default all)", func(text string) error {
		if !slices.Contains(c.Profile.Values(), text) {
			return fmt.Errorf("want one of %s", strings.Join(c.Profile.Values(), ", "))
		}
		c.Profile = scenarios.Profile(text)
		return nil
	})
	return c
}

// listOf reads a list. A flag that is given again adds to it.
func listOf(list *[]scenarios.Feature) func(string) error {
	return func(text string) error {
		for name := range strings.SplitSeq(text, ",") {
			name = strings.TrimSpace(name)
			if known := scenarios.Feature("").Values(); !slices.Contains(known, name) {
				return fmt.Errorf("%q is no feature: want some of %s", name, strings.Join(known, ", "))
			}
			*list = append(*list, scenarios.Feature(name))
		}
		return nil
	}
}
