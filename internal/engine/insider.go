package engine

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/scenarios"
)

// insider is the client in a pod of a workload, whose proxy is the pod's own: what
// it calls of that workload are calls of a pod to itself (B-02).
func (s *scenarioRun) insider(ctx context.Context, c scenarios.Client) (*clientPod, error) {
	var pod *corev1.Pod
	err := s.e.pods.started(ctx, podsBudget, func() (bool, string) {
		pods := s.componentPods(c.Inside)
		at := slices.IndexFunc(pods, ready)
		if at < 0 {
			return false, fmt.Sprintf("%s, in whose pods %s is to be, has none that is ready", c.Inside, c.Name)
		}
		pod = pods[at]
		return true, ""
	}, func() []*corev1.Pod { return s.componentPods(c.Inside) })
	if err != nil {
		return nil, err
	}
	out := &clientPod{name: nameOf(pod), meshed: meshed(pod), identity: identity(pod.Namespace, pod.Spec.ServiceAccountName)}
	out.address, _ = netip.ParseAddr(pod.Status.PodIP)
	out.agent = control.New(s.e.forward.transport(out.name, control.Port))
	if err := eventually(ctx, settleBudget, func() error { return out.agent.Ready(ctx) }); err != nil {
		return nil, fmt.Errorf("the agent in %s: %w", out.name, err)
	}
	out.clock = readClock(func() (time.Time, error) { return out.agent.Time(ctx) })
	return out, nil
}
