package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/scenarios"
)

// part is where a part of the control plane runs and tells of itself.
type part struct {
	container string
	// metrics is the port of its metrics.
	metrics int
}

// parts of the control plane, by the names that scenarios use.
var parts = map[scenarios.ControlPlanePart]part{
	scenarios.PolicyPart:      {"policy", 9996},
	scenarios.DestinationPart: {"destination", 9997},
	scenarios.IdentityPart:    {"identity", 9990},
	scenarios.InjectorPart:    {"proxy-injector", 9990},
}

// logOf is a container that logs.
type logOf struct {
	pod       types.NamespacedName
	container string
	// life tells one run of the container from the next.
	life string
}

// tellers are the pods that log and count for a claim, with the container: the
// proxies of a workload, or a part of the control plane.
func (s *scenarioRun) tellers(workload string, of scenarios.ControlPlanePart) (pods []*corev1.Pod, container string) {
	if workload != "" {
		return slices.DeleteFunc(slices.Clone(s.componentPods(workload)), func(p *corev1.Pod) bool { return !meshed(p) }), proxyContainer
	}
	container = parts[of].container
	for _, pod := range s.e.pods.list(meshNamespace, nil) {
		if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == container }) {
			pods = append(pods, pod)
		}
	}
	return pods, container
}

// logs are the containers whose logs a claim is about.
func (s *scenarioRun) logs(c *scenarios.LogClaim) []logOf {
	pods, container := s.tellers(c.Workload, c.ControlPlane)
	var out []logOf
	for _, pod := range pods {
		one := logOf{pod: nameOf(pod), container: container}
		for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			if status.Name == container {
				one.life = status.ContainerID
			}
		}
		out = append(out, one)
	}
	return out
}

// logged reads the whole log of a container's present run.
func (e *run) logged(ctx context.Context, of logOf) ([]byte, error) {
	text, err := e.kube.typed.CoreV1().Pods(of.pod.Namespace).GetLogs(of.pod.Name, &corev1.PodLogOptions{Container: of.container}).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the log of %s in %s: %w", of.container, of.pod, err)
	}
	return text, nil
}

// judgeLog counts the lines that have come since the step began.
func (s *scenarioRun) judgeLog(ctx context.Context, c *scenarios.LogClaim, base *baseline) verdict {
	fields, err := s.expressions(c.Fields)
	if err != nil {
		return unsure("%v", err)
	}
	all := s.logs(c)
	if len(all) == 0 {
		return unsure("nobody is there whose log could be read: %s%s has no such pods", c.Workload, c.ControlPlane)
	}
	var found []string
	number := 0
	for _, one := range all {
		text, err := s.e.logged(ctx, one)
		if err != nil {
			return unsure("%v", err)
		}
		if skip := base.logged[one]; skip <= len(text) {
			text = text[skip:]
		}
		lines := matching(text, c.Message, fields)
		number += len(lines)
		found = append(found, lines...)
	}
	v := passed(fmt.Sprintf("%d lines %q", number, c.Message))
	v.expected, v.samples = string(c.Is), number
	v.details = found[max(len(found)-loggedLines, 0):]
	if !c.Is.Fits(float64(number)) {
		return failing(v, "expected %s, observed %s%s", c.Is, v.observed, withFields(c.Fields))
	}
	return v
}

// loggedLines is how many of the lines that were found go into the result.
const loggedLines = 3

// expressions are the regular expressions, which must fit as a whole, with named
// values put in.
func (s *scenarioRun) expressions(fields map[string]string) (map[string]*regexp.Regexp, error) {
	out := map[string]*regexp.Regexp{}
	for name, text := range fields {
		expression, err := regexp.Compile("^(?:" + s.text(text) + ")$")
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		out[name] = expression
	}
	return out, nil
}

// matching are the lines of a log with that message and fields that fit. A line
// that is no object of JSON is nobody's.
func matching(text []byte, message string, fields map[string]*regexp.Regexp) []string {
	var out []string
	for line := range bytes.Lines(text) {
		var entry map[string]any
		if json.Unmarshal(line, &entry) != nil || entry["msg"] != message {
			continue
		}
		fits := true
		for name, expression := range fields {
			value, there := entry[name]
			fits = fits && there && expression.MatchString(fmt.Sprint(value))
		}
		if fits {
			out = append(out, strings.TrimSpace(string(line)))
		}
	}
	return out
}

func withFields(fields map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		out = append(out, name+"="+fields[name])
	}
	if len(out) == 0 {
		return ""
	}
	return " with " + strings.Join(out, ", ")
}
