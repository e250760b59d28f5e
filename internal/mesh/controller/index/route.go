package index

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// RouteSpec is all that policy depends on in a route of any kind.
type RouteSpec struct {
	UID string
	// Created orders routes; it has a resolution of one second.
	Created time.Time
	// Servers are those that the route is attached to and accepted by, sorted and
	// without repetition.
	Servers []string
	Hosts   []HostMatch
	// HTTP and GRPC are the rules; only the one of the route's kind is set.
	HTTP []HTTPRule
	GRPC []GRPCRule
	// Problems are what cannot be understood in the object as it is now, Ignored
	// is what the whole route is left out of policy for.
	Problems, Ignored Problems
	// Dropped are parts that have no effect and harm nothing.
	Dropped Problems
	// Closed means that the route matches and grants nothing, but still stands in
	// the place of the built-in ones: a route that cannot be understood must not
	// open what it closed.
	Closed bool

	// parents are all Servers that the route names, accepted or not, and strangers
	// are the parents that are no Servers. Both are for findings alone.
	parents   []string
	strangers []parent
	// kept means that the rest is a previous version, still in force.
	kept bool
	// unread means that not even the parents are known.
	unread bool
}

// parent is a parent of a route as it is written, defaults filled in.
type parent struct {
	field             string
	group, kind, name string
}

// NewUnreadableRouteSpec stands for an object whose fields have other types than
// they should.
func NewUnreadableRouteSpec(uid string, created time.Time, err error) RouteSpec {
	return RouteSpec{UID: uid, Created: created, Problems: Problems{{"spec", err.Error()}}, unread: true}
}

// newRouteSpec reads what routes of all kinds have in common. defaultGroup is the
// group that parents have whose group is left out.
func newRouteSpec(object *metav1.ObjectMeta, parents []api.ParentReference, hosts []api.Hostname, status api.RouteStatus, defaultGroup string) RouteSpec {
	spec := RouteSpec{UID: string(object.UID), Created: object.CreationTimestamp.Time}
	for i, ref := range parents {
		spec.readParent(fmt.Sprintf("spec.parentRefs[%d]", i), ref, object.Namespace, defaultGroup, status)
	}
	slices.Sort(spec.Servers)
	spec.Servers = slices.Compact(spec.Servers)
	slices.Sort(spec.parents)
	spec.parents = slices.Compact(spec.parents)
	for _, host := range hosts {
		name, wildcard := strings.CutPrefix(strings.ToLower(string(host)), "*.")
		spec.Hosts = append(spec.Hosts, HostMatch{name, wildcard})
	}
	return spec
}

func (s *RouteSpec) readParent(field string, ref api.ParentReference, namespace, defaultGroup string, status api.RouteStatus) {
	group, kind := valueOr(ref.Group, defaultGroup), valueOr(ref.Kind, gatewayKind)
	if !refers(group, kind, api.Group, api.ServerKind) {
		s.strangers = append(s.strangers, parent{field, group, kind, ref.Name})
		return
	}
	switch {
	case valueOr(ref.Namespace, namespace) != namespace:
		s.Ignored.add(field+".namespace", fmt.Sprintf("%q is not the route's own namespace", *ref.Namespace))
	case ref.Port != nil:
		s.Ignored.add(field+".port", "a Server as parent takes no port")
	case ref.SectionName != nil:
		s.Ignored.add(field+".sectionName", "a Server as parent has no sections")
	default:
		s.parents = append(s.parents, ref.Name)
		if accepted(status, ref.Name, namespace, defaultGroup) {
			s.Servers = append(s.Servers, ref.Name)
		}
	}
}

// gatewayKind is what a parent is when its kind is left out (C-27).
const gatewayKind = "Gateway"

// conditionAccepted is the type of the condition that tells whether a route or a
// limit counts.
const conditionAccepted = "Accepted"

// accepted reports whether the status says that the Server has the route.
func accepted(status api.RouteStatus, server, namespace, defaultGroup string) bool {
	return slices.ContainsFunc(status.Parents, func(p api.RouteParentStatus) bool {
		ref := p.ParentRef
		return p.ControllerName == api.RouteControllerName && ref.Name == server && valueOr(ref.Namespace, namespace) == namespace &&
			refers(valueOr(ref.Group, defaultGroup), valueOr(ref.Kind, gatewayKind), api.Group, api.ServerKind) &&
			holds(p.Conditions, conditionAccepted)
	})
}

func holds(conditions []metav1.Condition, name string) bool {
	return slices.ContainsFunc(conditions, func(c metav1.Condition) bool { return c.Type == name && c.Status == metav1.ConditionTrue })
}

// inForce is what counts of an object whose previous version, if any, counted as
// old. In Linkerd's dialect that version stays, or there is no route; else an
// ignored route is none, and one that cannot be understood is closed.
func (s RouteSpec) inForce(old *RouteSpec, dialect api.Dialect) RouteSpec {
	if len(s.Problems)+len(s.Ignored) == 0 {
		return s
	}
	if !dialect.InvalidRevokes {
		kept := RouteSpec{UID: s.UID, Created: s.Created}
		if old != nil && old.understood() {
			kept = *old
			kept.kept = true
		}
		kept.Problems, kept.Ignored, kept.Dropped, kept.parents, kept.strangers = s.Problems, s.Ignored, s.Dropped, s.parents, s.strangers
		return kept
	}
	s.Hosts, s.HTTP, s.GRPC = nil, nil, nil
	if len(s.Problems) == 0 {
		s.Servers = nil
		return s
	}
	s.Closed = true
	if s.unread && old != nil {
		s.Servers = old.Servers
	}
	return s
}

// understood reports whether the object, or a version of it that is kept, can be
// used.
func (s *RouteSpec) understood() bool { return len(s.Problems)+len(s.Ignored) == 0 || s.kept }

// http reports whether routes of the kind are for HTTP rather than gRPC.
func (k Kind) http() bool { return k == PolicyHTTPRoute || k == GatewayHTTPRoute }

// readValues reads comparisons of headers or query parameters.
func readValues(field string, list []api.HTTPValueMatch, header bool, problems *Problems) []ValueMatch {
	var read []ValueMatch
	for i, m := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		match := ValueMatch{Name: m.Name, Value: m.Value}
		switch {
		case m.Name == "":
			problems.add(at+".name", "is empty")
		case header:
			checkHeader(at, m.Name, "", problems)
		}
		switch kind := valueOr(m.Type, api.MatchExact); kind {
		case api.MatchExact:
		case api.MatchRegularExpression:
			match.Regex = true
			checkRegex(at+".value", m.Value, problems)
		default:
			problems.add(at+".type", fmt.Sprintf("%q is neither %s nor %s", kind, api.MatchExact, api.MatchRegularExpression))
		}
		read = append(read, match)
	}
	return read
}

func checkRegex(field, expression string, problems *Problems) {
	if _, err := regexp.Compile(expression); err != nil {
		problems.add(field, err.Error())
	}
}

// valueOr is what p points to, or otherwise.
func valueOr[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
