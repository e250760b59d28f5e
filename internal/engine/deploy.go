package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/emojivoto"
	"github.com/meshproof/meshproof/workloads/manifests"
	"github.com/meshproof/meshproof/workloads/probed"
)

const (
	runLabel = "meshproof.dev/run"
	partOf   = "app.kubernetes.io/part-of"
	tool     = "meshproof"
	appLabel = "app"
	// podSecurity is the label by which a namespace says what its pods may.
	podSecurity = "pod-security.kubernetes.io/enforce"
	privileged  = "privileged"
	restricted  = "restricted"
	// graceSeconds is what a pod of ours gets to end: it holds nothing dear.
	graceSeconds = int64(1)
)

// short is the part of the run's ID that tells runs apart in names.
func (e *run) short() string { return e.ID[strings.LastIndex(e.ID, "-")+1:] }

func (e *run) labels() map[string]string {
	return map[string]string{partOf: tool, runLabel: e.ID}
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

func injected(yes bool) manifests.Mesh {
	if yes {
		return manifests.Meshed
	}
	return manifests.Unmeshed
}

// deployWorkload creates a workload's objects; it does not wait.
func (s *scenarioRun) deployWorkload(ctx context.Context, w *scenarios.Workload) error {
	namespace := s.space(w.Namespace)
	if err := s.e.makeAccount(ctx, namespace, w.ServiceAccount); err != nil {
		return err
	}
	objects, err := s.objectsOf(w, namespace)
	if err != nil {
		return err
	}
	for _, part := range w.Parts {
		if err := s.e.makeAccount(ctx, namespace, part.ServiceAccount); err != nil {
			return err
		}
	}
	if err := s.askedFor(ctx, namespace, objects); err != nil {
		return err
	}
	pods := 0
	for _, component := range w.Components() {
		pods += wanted(w, component)
	}
	return s.e.start(ctx, pods, func() error {
		for _, object := range objects {
			if _, err := s.e.kube.apply(ctx, object.Object, namespace, false); err != nil {
				return err
			}
		}
		return nil
	}, func() []*corev1.Pod { return s.podsOf(w) })
}

// podsOf are the pods of all components of a workload.
func (s *scenarioRun) podsOf(w *scenarios.Workload) (all []*corev1.Pod) {
	for name := range w.Components() {
		all = append(all, s.componentPods(name)...)
	}
	return all
}

// objectsOf writes a workload's objects.
func (s *scenarioRun) objectsOf(w *scenarios.Workload, namespace string) ([]*unstructured.Unstructured, error) {
	switch w.Kind {
	case scenarios.Emojivoto:
		return s.emojivoto(w, namespace)
	case scenarios.FromManifest:
		return s.fromFile(w), nil
	}
	labels := s.e.labels()
	maps.Copy(labels, w.Labels)
	options := manifests.Options{Name: w.Name, Namespace: namespace, ServiceAccount: w.ServiceAccount, Mesh: injected(w.Inject == nil || *w.Inject),
		Labels: labels, Annotations: w.Annotations, Replicas: int32(w.Replicas), Spread: s.e.labels(), Apart: w.Apart}
	objects := manifests.Echo(options)
	if w.Kind == scenarios.Probed {
		var err error
		objects, err = manifests.Probed(manifests.ProbedOptions{Options: options, Readiness: probed.Kind(w.Readiness), Liveness: probed.Kind(w.Liveness),
			LivenessFailures: int32(w.LivenessFailures)})
		if err != nil {
			return nil, err
		}
	}
	for i, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
			return nil, fmt.Errorf("read the manifest of %s: %w", w.Name, err)
		}
		containers := deployment.Spec.Template.Spec.Containers
		containers[0].Ports = slices.DeleteFunc(containers[0].Ports, func(p corev1.ContainerPort) bool { return slices.Contains(w.Undeclared, p.Name) })
		w.Declare(&deployment.Spec.Template.Spec)
		if slices.ContainsFunc(s.planned.Spec.Clients, func(c scenarios.Client) bool { return c.Inside == w.Name }) {
			manifests.AddAgent(&deployment.Spec.Template.Spec)
		}
		deployment.Annotations = w.OwnAnnotations
		var changed any = &deployment
		if w.Form == scenarios.FormPod {
			pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
			pod.Name, pod.Namespace = w.Name, namespace
			changed = pod
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(changed)
		if err != nil {
			return nil, fmt.Errorf("write the manifest of %s: %w", w.Name, err)
		}
		delete(content, "status")
		objects[i] = &unstructured.Unstructured{Object: content}
	}
	return objects, nil
}

