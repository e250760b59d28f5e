package engine

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// askedFor keeps how the pods of some objects are asked for now, before the
// injector sees them.
func (s *scenarioRun) askedFor(ctx context.Context, namespace string, objects []*unstructured.Unstructured) error {
	s.worldPods() // those that are there were asked for otherwise
	settings, err := s.e.settings()
	if err != nil {
		return err
	}
	now, err := s.e.kube.typed.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	origin := oracle.Origin{Settings: settings, Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Annotations: now.Annotations}}}
	for _, object := range objects {
		content := object.Object
		if content = scenarios.PodTemplate(content); content == nil {
			continue
		}
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, pod); err != nil {
			return fmt.Errorf("read the template of %s: %w", object.GetName(), err)
		}
		pod.Namespace = namespace
		origin.Pod = history.Slim(pod)
		s.mu.Lock()
		s.origins[originKey(pod)] = origin
		s.mu.Unlock()
	}
	return nil
}

// originKey is under what a pod's origin is kept: what all pods of one template
// have in common.
func originKey(pod *corev1.Pod) string {
	if part := pod.Labels[partLabel]; part != "" {
		return pod.Namespace + "/" + part
	}
	return pod.Namespace + "/" + pod.Labels[appLabel]
}

// standing are the objects as the cluster has them now, where they are Deployments:
// their templates may have been edited.
func (s *scenarioRun) standing(ctx context.Context, namespace string, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			out = append(out, object)
			continue
		}
		resource, _, err := s.e.kube.resource(object.GroupVersionKind(), namespace)
		if err != nil {
			return nil, err
		}
		now, err := resource.Get(ctx, object.GetName(), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read Deployment %s/%s: %w", namespace, object.GetName(), err)
		}
		out = append(out, now)
	}
	return out, nil
}

// originOf is how a pod was asked for: what was known when it was seen first.
func (s *scenarioRun) originOf(pod *corev1.Pod) (oracle.Origin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if origin, bound := s.bound[pod.UID]; bound {
		return origin, true
	}
	origin, known := s.origins[originKey(pod)]
	if known {
		s.bound[pod.UID] = origin
	}
	return origin, known
}
