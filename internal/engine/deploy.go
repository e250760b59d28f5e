package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshproof/meshproof/scenarios"
)

const (
	agentImage = "meshproof/agent:dev"
	// networkKey with the value outside asks for an address outside
	// clusterNetworks; it is the cluster package's OutsideAnnotation.
	networkKey = "meshproof.dev/network"
	runLabel   = "meshproof.dev/run"
	partOf     = "app.kubernetes.io/part-of"
	tool       = "meshproof"
	appLabel   = "app"
	// graceSeconds is what a pod of ours gets to end: it holds nothing dear.
	graceSeconds = int64(1)
)

// short is the part of the run's ID that tells runs apart in names.
func (e *run) short() string { return e.ID[strings.LastIndex(e.ID, "-")+1:] }

func (e *run) labels() map[string]string {
	return map[string]string{partOf: tool, runLabel: e.ID}
}

// makeNamespace makes a namespace; one that is on its way out is awaited.
func (e *run) makeNamespace(ctx context.Context, name string, labels, annotations map[string]string) error {
	all := e.labels()
	maps.Copy(all, labels)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all, Annotations: annotations}}
	deadline := time.Now().Add(settleBudget)
	for {
		_, err := e.kube.typed.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{FieldManager: fieldManager})
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make namespace %s: %w", name, err)
		}
		there, getErr := e.kube.typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if getErr == nil && there.DeletionTimestamp == nil {
			if there.Labels[partOf] == tool && there.Labels[runLabel] == e.ID {
				return nil // an earlier scenario of this run left it standing
			}
			return fmt.Errorf("make namespace %s: it exists and is not this run's: remove it, or let the other run finish", name)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("make namespace %s: the old one is still there after %s", name, settleBudget)
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// makeAccount makes a ServiceAccount unless it is there. The one called default
// is made too: waiting for the cluster to do so would take longer.
func (e *run) makeAccount(ctx context.Context, namespace, name string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account(name), Namespace: namespace, Labels: e.labels()}}
	_, err := e.kube.typed.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make ServiceAccount %s/%s: %w", namespace, account.Name, err)
	}
	return nil
}

func account(name string) string {
	if name == "" {
		return "default"
	}
	return name
}

// identity is the mesh identity of a ServiceAccount (rule X-70).
func identity(namespace, serviceAccount string) string {
	return account(serviceAccount) + "." + namespace + ".serviceaccount.identity.linkerd.cluster.local"
}

func injected(yes bool) map[string]string {
	if yes {
		return map[string]string{injectKey: "enabled"}
	}
	return map[string]string{injectKey: "disabled"}
}

// podTemplate is a pod of the agent image in one role.
func (e *run) podTemplate(role string, ports []corev1.ContainerPort, labels, annotations map[string]string, serviceAccount string) corev1.PodTemplateSpec {
	grace, links := graceSeconds, false
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
		Spec: corev1.PodSpec{
			ServiceAccountName: account(serviceAccount), TerminationGracePeriodSeconds: &grace, EnableServiceLinks: &links,
			Containers: []corev1.Container{{Name: role, Image: agentImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{role}, Ports: ports}},
		},
	}
}

// containerPorts are those of a component that are not left undeclared.
func containerPorts(component scenarios.Component, undeclared []string) []corev1.ContainerPort {
	var ports []corev1.ContainerPort
	for name, port := range component.Ports {
		declared := true
		for _, hidden := range undeclared {
			declared = declared && hidden != name
		}
		if declared {
			ports = append(ports, corev1.ContainerPort{Name: name, ContainerPort: int32(port.Container)})
		}
	}
	return ports
}

