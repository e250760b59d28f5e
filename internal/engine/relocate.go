package engine

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/workloads/images"
)

// podSpecs are where kinds have the specification of their pods.
var podSpecs = map[string][]string{
	"Pod": {"spec"}, "Deployment": {"spec", "template", "spec"}, "ReplicaSet": {"spec", "template", "spec"}, "StatefulSet": {"spec", "template", "spec"},
	"DaemonSet": {"spec", "template", "spec"}, "Job": {"spec", "template", "spec"}, "CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
}

// relocate has the containers of an object take their images from the run's
// registry, and fetch them as the run says. It changes the object.
func (k *kube) relocate(object map[string]any) {
	kind, _ := object["kind"].(string)
	path, ok := podSpecs[kind]
	if !ok || k.registry == "" && k.pullPolicy == "" {
		return
	}
	for _, field := range path {
		if object, ok = object[field].(map[string]any); !ok {
			return
		}
	}
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := object[list].([]any)
		for _, one := range containers {
			container, ok := one.(map[string]any)
			if !ok {
				continue
			}
			if image, ok := container["image"].(string); ok {
				container["image"] = images.Relocate(image, k.registry)
			}
			if k.pullPolicy != "" {
				container["imagePullPolicy"] = string(k.pullPolicy)
			}
		}
	}
}

// relocatePod is relocate for a pod that is not applied but created.
func (k *kube) relocatePod(pod *corev1.Pod) {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Image = images.Relocate(containers[i].Image, k.registry)
			if k.pullPolicy != "" {
				containers[i].ImagePullPolicy = k.pullPolicy
			}
		}
	}
}
