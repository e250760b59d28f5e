package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// acceptedKinds are those whose status says whether they count, and
// the Servers on which it depends.
var acceptedKinds = []string{api.ServerKind, api.HTTPRouteKind, api.GRPCRouteKind, api.HTTPLocalRateLimitPolicyKind}

// accepted waits until the status of every route and rate limit that the writes
// may concern says what follows from them, and raises the bounds to the versions
// that say so: only then are they in force.
func (s *scenarioRun) accepted(ctx context.Context, writes []write, least versions) error {
	var spaces []string
	for _, w := range writes {
		if w.policy() && slices.Contains(acceptedKinds, w.kind) && !slices.Contains(spaces, w.namespace) {
			spaces = append(spaces, w.namespace)
		}
	}
	if len(spaces) == 0 {
		return nil
	}
	var last error
	settled := func(found []*unstructured.Unstructured) error {
		last = unsettled(found, least)
		return last
	}
	var err error
	if store := s.e.kube.store; store != nil {
		err = store.await(ctx, acceptBudget, spaces, acceptedKinds, settled)
	} else {
		err = eventually(ctx, acceptBudget, func() error {
			var found []*unstructured.Unstructured
			if found, last = s.e.policyObjects(ctx, spaces, acceptedKinds); last != nil {
				return last
			}
			return settled(found)
		})
	}
	if err != nil && errors.Is(err, errUnsettled) {
		return fmt.Errorf("%w: %w", errBudget, err)
	}
	return err
}

// errUnsettled is a status that does not say what it should.
var errUnsettled = errors.New("its status does not follow")

// unsettled says which status does not follow from the objects, and raises the
// bounds to the versions of those that do.
func unsettled(all []*unstructured.Unstructured, least versions) error {
	servers := map[string]bool{}
	var routes, limits []*unstructured.Unstructured
	for _, object := range all {
		switch object.GetKind() {
		case api.ServerKind:
			servers[object.GetNamespace()+"/"+object.GetName()] = true
		case api.HTTPLocalRateLimitPolicyKind:
			limits = append(limits, object)
		default:
			routes = append(routes, object)
		}
	}
	for _, object := range routes {
		if err := routeUnsettled(object, routes, servers); err != nil {
			return err
		}
	}
	slices.SortStableFunc(limits, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), cmp.Compare(a.GetName(), b.GetName()))
	})
	first := map[string]bool{}
	for _, object := range limits {
		if err := limitUnsettled(object, servers, first); err != nil {
			return err
		}
	}
	for _, object := range slices.Concat(routes, limits) {
		version, _ := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
		least.with(write{kind: object.GetKind(), group: object.GroupVersionKind().Group, version: version})
	}
	return nil
}

// parentsOf are a route's references to Servers, with their namespaces.
func parentsOf(object *unstructured.Unstructured) (refs []api.ParentReference, statuses []api.RouteParentStatus) {
	var route struct {
		Spec struct {
			ParentRefs []api.ParentReference `json:"parentRefs"`
		} `json:"spec"`
		Status struct {
			Parents []api.RouteParentStatus `json:"parents"`
		} `json:"status"`
	}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &route) != nil {
		return nil, nil // what cannot be read has no parents
	}
	for _, ref := range route.Spec.ParentRefs {
		if value(ref.Group) == api.Group && value(ref.Kind) == api.ServerKind {
			refs = append(refs, ref)
		}
	}
	for _, status := range route.Status.Parents {
		if status.ControllerName == api.RouteControllerName {
			statuses = append(statuses, status)
		}
	}
	return refs, statuses
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// parent names the Server that a reference means.
func parent(ref api.ParentReference, namespace string) string {
	return cmp.Or(value(ref.Namespace), namespace) + "/" + ref.Name
}

// routeUnsettled compares a route's status with S-04 and S-06.
func routeUnsettled(object *unstructured.Unstructured, routes []*unstructured.Unstructured, servers map[string]bool) error {
	refs, statuses := parentsOf(object)
	for _, ref := range refs {
		name := parent(ref, object.GetNamespace())
		want := servers[name] || value(ref.Namespace) != "" && value(ref.Namespace) != object.GetNamespace() // seen by nobody here
		known := want == servers[name]
		if object.GetKind() == api.HTTPRouteKind && slices.ContainsFunc(routes, func(other *unstructured.Unstructured) bool {
			if other.GetKind() != api.GRPCRouteKind {
				return false
			}
			others, _ := parentsOf(other)
			return slices.ContainsFunc(others, func(r api.ParentReference) bool { return parent(r, other.GetNamespace()) == name })
		}) {
			want = false
		}
		at := slices.IndexFunc(statuses, func(s api.RouteParentStatus) bool { return parent(s.ParentRef, object.GetNamespace()) == name })
		if at < 0 {
			return fmt.Errorf("%s %s/%s: %w: the controller has not written any for its parent Server %s", object.GetKind(), object.GetNamespace(), object.GetName(), errUnsettled, name)
		}
		if err := conditionUnsettled(object, statuses[at].Conditions, want, known, "by Server "+name); err != nil {
			return err
		}
	}
	return nil
}

// limitUnsettled compares a rate limit's status with S-09; first are the Servers
// that have an older one.
func limitUnsettled(object *unstructured.Unstructured, servers, first map[string]bool) error {
	limit := &api.HTTPLocalRateLimitPolicy{}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, limit) != nil {
		return nil // what cannot be read cannot be waited for
	}
	target := limit.Namespace + "/" + limit.Spec.TargetRef.Name
	want := servers[target] && !first[target]
	first[target] = true
	return conditionUnsettled(object, limit.Status.Conditions, want, true, "for Server "+target)
}

func conditionUnsettled(object *unstructured.Unstructured, conditions []metav1.Condition, want, known bool, whom string) error {
	text := map[bool]string{true: "Accepted", false: "refused"}[want]
	have := apimeta.FindStatusCondition(conditions, "Accepted")
	switch {
	case have == nil:
		return fmt.Errorf("%s %s/%s: %w: it has no condition Accepted %s", object.GetKind(), object.GetNamespace(), object.GetName(), errUnsettled, whom)
	case have.ObservedGeneration != 0 && have.ObservedGeneration < object.GetGeneration():
		return fmt.Errorf("%s %s/%s: %w: it is that of an earlier version", object.GetKind(), object.GetNamespace(), object.GetName(), errUnsettled)
	case known && (have.Status == metav1.ConditionTrue) != want:
		return fmt.Errorf("%s %s/%s: %w: it should be %s %s, and is Accepted=%s because of %s", object.GetKind(), object.GetNamespace(), object.GetName(), errUnsettled, text, whom, have.Status, have.Reason)
	}
	return nil
}
