package engine

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// restarts counts those of the application's containers.
func restarts(pod *corev1.Pod) int32 {
	total := int32(0)
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name != proxyContainer {
			total += status.RestartCount
		}
	}
	return total
}

// judgeProbe compares the pods with what their probes should yield.
func (s *scenarioRun) judgeProbe(ctx context.Context, claim *scenarios.Claim, base *baseline) verdict {
	c := claim.Probe
	w := s.workload(c.Workload)
	var v verdict
	var expected []string
	if c.Ready != nil {
		expected = append(expected, fmt.Sprintf("ready=%v", *c.Ready))
	}
	if c.Restarts != "" {
		expected = append(expected, "restarts="+string(c.Restarts))
	}
	if c.Answered > 0 {
		expected = append(expected, fmt.Sprintf("%d or more probes answered", c.Answered))
	}
	if c.Denied > 0 {
		expected = append(expected, fmt.Sprintf("%d or more probes denied", c.Denied))
	}
	v = s.within(ctx, budget(claim.Within, probeBudget), func() verdict {
		pods := s.componentPods(c.Workload)
		if len(pods) < replicasOf(w) {
			return failed("%s has %d of %d pods", c.Workload, len(pods), replicasOf(w))
		}
		for _, pod := range pods {
			if one := s.probeOne(ctx, c, pod, base); one.outcome != result.Passed {
				return one
			}
		}
		last := s.probeOne(ctx, c, pods[0], base)
		return last
	})
	v.expected = strings.Join(expected, ", ")
	if v.outcome != result.Passed {
		for _, pod := range s.componentPods(c.Workload) {
			v.details = append(v.details, why(pod))
			if refusal := s.refusedProbe(ctx, pod); refusal != "" {
				v.details = append(v.details, "the last probe that was denied: "+refusal)
			}
			v.details = append(v.details, s.e.kube.events(ctx, pod.Namespace, pod.Name, 3)...)
		}
	}
	return v
}

// refusedProbe is the proxy's last record of having denied the kubelet, be it a
// probe of the proxy itself. It may be older than the step: a container that
// waits to be restarted is not probed.
func (s *scenarioRun) refusedProbe(ctx context.Context, pod *corev1.Pod) string {
	answer, err := s.e.decisionsSince(ctx, nameOf(pod), 0, 0)
	if err != nil {
		return ""
	}
	for _, d := range slices.Backward(answer.Decisions) {
		if d.Verdict != "allow" && s.fromNode(d.Client) {
			return d.String()
		}
	}
	return ""
}

func (s *scenarioRun) probeOne(ctx context.Context, c *scenarios.ProbeClaim, pod *corev1.Pod, base *baseline) verdict {
	restarted := restarts(pod) - base.restarts[nameOf(pod)]
	v := passed(fmt.Sprintf("ready=%v, %d restarts since the step began", ready(pod), restarted))
	if c.Answered > 0 || c.Denied > 0 {
		answer, err := s.e.decisionsSince(ctx, nameOf(pod), base.last[nameOf(pod)], 0)
		if err != nil {
			return unsure("the proxy's records cannot be read: %v", err)
		}
		allowed, denied := 0, 0
		for _, d := range answer.Decisions {
			switch {
			case d.TargetPort == adminPort || !s.fromNode(d.Client):
			case d.Verdict == "allow":
				allowed++
			default:
				denied++
			}
		}
		v.observed += fmt.Sprintf(", %d probes answered, %d denied", allowed, denied)
		v.witness = "the proxy's decision records"
		v.samples = allowed + denied
		switch {
		case c.Denied == 0 && denied > 0:
			return failing(v, "expected no probe to be denied, observed %s", v.observed)
		case allowed < c.Answered:
			return failing(v, "expected %d or more probes to be answered, observed %s", c.Answered, v.observed)
		case denied < c.Denied:
			return failing(v, "expected %d or more probes to be denied, observed %s", c.Denied, v.observed)
		}
	}
	if c.Ready != nil && ready(pod) != *c.Ready {
		return failing(v, "expected ready=%v, observed %s: %s", *c.Ready, v.observed, why(pod))
	}
	if c.Restarts == scenarios.None && restarted > 0 || c.Restarts == scenarios.Some && restarted <= 0 {
		return failing(v, "expected %s restarts, observed %s", c.Restarts, v.observed)
	}
	return v
}

func failing(v verdict, format string, args ...any) verdict {
	v.outcome, v.reason = result.Failed, fmt.Sprintf(format, args...)
	return v
}

// fromNode says whether a connection comes from no pod: the kubelet's do. Pods on
// a node's network share its address, and none of those calls a probed workload.
func (s *scenarioRun) fromNode(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	for _, pod := range s.e.pods.list("", nil) {
		if pod.Status.PodIP == host && !pod.Spec.HostNetwork {
			return false
		}
	}
	return true
}
