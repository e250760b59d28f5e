package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/health"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// judgeTraffic judges the calls of a stream.
func (s *scenarioRun) judgeTraffic(ctx context.Context, c *scenarios.TrafficClaim) verdict {
	stream := s.streams[c.Stream]
	if stream == nil {
		return unsure("the stream was never started")
	}
	from := int64(0)
	if c.From != "" {
		from = s.begins[c.From][c.Stream]
	}
	least := c.AtLeast
	if least == 0 {
		least = 10
	}
	stream.mu.Lock()
	defer stream.mu.Unlock()
	// Calls go on: wait until there are enough, and until those that were under
	// way when the policy came into force have been answered.
	deadline := time.Now().Add(callTimeout)
	for !stream.stopped {
		if err := stream.read(ctx, pollInterval); err != nil {
			return unsure("%v", err)
		}
		if len(after(stream, from)) >= least || time.Now().After(deadline) {
			break
		}
	}
	shape := shapeOf(after(stream, from))
	v := shape.compare(c.Expect, least)
	v.expected = string(c.Expect)
	if stream.missed > 0 {
		v.details = append(v.details, fmt.Sprintf("%d calls were due and could not be made", stream.missed))
	}
	if stream.dropped > 0 && v.outcome == result.Passed {
		return unsure("%d answers were no longer kept", stream.dropped)
	}
	if c.Expect == scenarios.DeniedWindow && v.outcome == result.Passed {
		s.e.figures.add(result.Figure{Name: "window of denials, " + s.res.Name, Unit: "ms", N: shape.denied, Value: milliseconds(shape.width)})
	}
	return v
}

func (s *scenarioRun) judgeAdmission(ctx context.Context, c *scenarios.AdmissionClaim) verdict {
	content := s.expand(c.Object.Content).(map[string]any)
	_, err := s.e.kube.apply(ctx, content, s.namespace, true)
	var refused *refusedError
	v := verdict{outcome: result.Passed, expected: string(c.Expect), observed: "accepted"}
	switch {
	case err != nil && !errors.As(err, &refused):
		return unsure("the API server could not be asked: %v", err)
	case err != nil:
		v.observed = "refused: " + err.Error()
	}
	if (err != nil) != (c.Expect == scenarios.AdmissionRefused) {
		return failing(v, "expected the object to be %s, observed %s", c.Expect, v.observed)
	}
	return v
}

func (s *scenarioRun) judgeEvent(ctx context.Context, c *scenarios.EventClaim) verdict {
	name, prefix := strings.CutSuffix(s.text(c.Name), "*")
	for _, namespace := range append([]string{s.namespace}, s.furtherNamespaces()...) {
		list, err := s.e.kube.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + c.Reason})
		if err != nil {
			return unsure("the events cannot be read: %v", err)
		}
		for _, event := range list.Items {
			object := event.InvolvedObject
			if c.Kind != "" && object.Kind != c.Kind || !prefix && name != "" && object.Name != name || prefix && !strings.HasPrefix(object.Name, name) {
				continue
			}
			v := passed(fmt.Sprintf("%s %s/%s: %s", event.Reason, object.Kind, object.Name, event.Message))
			v.expected = "an event " + c.Reason
			return v
		}
	}
	return failed("no event %s about %s %s was seen", c.Reason, c.Kind, s.text(c.Name))
}

func (s *scenarioRun) judgeHealthy(ctx context.Context, c *scenarios.HealthyClaim) verdict {
	namespace := s.namespace
	if c.Namespace != "" {
		namespace = s.text(c.Namespace)
	}
	checks, err := health.Run(ctx, s.e.kube.typed, health.Options{Proxy: true, Namespace: namespace})
	if err != nil {
		return unsure("%v", err)
	}
	v := passed(fmt.Sprintf("%d checks hold", len(checks)))
	v.expected = "every check holds"
	for _, check := range checks {
		if check.Problem != "" {
			v.details = append(v.details, fmt.Sprintf("%s: %s", check.Name, check.Problem))
		}
	}
	if c.ControlPlane {
		// A webhook that is up is one that answers.
		if err := s.e.validates(ctx, s.namespace); err != nil {
			v.details = append(v.details, err.Error())
		}
	}
	if len(v.details) > 0 {
		return failing(v, "%s", strings.Join(v.details, "; "))
	}
	return v
}

func (s *scenarioRun) judgePolicy(ctx context.Context, c *scenarios.PolicyClaim) verdict {
	target, err := s.planned.Target(c.Target, "")
	if err != nil {
		return unsure("%v", err)
	}
	pods := s.componentPods(target.Component)
	if len(pods) == 0 {
		return unsure("%s has no pods", target.Component)
	}
	var v verdict
	for _, pod := range pods {
		served, err := s.e.askController(ctx, nameOf(pod), target.Port, versions{})
		v = passed(servedBy + served.server())
		if errors.Is(err, errUnknownPod) {
			v.observed = "nothing is enforced: the pod has no proxy"
		} else if err != nil {
			return unsure("%v", err)
		}
		switch {
		case c.Enforced != nil:
			v.expected = fmt.Sprintf("enforced=%v", *c.Enforced)
			if *c.Enforced == (err != nil) {
				return failing(v, "expected enforced=%v for %s, observed: %s", *c.Enforced, nameOf(pod), v.observed)
			}
		case err != nil || served.server() != c.Server:
			v.expected = "policy of " + c.Server
			return failing(v, "expected the policy of %s for %s port %d, observed: %s", c.Server, nameOf(pod), target.Port, v.observed)
		default:
			v.expected = "policy of " + c.Server
		}
	}
	v.samples = len(pods)
	return v
}

func (s *scenarioRun) judgePods(c *scenarios.PodsClaim) verdict {
	pods := s.componentPods(c.Workload)
	v := passed(fmt.Sprintf("%d pods", len(pods)))
	v.expected = string(c.Are)
	if c.Are == scenarios.PodsAbsent {
		if len(pods) > 0 {
			return failing(v, "expected no pod, observed %d, among them %s with proxy: %v", len(pods), pods[0].Name, meshed(pods[0]))
		}
		return v
	}
	if len(pods) == 0 {
		return failing(v, "expected pods, and there are none")
	}
	for _, pod := range pods {
		if meshed(pod) != (c.Are == scenarios.PodsInjected) {
			return failing(v, "expected the pods to be %s, and %s is not", c.Are, pod.Name)
		}
	}
	return v
}

// after are the answers to the calls after a position, in the order of calling.
func after(stream *streamRun, from int64) []sample {
	var out []sample
	for _, one := range stream.answers {
		if one.Call > from {
			out = append(out, sample{one.Call, one.Outcome})
		}
	}
	slices.SortFunc(out, func(a, b sample) int { return int(a.call - b.call) })
	return out
}
