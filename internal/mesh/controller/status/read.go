package status

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// readRoute reads what counts of a route. What it cannot understand beside that
// does not matter.
func readRoute(object *unstructured.Unstructured) (Route, error) {
	var read struct {
		Spec struct {
			ParentRefs []api.ParentReference `json:"parentRefs"`
		} `json:"spec"`
	}
	if err := part(object, &read, "spec"); err != nil {
		return Route{}, err
	}
	route := Route{Generation: object.GetGeneration(), Version: object.GetResourceVersion(), Parents: read.Spec.ParentRefs}
	parents, _, err := unstructured.NestedSlice(object.Object, "status", "parents")
	if err != nil {
		return Route{}, fmt.Errorf("read status.parents: %w", err)
	}
	for _, parent := range parents {
		fields, _ := parent.(map[string]any)
		if fields["controllerName"] != api.RouteControllerName {
			route.Foreign = append(route.Foreign, parent)
			continue
		}
		var own api.RouteParentStatus
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &own); err != nil {
			continue // it will be written anew
		}
		route.Own = append(route.Own, own)
	}
	return route, nil
}

func readLimit(object *unstructured.Unstructured) (Limit, error) {
	var read struct {
		Spec struct {
			TargetRef api.LocalTargetReference `json:"targetRef"`
		} `json:"spec"`
		Status struct {
			Conditions []metav1.Condition        `json:"conditions"`
			TargetRef  *api.LocalTargetReference `json:"targetRef"`
		} `json:"status"`
	}
	if err := part(object, &read, "spec", "status"); err != nil {
		return Limit{}, err
	}
	return Limit{Generation: object.GetGeneration(), Version: object.GetResourceVersion(), Created: object.GetCreationTimestamp().Time,
		Target: read.Spec.TargetRef, Conditions: read.Status.Conditions, About: read.Status.TargetRef}, nil
}

// part decodes some fields of an object.
func part(object *unstructured.Unstructured, into any, names ...string) error {
	fields := map[string]any{}
	for _, name := range names {
		if value, there := object.Object[name]; there {
			fields[name] = value
		}
	}
	text, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read %s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err)
	}
	return nil
}
