package oracle

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Route is an HTTPRoute or GRPCRoute as it takes part in a decision, or one of
// the synthesised routes.
type Route struct {
	Label   Label
	Created time.Time
	Hosts   []api.Hostname
	// HTTP or GRPC rules, never both.
	HTTP []api.HTTPRouteRule
	GRPC []api.GRPCRouteRule
	// Probe is the set of paths of the route for probes, which has no rules.
	Probe []string
	// Any: the default route, which matches everything that its protocol can say.
	Any bool
	// Grants are those of the route alone; the Server's count besides.
	Grants []Grant
}

// synthesised reports whether nobody wrote the route.
func (r Route) synthesised() bool { return r.Any || len(r.Probe) > 0 }

// groupOf is the group of an object's apiVersion.
func groupOf(apiVersion string) string {
	group, _, _ := strings.Cut(apiVersion, "/")
	return group
}

// Attached is the first half of X-51: some parent is a Server, of the policy
// group and this name. A parent without kind is a Gateway (C-27). The second half
// of X-51, an accepted status, is what the lease holder writes when the Server
// exists and nothing conflicts (S-04), so here it follows from the objects.
func Attached(parents []api.ParentReference, group, namespace string, server *api.Server) (bool, string) {
	why := "it has no parent"
	for _, p := range parents {
		why = fmt.Sprintf("its parent is %s %s", or(p.Kind, "Gateway"), p.Name)
		if strings.EqualFold(or(p.Group, group), api.Group) && strings.EqualFold(or(p.Kind, "Gateway"), api.ServerKind) && p.Name == server.Name && namespace == server.Namespace {
			return true, why
		}
	}
	return false, why
}

// SoundParents is X-52: one parent that is a Server elsewhere, or with a port or
// a section, and the whole route is ignored.
func SoundParents(parents []api.ParentReference, namespace string) (bool, string) {
	for _, p := range parents {
		if !strings.EqualFold(or(p.Kind, "Gateway"), api.ServerKind) {
			continue
		}
		switch {
		case p.Namespace != nil && *p.Namespace != namespace:
			return false, fmt.Sprintf("its parent Server %s is said to be in namespace %s", p.Name, *p.Namespace)
		case p.Port != nil:
			return false, fmt.Sprintf("its parent Server %s has a port", p.Name)
		case p.SectionName != nil:
			return false, fmt.Sprintf("its parent Server %s has a sectionName", p.Name)
		}
	}
	return true, ""
}

func or(value *string, otherwise string) string {
	if value == nil {
		return otherwise
	}
	return *value
}

// RouteKindFits is X-54: GRPCRoutes are for gRPC Servers, HTTPRoutes for the
// others that speak HTTP.
func RouteKindFits(kind string, p api.ProxyProtocol) bool {
	if kind == api.GRPCRouteKind {
		return p == api.ProtocolGRPC
	}
	return p == api.ProtocolUnknown || p == api.ProtocolHTTP1 || p == api.ProtocolHTTP2
}

// FiltersFit is X-55: some filters make the whole route be ignored.
func FiltersFit(filters []api.HTTPRouteFilter) (bool, string) {
	for _, f := range filters {
		switch f.Type {
		case api.FilterRequestMirror, api.FilterURLRewrite, api.FilterExtensionRef:
			return false, fmt.Sprintf("it has a filter %s", f.Type)
		}
	}
	return true, ""
}

// RulesOf is X-59: a route has the rules that are written, and without any it
// matches nothing.
func RulesOf(r *api.HTTPRoute) []api.HTTPRouteRule { return r.Spec.Rules }

// Conflicts is S-06: an HTTPRoute is not accepted where a GRPCRoute has the same
// parent.
func Conflicts(server *api.Server, world World, attached func([]api.ParentReference, string, string, *api.Server) (bool, string)) (bool, string) {
	for _, r := range world.GRPCRoutes {
		if shares, _ := attached(r.Spec.ParentRefs, groupOf(r.APIVersion), r.Namespace, server); shares {
			return true, fmt.Sprintf("GRPCRoute %s has the same parent", r.Name)
		}
	}
	return false, ""
}

// RoutesReplace is X-53: one accepted route, and the default and probe routes are
// gone.
func RoutesReplace(accepted int) bool { return accepted > 0 }