// emojivoto is the sample application as published, asked for a proxy as
// `meshproof inject` does, in the namespace of the scenario.
func (s *scenarioRun) emojivoto(w *scenarios.Workload, namespace string) ([]*unstructured.Unstructured, error) {
	objects, err := manifests.Parse(emojivoto.Manifest())
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			continue // made already, with the scenario's annotations
		}
		object.SetNamespace(namespace)
		if object.GetKind() == "Deployment" {
			path := []string{"spec", "template", "metadata", "annotations"}
			annotations, _, _ := unstructured.NestedStringMap(object.Object, path...)
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[injectKey] = string(injected(w.Inject == nil || *w.Inject))
			maps.Copy(annotations, w.Annotations)
			if err := unstructured.SetNestedStringMap(object.Object, annotations, path...); err != nil {
				return nil, fmt.Errorf("annotate %s: %w", object.GetName(), err)
			}
		}
		out = append(out, object)
	}
	return out, nil
}

// componentPods are the pods behind a target's name.
func (s *scenarioRun) componentPods(name string) []*corev1.Pod {
	namespace, match, ok := s.selects(name)
	if !ok {
		return nil
	}
	return s.e.pods.list(namespace, match)
}

// selects are the namespace and the labels of the pods behind a target's name.
func (s *scenarioRun) selects(name string) (namespace string, match map[string]string, ok bool) {
	w, component, ok := s.planned.Component(name)
	if !ok {
		return "", nil, false
	}
	namespace = s.space(w.Namespace)
	if w.Kind == scenarios.FromManifest {
		return namespace, map[string]string{partLabel: name}, true
	}
	app := w.Name
	if w.Kind == scenarios.Emojivoto {
		app = component.Service
		if app == "" {
			app = name
		}
	}
	return namespace, map[string]string{appLabel: app}, true
}

// wanted is how many pods a component of a workload must have.
func wanted(w *scenarios.Workload, component scenarios.Component) int {
	if w.Kind == scenarios.FromManifest {
		return component.Replicas
	}
	return replicasOf(w)
}

// replicasOf is how many pods each component of a workload of ours must have.
func replicasOf(w *scenarios.Workload) int {
	if w.Kind == scenarios.Emojivoto {
		return 1
	}
	return max(w.Replicas, 1)
}

// awaitWorkload waits until all pods of the workload are there, or ready.
func (s *scenarioRun) awaitWorkload(ctx context.Context, w *scenarios.Workload, await scenarios.Await) error {
	if await == scenarios.AwaitNone {
		return nil
	}
	s.waiting("the pods of " + w.Name)
	err := s.e.pods.started(ctx, podsBudget, func() (bool, string) {
		for name, component := range w.Components() {
			pods := s.componentPods(name)
			if len(pods) < wanted(w, component) {
				return false, fmt.Sprintf("%s has %d of %d pods", name, len(pods), wanted(w, component))
			}
			for _, pod := range pods {
				if await != scenarios.AwaitCreated && !ready(pod) {
					return false, why(pod)
				}
			}
		}
		return true, ""
	}, func() []*corev1.Pod { return s.podsOf(w) })
	if err != nil {
		return s.explain(ctx, err, s.space(w.Namespace))
	}
	if await == scenarios.AwaitCreated {
		return nil
	}
	// Neither an echo nor the sample application declares probes, so that
	// policies cannot keep them from being ready; whether they listen is asked
	// over loopback.
	return s.listening(ctx, w)
}

// listening waits until the applications of a workload do.
func (s *scenarioRun) listening(ctx context.Context, w *scenarios.Workload) error {
	group := newGroup()
	for name := range w.Components() {
		for _, pod := range s.componentPods(name) {
			group.do(func() error {
				return eventually(ctx, settleBudget, func() error { return s.e.listens(ctx, w.Kind, name, pod) })
			})
		}
	}
	return group.wait()
}

// listens asks an application over loopback whether it is there.
func (e *run) listens(ctx context.Context, kind scenarios.WorkloadKind, component string, pod *corev1.Pod) error {
	var body []byte
	switch {
	case kind == scenarios.Echo, tells(pod):
		_, err := e.deliveriesSince(ctx, nameOf(pod), 0)
		return err
	case kind == scenarios.Emojivoto && component == "web":
		// The list comes from emoji: the answer says that web reaches it.
		return e.get(ctx, nameOf(pod), webPort, "/api/list", nil, &body)
	case kind == scenarios.Emojivoto && component != "vote-bot":
		return e.get(ctx, nameOf(pod), promPort, "/metrics", nil, &body)
	}
	return nil
}

// explain adds the namespace's warnings to an error about pods.
func (s *scenarioRun) explain(ctx context.Context, err error, namespace string) error {
	if ctx.Err() != nil {
		return err
	}
	for _, line := range s.e.kube.events(ctx, namespace, "", 3) {
		if _, message, _ := strings.Cut(line, ": "); !strings.Contains(err.Error(), message) { // else it says nothing new
			err = fmt.Errorf("%w; %s", err, line)
		}
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
