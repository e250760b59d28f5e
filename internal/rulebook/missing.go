package rulebook

import "github.com/meshproof/meshproof/scenarios"

// Missing lists the rules in scope for which there is neither a claim in the set,
// other than one that the scenario itself skips, nor a test.
func Missing(set *scenarios.Set) []Rule {
	shown := scenarios.NewPlan(set, func(c *scenarios.PlannedClaim) bool { return c.Claim.Skip == "" }).Shown()
	var missing []Rule
	for _, rule := range Rules() {
		if rule.OutOfScope == "" && shown[rule.ID] == 0 && len(rule.Tests) == 0 {
			missing = append(missing, rule)
		}
	}
	return missing
}