// deployWorkload creates a workload's objects; it does not wait.
func (s *scenarioRun) deployWorkload(ctx context.Context, w *scenarios.Workload) error {
	namespace := s.space(w.Namespace)
	if w.Kind == scenarios.Emojivoto {
		return s.deployEmojivoto(ctx, w, namespace)
	}
	if err := s.e.makeAccount(ctx, namespace, w.ServiceAccount); err != nil {
		return err
	}
	component := w.Components()[w.Name]
	labels := s.e.labels()
	maps.Copy(labels, w.Labels)
	labels[appLabel] = w.Name
	annotations := injected(w.Inject == nil || *w.Inject)
	maps.Copy(annotations, w.Annotations)
	var template corev1.PodTemplateSpec
	if w.Kind == scenarios.Probed {
		template = s.probedTemplate(w, labels, annotations)
	} else {
		template = s.e.podTemplate("echo", containerPorts(component, w.Undeclared), labels, annotations, w.ServiceAccount)
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: component.Service, Namespace: namespace, Labels: s.e.labels()},
		Spec: corev1.ServiceSpec{Selector: map[string]string{appLabel: w.Name}}}
	for name, port := range component.Ports {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(port.Service), TargetPort: intstr.FromInt32(int32(port.Container))})
	}
	if _, err := s.e.kube.typed.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{FieldManager: fieldManager}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make Service %s/%s: %w", namespace, service.Name, err)
	}
	if w.Form == scenarios.FormPod {
		pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
		pod.Name, pod.Namespace = w.Name, namespace
		if _, err := s.e.kube.typed.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
			return fmt.Errorf("make Pod %s/%s: %w", namespace, pod.Name, err)
		}
		return nil
	}
	replicas := int32(max(w.Replicas, 1))
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Namespace: namespace, Labels: s.e.labels(), Annotations: w.OwnAnnotations},
		Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: w.Name}}, Template: template}}
	if _, err := s.e.kube.typed.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("make Deployment %s/%s: %w", namespace, deployment.Name, err)
	}
	return nil
}

// componentPods are the pods behind a target's name.
func (s *scenarioRun) componentPods(name string) []*corev1.Pod {
	w, component, ok := s.planned.Component(name)
	if !ok {
		return nil
	}
	app := w.Name
	if w.Kind == scenarios.Emojivoto {
		app = component.Service
		if app == "" {
			app = name
		}
	}
	return s.e.pods.list(s.space(w.Namespace), map[string]string{appLabel: app})
}

// replicasOf is how many pods a component must have.
func replicasOf(w *scenarios.Workload) int {
	if w.Kind == scenarios.Emojivoto {
		return 1
	}
	return max(w.Replicas, 1)
}

// awaitWorkload waits until all pods of the workload are ready.
func (s *scenarioRun) awaitWorkload(ctx context.Context, w *scenarios.Workload) error {
	s.waiting("the pods of " + w.Name)
	err := s.e.pods.until(ctx, podsBudget, func() (bool, string) {
		for name := range w.Components() {
			pods := s.componentPods(name)
			if len(pods) < replicasOf(w) {
				return false, fmt.Sprintf("%s has %d of %d pods", name, len(pods), replicasOf(w))
			}
			for _, pod := range pods {
				if !ready(pod) {
					return false, why(pod)
				}
			}
		}
		return true, ""
	})
	if err != nil {
		return s.explain(ctx, err, s.space(w.Namespace))
	}
	if w.Kind != scenarios.Echo {
		return nil
	}
	// An echo declares no probe, so that policies cannot keep it from being
	// ready; whether it listens is asked over loopback.
	for _, pod := range s.componentPods(w.Name) {
		if err := eventually(ctx, settleBudget, func() error {
			_, err := s.e.deliveriesSince(ctx, nameOf(pod), 0)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// explain adds the namespace's warnings to an error about pods.
func (s *scenarioRun) explain(ctx context.Context, err error, namespace string) error {
	if ctx.Err() != nil {
		return err
	}
	for _, line := range s.e.kube.events(ctx, namespace, "", 3) {
		err = fmt.Errorf("%w; %s", err, line)
	}
	return err
}

// eventually repeats f until it succeeds; the last error is returned when the
// budget is spent.
func eventually(ctx context.Context, budget time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if pause(ctx, pollInterval) != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w, after %s", err, budget)
			}
			return err
		}
	}
}