// OlderRoute is X-56: by creation time, then by reference, which is group, kind
// and name; those that nobody
// wrote come last.
func OlderRoute(a, b Route) bool {
	switch {
	case a.synthesised() != b.synthesised():
		return b.synthesised()
	case !a.Created.Equal(b.Created):
		return a.Created.Before(b.Created)
	default:
		return cmp.Or(cmp.Compare(a.Label.Group, b.Label.Group), cmp.Compare(a.Label.Kind, b.Label.Kind), cmp.Compare(a.Label.Name, b.Label.Name)) < 0
	}
}

// CallableMatch is X-58: a GRPCRoute match without a method invalidates the whole
// policy of the port in the linkerd dialect.
func CallableMatch(m api.GRPCRouteMatch, dialect api.Dialect) bool {
	return m.Method != nil || dialect.QuirksRepaired
}

// routes are the accepted routes of the Server, in order, with their grants.
// invalid says that one of them makes the whole policy invalid (N-09).
func (o Oracle) routes(server *api.Server, protocol api.ProxyProtocol, steps *[]Step) (routes []Route, invalid string) {
	for _, r := range o.World.HTTPRoutes {
		label := Label{Group: groupOf(r.APIVersion), Kind: api.HTTPRouteKind, Name: r.Name}
		if !o.accepted(label, r.Namespace, r.Spec.ParentRefs, server, protocol, steps) {
			continue
		}
		if conflict, why := o.Rules.Conflicts(server, o.World, o.Rules.Attached); conflict {
			note(steps, "route", "S-06", false, "%s is not accepted: %s", label, why)
			continue
		}
		rules := o.Rules.RulesOf(r)
		fits, why := true, ""
		for _, rule := range rules {
			if fits {
				fits, why = o.Rules.FiltersFit(rule.Filters)
			}
		}
		if !fits {
			note(steps, "route", "X-55", false, "%s is ignored: %s", label, why)
			continue
		}
		routes = append(routes, Route{Label: label, Created: r.CreationTimestamp.Time, Hosts: r.Spec.Hostnames, HTTP: rules, Grants: o.routeGrants(label, r.Namespace)})
	}
	for _, r := range o.World.GRPCRoutes {
		label := Label{Group: groupOf(r.APIVersion), Kind: api.GRPCRouteKind, Name: r.Name}
		if !o.accepted(label, r.Namespace, r.Spec.ParentRefs, server, protocol, steps) {
			continue
		}
		for _, rule := range r.Spec.Rules {
			for _, match := range rule.Matches {
				if !o.Rules.CallableMatch(match, o.Dialect) {
					invalid = fmt.Sprintf("%s has a match without a method", label)
				}
			}
		}
		routes = append(routes, Route{Label: label, Created: r.CreationTimestamp.Time, Hosts: r.Spec.Hostnames, GRPC: r.Spec.Rules, Grants: o.routeGrants(label, r.Namespace)})
	}
	slices.SortStableFunc(routes, o.byAge)
	return routes, invalid
}

func (o Oracle) byAge(a, b Route) int {
	switch {
	case o.Rules.OlderRoute(a, b):
		return -1
	case o.Rules.OlderRoute(b, a):
		return 1
	}
	return 0
}

// accepted is what HTTPRoutes and GRPCRoutes have in common.
func (o Oracle) accepted(label Label, namespace string, parents []api.ParentReference, server *api.Server, protocol api.ProxyProtocol, steps *[]Step) bool {
	attached, why := o.Rules.Attached(parents, label.Group, namespace, server)
	if !attached {
		if namespace == server.Namespace {
			note(steps, "route", "X-51", false, "%s is not attached to Server %s: %s", label, server.Name, why)
		}
		return false
	}
	if sound, why := o.Rules.SoundParents(parents, namespace); !sound {
		note(steps, "route", "X-52", false, "%s is ignored: %s", label, why)
		return false
	}
	if !o.Rules.RouteKindFits(label.Kind, protocol) {
		note(steps, "route", "X-54", false, "%s has no meaning on a Server whose protocol is %s", label, protocol)
		return false
	}
	return true
}

func (o Oracle) routeGrants(label Label, namespace string) []Grant {
	var grants []Grant
	for _, p := range o.World.AuthorizationPolicies {
		if o.Rules.TargetsRoute(p, label, namespace) {
			grants = append(grants, o.policyGrant(p))
		}
	}
	return grants
}

// Fit is how well a match fits a request; the fields are in the order in which
// they count (H-15).
type Fit struct {
	Host, Path, Headers, Query int
	Method                     bool
}

// MoreSpecific is H-15. Exact, prefix and expression of equal length tie.
func MoreSpecific(a, b Fit) bool {
	order := cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Headers, b.Headers), cmp.Compare(a.Query, b.Query))
	if order == 0 && a.Method != b.Method {
		return a.Method
	}
	return order > 0
}

