package index

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// NewHTTPRouteSpec reads an HTTPRoute of group policy.linkerd.io or of the Gateway
// API, as kind says. Where requests would be sent, and for how long, means
// nothing on a route of a Server.
func (c Config) NewHTTPRouteSpec(kind Kind, route *api.HTTPRoute) RouteSpec {
	group, _ := kind.GroupKind()
	spec := newRouteSpec(&route.ObjectMeta, route.Spec.ParentRefs, route.Spec.Hostnames, route.Status, group)
	for i, rule := range route.Spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		matches := rule.Matches
		if len(matches) == 0 {
			// The schema's default (C-28), for objects that were stored without.
			matches = []api.HTTPRouteMatch{{}}
		}
		var read HTTPRule
		for j, match := range matches {
			read.Matches = append(read.Matches, readHTTPMatch(fmt.Sprintf("%s.matches[%d]", at, j), match, &spec.Problems))
		}
		read.Filters = spec.readFilters(at+".filters", rule.Filters, c.Dialect)
		spec.HTTP = append(spec.HTTP, read)
	}
	return spec
}

func readHTTPMatch(field string, match api.HTTPRouteMatch, problems *Problems) HTTPMatch {
	read := HTTPMatch{
		Path:        readPath(field+".path", match.Path, problems),
		Headers:     readValues(field+".headers", match.Headers, true, problems),
		QueryParams: readValues(field+".queryParams", match.QueryParams, false, problems),
		Method:      string(valueOr(match.Method, "")),
	}
	return read
}

func readPath(field string, path *api.HTTPPathMatch, problems *Problems) PathMatch {
	if path == nil {
		path = &api.HTTPPathMatch{}
	}
	value := valueOr(path.Value, "/")
	read := PathMatch{Value: value}
	switch kind := valueOr(path.Type, api.MatchPathPrefix); kind {
	case api.MatchRegularExpression:
		read.Kind = Regex
		checkRegex(field+".value", value, problems)
		return read
	case api.MatchExact:
		read.Kind = Exact
	case api.MatchPathPrefix:
		read.Kind = Prefix
	default:
		problems.add(field+".type", fmt.Sprintf("%q is not one of %s, %s, %s", kind, api.MatchExact, api.MatchPathPrefix, api.MatchRegularExpression))
	}
	if !strings.HasPrefix(value, "/") {
		problems.add(field+".value", fmt.Sprintf("%q does not begin with /", value))
	}
	return read
}
