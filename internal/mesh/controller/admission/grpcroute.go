package admission

import (
	"fmt"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeGRPCRoute is A-29. Matches of headers are not looked at: the index tells
// about those that it cannot use.
func judgeGRPCRoute(r review, v *verdict) error {
	var spec api.GRPCRouteSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	for i, rule := range spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		for j, match := range rule.Matches {
			if method := match.Method; method != nil && method.Type != nil && *method.Type == api.MatchRegularExpression {
				v.refuse(fmt.Sprintf("%s.matches[%d].method.type", at, j), "is RegularExpression, want Exact")
			}
		}
		for j, filter := range rule.Filters {
			at := fmt.Sprintf("%s.filters[%d]", at, j)
			judgeModifier(at+".requestHeaderModifier", filter.RequestHeaderModifier, v)
			judgeModifier(at+".responseHeaderModifier", filter.ResponseHeaderModifier, v)
		}
		for j, backend := range rule.BackendRefs {
			judgeBackend(fmt.Sprintf("%s.backendRefs[%d]", at, j), backend.BackendReference, v)
		}
	}
	return nil
}
