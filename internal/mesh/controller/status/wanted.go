package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// accepted is the condition that says whether an object counts.
const accepted = "Accepted"

// The reasons of conditions (S-04, S-09).
const (
	ReasonAccepted         = "Accepted"
	ReasonNoMatchingParent = "NoMatchingParent"
	ReasonConflicted       = "RouteReasonConflicted"
	ReasonNoMatchingTarget = "NoMatchingTarget"
	ReasonAlreadyExists    = "RateLimitReasonAlreadyExists"
)

// Change is an object whose status is not what it should be.
type Change struct {
	Key Key
	// Version is the resourceVersion that the change is made on.
	Version string
	// Status is the whole new status.
	Status map[string]any
}

// Wanted lists what has to be written, in a fixed order. now is the time of
// conditions that turn.
func Wanted(w World, now time.Time) []Change {
	var changes []Change
	attached := w.attached()
	for key, route := range w.Routes {
		own := route.wanted(key, w, attached, now)
		if equalParents(own, route.Own) {
			continue
		}
		parents := slices.Clone(route.Foreign)
		for _, parent := range own {
			parents = append(parents, parent)
		}
		if parents == nil {
			parents = []any{}
		}
		changes = append(changes, Change{key, route.Version, map[string]any{"parents": parents}})
	}
	first := w.first()
	for key, limit := range w.Limits {
		conditions, about := limit.wanted(key, w, first, now)
		if equalConditions(conditions, limit.Conditions) && limit.About != nil && *limit.About == about {
			continue
		}
		changes = append(changes, Change{key, limit.Version, map[string]any{"conditions": conditions, "targetRef": about}})
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return changes
}

func (k Key) String() string {
	return k.Resource.Resource + "." + k.Resource.Group + " " + k.NamespacedName.String()
}

// attachment is a kind of routes at a Server.
type attachment struct {
	server   types.NamespacedName
	resource string
}

// attached tells the kinds of routes that name each Server as their parent,
// whether the Server exists or not.
func (w World) attached() map[attachment]bool {
	all := map[attachment]bool{}
	for key, route := range w.Routes {
		for _, parent := range route.Parents {
			if server, ok := serverOf(key, parent); ok {
				all[attachment{server, key.Resource.Resource}] = true
			}
		}
	}
	return all
}

// serverOf is the Server that a reference names. Status looks for it where the
// reference says, although the index takes no route from another namespace
// . The group that is left out is the route's own.
func serverOf(route Key, parent api.ParentReference) (types.NamespacedName, bool) {
	group, namespace := route.Resource.Group, route.Namespace
	if parent.Group != nil {
		group = *parent.Group
	}
	if parent.Namespace != nil {
		namespace = *parent.Namespace
	}
	is := parent.Kind != nil && strings.EqualFold(*parent.Kind, api.ServerKind) && strings.EqualFold(group, api.Group)
	return types.NamespacedName{Namespace: namespace, Name: parent.Name}, is
}

// wanted are the route's parent statuses as they should be, one for each Server
// that it names (S-04, S-06).
func (r Route) wanted(key Key, w World, attached map[attachment]bool, now time.Time) []api.RouteParentStatus {
	var all []api.RouteParentStatus
	for _, parent := range r.Parents {
		server, ok := serverOf(key, parent)
		if !ok || slices.ContainsFunc(all, func(s api.RouteParentStatus) bool { return sameParent(s.ParentRef, parent) }) {
			continue
		}
		condition := metav1.Condition{Type: accepted, Status: metav1.ConditionTrue, Reason: ReasonAccepted}
		switch {
		case !w.Servers[server]:
			condition.Status, condition.Reason = metav1.ConditionFalse, ReasonNoMatchingParent
			condition.Message = fmt.Sprintf("there is no Server %s", server)
		case key.Resource.Resource == api.HTTPRoutes.Resource && attached[attachment{server, api.GatewayGRPCRoutes.Resource}]:
			condition.Status, condition.Reason = metav1.ConditionFalse, ReasonConflicted
			condition.Message = fmt.Sprintf("a GRPCRoute has Server %s as its parent, too", server)
		}
		var before []metav1.Condition
		for _, own := range r.Own {
			if sameParent(own.ParentRef, parent) {
				before = own.Conditions
			}
		}
		all = append(all, api.RouteParentStatus{ParentRef: parent, ControllerName: api.RouteControllerName,
			Conditions: []metav1.Condition{since(condition, r.Generation, before, now)}})
	}
	return all
}

// first is the rate limit that counts at each Server: the oldest, then the one
// whose name sorts first (S-09).
func (w World) first() map[types.NamespacedName]Key {
	firsts := map[types.NamespacedName]Key{}
	for key, limit := range w.Limits {
		server, ok := limit.server(key)
		if !ok {
			continue
		}
		other, taken := firsts[server]
		if !taken || cmp.Or(limit.Created.Compare(w.Limits[other].Created), strings.Compare(key.Name, other.Name)) < 0 {
			firsts[server] = key
		}
	}
	return firsts
}

func (l Limit) server(key Key) (types.NamespacedName, bool) {
	is := strings.EqualFold(l.Target.Kind, api.ServerKind) && strings.EqualFold(l.Target.Group, api.Group)
	return types.NamespacedName{Namespace: key.Namespace, Name: l.Target.Name}, is
}

// wanted are the rate limit's conditions as they should be (S-09), and what they
// are about. Conditions of other types are not ours.
func (l Limit) wanted(key Key, w World, first map[types.NamespacedName]Key, now time.Time) ([]metav1.Condition, api.LocalTargetReference) {
	condition := metav1.Condition{Type: accepted, Status: metav1.ConditionTrue, Reason: ReasonAccepted}
	server, ok := l.server(key)
	switch {
	case !ok || !w.Servers[server]:
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonNoMatchingTarget
		condition.Message = fmt.Sprintf("there is no Server %s", server)
	case first[server] != key:
		condition.Status, condition.Reason = metav1.ConditionFalse, ReasonAlreadyExists
		condition.Message = fmt.Sprintf("%s limits Server %s already", first[server].Name, server.Name)
	}
	var all []metav1.Condition
	for _, other := range l.Conditions {
		if other.Type != accepted {
			all = append(all, other)
		}
	}
	return append(all, since(condition, l.Generation, l.Conditions, now)), l.Target
}

// since completes a condition: one that says what it said before has its time.
func since(condition metav1.Condition, generation int64, before []metav1.Condition, now time.Time) metav1.Condition {
	condition.ObservedGeneration, condition.LastTransitionTime = generation, metav1.NewTime(now)
	for _, old := range before {
		if old.Type == condition.Type && old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
	}
	return condition
}

func sameParent(a, b api.ParentReference) bool {
	return same(a.Group, b.Group) && same(a.Kind, b.Kind) && same(a.Namespace, b.Namespace) && a.Name == b.Name && same(a.SectionName, b.SectionName) && same(a.Port, b.Port)
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func equalParents(a, b []api.RouteParentStatus) bool {
	return slices.EqualFunc(a, b, func(a, b api.RouteParentStatus) bool {
		return sameParent(a.ParentRef, b.ParentRef) && a.ControllerName == b.ControllerName && equalConditions(a.Conditions, b.Conditions)
	})
}

// equalConditions leaves the time out: it follows from the rest.
func equalConditions(a, b []metav1.Condition) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.Condition) bool {
		return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message && a.ObservedGeneration == b.ObservedGeneration
	})
}
