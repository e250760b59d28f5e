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
)

// askedFor keeps how the pods of some objects are asked for now, before the
// injector sees them.
func (s *scenarioRun) askedFor(ctx context.Context, namespace string, objects []*unstructured.Unstructured) error {
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
		switch object.GetKind() {
		case "Deployment":
			if content, _, err = unstructured.NestedMap(object.Object, "spec", "template"); err != nil {
				return fmt.Errorf("read the template of %s: %w", object.GetName(), err)
			}
		case "Pod":
		default:
			continue
		}
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, pod); err != nil {
			return fmt.Errorf("read the template of %s: %w", object.GetName(), err)
		}
		pod.Namespace = namespace
		origin.Pod = history.Slim(pod)
		s.mu.Lock()
		s.origins[namespace+"/"+pod.Labels[appLabel]] = origin
		s.mu.Unlock()
	}
	return nil
}
