package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/images"
)

// partLabel is on the pods of a workload of kind manifest, with the name of the
// object that they are of: what labels of their own they have is their author's.
const partLabel = "meshproof.dev/part"

// fromFile writes the objects of a workload of kind manifest: as they stand in
// the file, but in the scenario's namespace, and with pods that can be told apart
// and ask for a proxy unless they say otherwise.
func (s *scenarioRun) fromFile(w *scenarios.Workload) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, object := range s.e.plan.Set.ManifestOf(s.planned.Scenario, w.Manifest) {
		if object.Content["kind"] == "Namespace" {
			continue // made already, with the scenario's annotations
		}
		content := s.expand(object.Content).(map[string]any)
		one := &unstructured.Unstructured{Object: content}
		one.SetNamespace("")
		if template := scenarios.PodTemplate(content); template != nil {
			metadata := madeWithin(template, "metadata")
			madeWithin(metadata, "labels")[partLabel] = one.GetName()
			annotations := madeWithin(metadata, "annotations")
			if _, says := annotations[injectKey]; !says {
				annotations[injectKey] = string(injected(w.Inject == nil || *w.Inject))
			}
		}
		out = append(out, one)
	}
	return out
}

// madeWithin is a map inside another, made when it is not there.
func madeWithin(object map[string]any, field string) map[string]any {
	inner, _ := object[field].(map[string]any)
	if inner == nil {
		inner = map[string]any{}
		object[field] = inner
	}
	return inner
}

// removeFile deletes what makes the pods of a workload of kind manifest.
func (s *scenarioRun) removeFile(ctx context.Context, w *scenarios.Workload) error {
	for _, object := range s.fromFile(w) {
		if scenarios.PodTemplate(object.Object) == nil {
			continue
		}
		if _, err := s.e.kube.remove(ctx, object.GetKind(), s.space(w.Namespace), object.GetName()); err != nil {
			return err
		}
	}
	return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		for name := range w.Components() {
			if pods := s.componentPods(name); len(pods) > 0 {
				return false, fmt.Sprintf("%s still has %d pods", name, len(pods))
			}
		}
		return true, ""
	})
}

// tells says whether something in a pod stands in for its image, and so tells of
// deliveries as an echo does.
func tells(pod *corev1.Pod) bool { return len(standIns(pod)) > 0 }

// standIns are the containers of a pod in which something stands in for their
// image, as CONTAINER (IMAGE).
func standIns(pod *corev1.Pod) []string {
	var all []string
	for _, status := range pod.Status.ContainerStatuses {
		if image, ok := strings.CutPrefix(status.ImageID, images.StandInPrefix); ok {
			all = append(all, status.Name+" ("+image+")")
		}
	}
	return all
}

// noteStandIns puts into the result in whose place something else ran.
func (s *scenarioRun) noteStandIns() {
	for i := range s.planned.Spec.Workloads {
		for name := range s.planned.Spec.Workloads[i].Components() {
			for _, pod := range s.componentPods(name) {
				for _, one := range standIns(pod) {
					if text := name + ": " + one; !slices.Contains(s.res.StandIns, text) {
						s.res.StandIns = append(s.res.StandIns, text)
					}
				}
			}
		}
	}
	slices.Sort(s.res.StandIns)
}
