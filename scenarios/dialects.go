package scenarios

import (
	"fmt"
	"slices"
	"strings"
)

// For reports whether something that is for these dialects is for the one; what
// names none is for all.
func (d Dialect) For(dialects []Dialect) bool {
	return len(dialects) == 0 || slices.Contains(dialects, d)
}

// ForDialect skips the claims of the plan that are for other dialects, with the
// reason. Who carries the plan out leaves out the actions that are for others.
func (p *Plan) ForDialect(dialect Dialect) {
	for _, scenario := range p.Scenarios {
		for _, step := range scenario.Steps {
			for _, claim := range step.Claims {
				for _, only := range [][]Dialect{scenario.Spec.Dialects, step.Dialects, claim.Claim.Dialects} {
					if claim.Skip == "" && !dialect.For(only) {
						claim.Skip = fmt.Sprintf("it is for the dialect %s, and the mesh speaks %s", names(only), dialect)
					}
				}
			}
		}
	}
}

func names(dialects []Dialect) string {
	var out []string
	for _, d := range dialects {
		out = append(out, string(d))
	}
	return strings.Join(out, " or ")
}
