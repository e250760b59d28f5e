package engine

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/scenarios"
)

// Teller is a part of the mesh that tells metrics: a part of the control plane in
// a pod, or a proxy.
type Teller struct {
	// Part is policy, destination, identity or injector, or proxy.
	Part string
	Pod  types.NamespacedName
	port int
}

// ProxyPart is the Part of proxies.
const ProxyPart = "proxy"

// Tellers are all that stand at this moment, oldest pods first.
func (b *Bench) Tellers() []Teller {
	var out []Teller
	for _, pod := range b.e.pods.list(meshNamespace, nil) {
		for _, name := range (scenarios.ControlPlanePart("")).Values() {
			one := parts[scenarios.ControlPlanePart(name)]
			if Ready(pod) && slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == one.container }) {
				out = append(out, Teller{name, nameOf(pod), one.metrics})
			}
		}
	}
	for _, pod := range b.e.pods.list(corev1.NamespaceAll, nil) {
		if Ready(pod) && meshed(pod) {
			out = append(out, Teller{ProxyPart, nameOf(pod), adminPort})
		}
	}
	return out
}

// Metrics is the text of what a teller counts.
func (b *Bench) Metrics(ctx context.Context, of Teller) ([]byte, error) {
	return b.e.metricsOf(ctx, teller{of.Pod, of.port})
}