// choice is the route and rule that a request gets.
type choice struct {
	route   Route
	rule    int
	filters []api.HTTPRouteFilter
	fit     Fit
}

// choose is H-10 (1), H-15 and H-16: the best fit of all routes, the first of
// equals, and it is final. Every other route leaves a step.
func (o Oracle) choose(routes []Route, request Request, path string, steps *[]Step) (choice, bool) {
	var best choice
	found := false
	for _, route := range routes {
		fits := o.fits(route, request, path)
		if len(fits) == 0 {
			note(steps, "route", "H-14", false, "%s does not match", route.Label)
			continue
		}
		for _, c := range fits {
			switch {
			case !found:
				best, found = c, true
			case o.Rules.MoreSpecific(c.fit, best.fit):
				note(steps, "route", "H-15", false, "%s matches too, less specifically", best.route.Label)
				best = c
			case c.route.Label != best.route.Label:
				note(steps, "route", "H-15", false, "%s matches too, but %s is more specific or older", c.route.Label, best.route.Label)
			}
		}
	}
	return best, found
}

// fits are the ways in which the route matches the request, at most one for each
// of its rules' matches.
func (o Oracle) fits(route Route, request Request, path string) []choice {
	host, hostFits := 0, len(route.Hosts) == 0
	for _, pattern := range route.Hosts {
		if length, ok := o.Rules.HostFits(string(pattern), request.Host); ok {
			hostFits, host = true, max(host, length)
		}
	}
	if !hostFits {
		return nil
	}
	var out []choice
	add := func(rule int, filters []api.HTTPRouteFilter, fit Fit) {
		fit.Host = host
		out = append(out, choice{route: route, rule: rule, filters: filters, fit: fit})
	}
	if route.Any {
		// The default route of a gRPC port matches calls, and no other requests (P-08).
		if _, call := o.callFits(nil, request); route.GRPC == nil || call {
			add(0, nil, Fit{})
		}
		return out
	}
	// P-04: GET, the exact path, nothing else.
	for _, probe := range route.Probe {
		exact := api.MatchExact
		if length, ok := o.Rules.PathFits(api.HTTPPathMatch{Type: &exact, Value: &probe}, path); ok && o.Rules.MethodFits("GET", request.Method) {
			add(0, nil, Fit{Path: length, Method: true})
		}
	}
	for i, rule := range route.HTTP {
		matches := rule.Matches
		if len(matches) == 0 {
			matches = []api.HTTPRouteMatch{{}} // C-28
		}
		for _, match := range matches {
			if fit, ok := o.matchHTTP(match, request, path); ok {
				add(i, rule.Filters, fit)
			}
		}
	}
	for i, rule := range route.GRPC {
		matches := rule.Matches
		if len(matches) == 0 {
			matches = []api.GRPCRouteMatch{{}}
		}
		for _, match := range matches {
			length, ok := o.callFits(match.Method, request)
			for _, header := range match.Headers {
				ok = ok && o.Rules.ValueFits(header, headerValues(request, header.Name))
			}
			if ok {
				add(i, nil, Fit{Path: length, Headers: len(match.Headers)})
			}
		}
	}
	return out
}

// matchHTTP is H-14: everything that a match gives must hold.
func (o Oracle) matchHTTP(match api.HTTPRouteMatch, request Request, path string) (Fit, bool) {
	prefix, slash := api.MatchPathPrefix, "/"
	pathMatch := api.HTTPPathMatch{Type: &prefix, Value: &slash} // C-28
	if match.Path != nil {
		pathMatch = *match.Path
	}
	// A route's own path means what a request's would, and one that means nothing
	// clear matches nothing.
	clear := true
	if kindOf(pathMatch) != api.MatchRegularExpression {
		value := or(pathMatch.Value, "/")
		value, clear = o.Rules.NormalisedPath(value, o.Dialect)
		pathMatch.Value = &value
	}
	length, ok := o.Rules.PathFits(pathMatch, path)
	ok = ok && clear
	for _, header := range match.Headers {
		ok = ok && o.Rules.ValueFits(header, headerValues(request, header.Name))
	}
	for _, parameter := range match.QueryParams {
		ok = ok && o.Rules.ValueFits(parameter, queryValues(request, parameter.Name))
	}
	if match.Method != nil {
		ok = ok && o.Rules.MethodFits(string(*match.Method), request.Method)
	}
	return Fit{Path: length, Headers: len(match.Headers), Query: len(match.QueryParams), Method: match.Method != nil}, ok
}
