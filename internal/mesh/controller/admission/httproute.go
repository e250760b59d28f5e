package admission

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// judgeHTTPRoute is A-27, for policy.linkerd.io.
func judgeHTTPRoute(r review, v *verdict) error {
	var spec api.HTTPRouteSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	judgeHTTPRules(spec, v)
	for i, rule := range spec.Rules {
		for j, filter := range rule.Filters {
			judgeFilterBody(fmt.Sprintf("spec.rules[%d].filters[%d]", i, j), filter, v)
		}
	}
	judgeParentAnnotations(spec.ParentRefs, r.annotations, v)
	for i, parent := range spec.ParentRefs {
		// C-27: what the schema makes of a parent whose kind was left out.
		if parent.Group != nil && strings.EqualFold(*parent.Group, api.Group) && parent.Kind != nil && strings.EqualFold(*parent.Kind, "Gateway") {
			v.warn(fmt.Sprintf("spec.parentRefs[%d].kind", i), "is Gateway, as it is by default: the route is attached to nothing, want kind: Server")
		}
	}
	return nil
}

// judgeGatewayHTTPRoute is A-28. It does not ask for filters' bodies: that would
// be a spec which does not deserialise.
func judgeGatewayHTTPRoute(r review, v *verdict) error {
	var spec api.HTTPRouteSpec
	if err := r.read(&spec); err != nil {
		return err
	}
	judgeHTTPRules(spec, v)
	for i, rule := range spec.Rules {
		for j, backend := range rule.BackendRefs {
			judgeBackend(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), backend.BackendReference, v)
		}
	}
	judgeParentAnnotations(spec.ParentRefs, r.annotations, v)
	return nil
}

// judgeHTTPRules is what HTTPRoutes of both groups have in common.
func judgeHTTPRules(spec api.HTTPRouteSpec, v *verdict) {
	for i, rule := range spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		for j, match := range rule.Matches {
			judgeMatch(fmt.Sprintf("%s.matches[%d]", at, j), match, v)
		}
		for j, filter := range rule.Filters {
			judgeFilter(fmt.Sprintf("%s.filters[%d]", at, j), filter, v)
		}
		judgeTimeouts(at+".timeouts", rule.Timeouts, v)
	}
}

// judgeBackend is the part of about Services, whose kind and group
// may be left out.
func judgeBackend(at string, backend api.BackendReference, v *verdict) {
	group, name := service.group, service.name
	if backend.Group != nil {
		group = *backend.Group
	}
	if backend.Kind != nil {
		name = *backend.Kind
	}
	if service.is(group, name) && backend.Port == nil {
		v.refuse(at+".port", "is missing, and a Service needs one")
	}
}
