package engine

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// judgeStatus compares a condition, again and again until it fits, and then for
// as long as it must stay so.
func (s *scenarioRun) judgeStatus(ctx context.Context, claim *scenarios.Claim) verdict {
	c := claim.Status
	kind := kindOf(c.Kind)
	if c.APIVersion != "" {
		kind = schema.FromAPIVersionAndKind(c.APIVersion, c.Kind)
	}
	resource, _, err := s.e.kube.resource(kind, s.inNamespace(c.Namespace))
	if err != nil {
		return unsure("%v", err)
	}
	look := func() verdict {
		object, err := resource.Get(ctx, s.text(c.Name), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return failed("there is no %s %s", c.Kind, s.text(c.Name))
		case err != nil:
			return unsure("the %s cannot be read: %v", c.Kind, err)
		}
		return compareStatus(c, s.text(c.Parent), object.Object)
	}
	v := s.within(ctx, budget(claim.Within, statusBudget), look)
	for until := time.Now().Add(c.For); v.outcome == result.Passed && c.For > 0 && time.Now().Before(until); {
		if pause(ctx, pollInterval) != nil {
			return unsure("it was not watched for %s", c.For)
		}
		if v = look(); v.outcome == result.Failed {
			v.reason = fmt.Sprintf("it did not stay so for %s: %s", c.For, v.reason)
		}
	}
	return v
}

// compareStatus judges one look at the object. parent is the claim's, with named
// values put in.
func compareStatus(c *scenarios.StatusClaim, parent string, object map[string]any) verdict {
	var found []map[string]any
	for _, conditions := range conditionsOf(c, parent, object) {
		for _, one := range conditions {
			if condition, ok := one.(map[string]any); ok && condition["type"] == c.Condition {
				found = append(found, condition)
			}
		}
	}
	v := passed("absent")
	v.expected = fmt.Sprintf("%s=%s", c.Condition, c.Is)
	if c.Reason != "" {
		v.expected += " because of " + c.Reason
	}
	if len(found) > 1 {
		return failing(v, "expected %s, observed %d such conditions", v.expected, len(found))
	}
	if len(found) == 0 {
		if c.Is != scenarios.ConditionAbsent {
			return failing(v, "expected %s, and there is no such condition", v.expected)
		}
		return v
	}
	status, _ := found[0]["status"].(string)
	reason, _ := found[0]["reason"].(string)
	message, _ := found[0]["message"].(string)
	v.observed = fmt.Sprintf("%s=%s because of %s", c.Condition, status, reason)
	if message != "" {
		v.details = append(v.details, "message: "+message)
	}
	if status != string(c.Is) || c.Reason != "" && reason != c.Reason {
		return failing(v, "expected %s, observed %s", v.expected, v.observed)
	}
	return v
}

// conditionsOf lists the conditions of each entry that the claim means.
func conditionsOf(c *scenarios.StatusClaim, parent string, object map[string]any) [][]any {
	if c.Parent == "" {
		conditions, _, _ := unstructured.NestedSlice(object, "status", "conditions")
		return [][]any{conditions}
	}
	meant := *c
	meant.Parent = parent
	kind, name := meant.ParentRef()
	controller := c.Controller
	if controller == "" {
		controller = scenarios.PolicyController
	}
	var out [][]any
	parents, _, _ := unstructured.NestedSlice(object, "status", "parents")
	for _, one := range parents {
		entry, _ := one.(map[string]any)
		ref, _ := entry["parentRef"].(map[string]any)
		refKind, given := ref["kind"].(string)
		if !given {
			refKind = "Gateway" // what the Gateway API takes an absent kind for
		}
		if entry["controllerName"] == controller && refKind == kind && ref["name"] == name {
			conditions, _ := entry["conditions"].([]any)
			out = append(out, conditions)
		}
	}
	return out
}
