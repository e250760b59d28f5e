package index

import (
	"fmt"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// NewGRPCRouteSpec reads a GRPCRoute of the Gateway API.
func (c Config) NewGRPCRouteSpec(route *api.GRPCRoute) RouteSpec {
	spec := newRouteSpec(&route.ObjectMeta, route.Spec.ParentRefs, route.Spec.Hostnames, route.Status, api.GatewayGroup)
	for i, rule := range route.Spec.Rules {
		at := fmt.Sprintf("spec.rules[%d]", i)
		var read GRPCRule
		for j, match := range rule.Matches {
			read.Matches = append(read.Matches, c.readGRPCMatch(fmt.Sprintf("%s.matches[%d]", at, j), match, &spec.Problems))
		}
		if len(rule.Matches) == 0 {
			read.Matches = []GRPCMatch{{RPC: &RPCMatch{}}}
		}
		for j, filter := range rule.Filters {
			if at := fmt.Sprintf("%s.filters[%d]", at, j); filter.Type == api.FilterRequestHeaderModifier {
				read.Filters = append(read.Filters, spec.readHeaders(at, filter.RequestHeaderModifier)...)
			} else {
				spec.readOther(at, filter.Type)
			}
		}
		spec.GRPC = append(spec.GRPC, read)
	}
	return spec
}

// readGRPCMatch reads a match. One that says nothing of the method is for all
// methods; Linkerd tells proxies nothing of it either, which they refuse.
func (c Config) readGRPCMatch(field string, match api.GRPCRouteMatch, problems *Problems) GRPCMatch {
	read := GRPCMatch{Headers: readValues(field+".headers", match.Headers, true, problems)}
	switch method := match.Method; {
	case method != nil:
		if kind := valueOr(method.Type, api.MatchExact); kind != api.MatchExact {
			problems.add(field+".method.type", fmt.Sprintf("%q is not %s", kind, api.MatchExact))
		}
		read.RPC = &RPCMatch{Service: valueOr(method.Service, ""), Method: valueOr(method.Method, "")}
	case c.Dialect.QuirksRepaired:
		read.RPC = &RPCMatch{}
	}
	return read
}
