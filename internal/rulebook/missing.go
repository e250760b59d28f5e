package rulebook

import "github.com/meshproof/meshproof/scenarios"

// Missing lists the rules in scope that nothing can show: neither a claim in the
// set, other than one that the scenario itself skips, nor a test where claims
// cannot.
func Missing(set *scenarios.Set) []Rule {
	shown := scenarios.NewPlan(set, func(c *scenarios.PlannedClaim) bool { return c.Claim.Skip == "" }).Shown()
	var missing []Rule
	for _, rule := range Rules() {
		if rule.OutOfScope == "" && shown[rule.ID] == 0 && rule.Unseen == "" {
			missing = append(missing, rule)
		}
	}
	return missing
}
