package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// Those that are there were asked for otherwise.
	if _, _, err := s.worldPods(ctx); err != nil {
		return err
	}
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

// originOf is how a pod was asked for: the namespace and the settings are those that
// were known when it was seen first, and the template is its owner's. known is false
// where nobody knows: what the pod itself says is the injector's work, which is to be
// judged.
func (s *scenarioRun) originOf(ctx context.Context, pod *corev1.Pod) (origin oracle.Origin, known bool, err error) {
	s.mu.Lock()
	origin, bound := s.bound[pod.UID]
	asked, known := s.origins[originKey(pod)]
	s.mu.Unlock()
	if bound || !known {
		return origin, bound, nil
	}
	template, err := s.templateOf(ctx, pod)
	switch {
	case apierrors.IsNotFound(err):
		return origin, false, nil // its owner has gone, and it is to follow
	case err != nil:
		return origin, false, err
	case template != nil:
		asked.Pod = template
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, bound := s.bound[pod.UID]; bound {
		return first, true, nil // somebody else was quicker
	}
	s.bound[pod.UID] = asked
	return asked, true, nil
}

// templateOf is the template that a pod was made by, as the one who made it has it: a
// Deployment that was edited goes on with the old one until the new one's pods are
// there. nil is for a pod that nobody keeps, or somebody whose template cannot be
// edited.
func (s *scenarioRun) templateOf(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return nil, nil
	}
	apps := s.e.kube.typed.AppsV1()
	revision := ""
	switch owner.Kind {
	case "ReplicaSet":
	case "StatefulSet":
		revision = pod.Labels[appsv1.StatefulSetRevisionLabel]
	case "DaemonSet":
		revision = owner.Name + "-" + pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]
	default:
		return nil, nil
	}
	key := string(owner.UID) + "/" + revision
	s.mu.Lock()
	known := s.templates[key]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var template corev1.PodTemplateSpec
	if revision == "" {
		set, err := apps.ReplicaSets(pod.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read ReplicaSet %s/%s: %w", pod.Namespace, owner.Name, err)
		}
		template = set.Spec.Template
	} else {
		kept, err := apps.ControllerRevisions(pod.Namespace).Get(ctx, revision, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read ControllerRevision %s/%s: %w", pod.Namespace, revision, err)
		}
		if template, err = revised(kept.Data.Raw); err != nil {
			return nil, fmt.Errorf("read ControllerRevision %s/%s: %w", pod.Namespace, revision, err)
		}
	}
	known = history.Slim(&corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec})
	known.Namespace = pod.Namespace
	s.mu.Lock()
	defer s.mu.Unlock()
	s.templates[key] = known
	return known, nil
}

// revised is the template that a revision of a StatefulSet or DaemonSet holds: the
// patch that leads back to it.
func revised(data []byte) (corev1.PodTemplateSpec, error) {
	var kept struct {
		Spec struct {
			Template *corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(data, &kept); err != nil {
		return corev1.PodTemplateSpec{}, err
	}
	if kept.Spec.Template == nil {
		return corev1.PodTemplateSpec{}, errors.New("it holds no template")
	}
	return *kept.Spec.Template, nil
}
