package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/scenarios"
)

// act does one action, waits as it says, and returns a line about it.
func (s *scenarioRun) act(ctx context.Context, a *scenarios.Action) (string, error) {
	if why := s.lackedByAction(a); why != "" {
		return "left out: " + why, nil
	}
	if !s.e.dialect().For(a.Dialects) {
		return "left out: it is for another dialect", nil
	}
	defer s.lane.In(phaseOf(a))()
	switch {
	case a.Apply != nil:
		return s.apply(ctx, a.Apply, a.Wait)
	case a.Manifest != "":
		line, err := s.apply(ctx, s.e.plan.Set.ManifestOf(s.planned.Scenario, a.Manifest), a.Wait)
		return a.Manifest + ": " + line, err
	case a.Delete != nil:
		return s.remove(ctx, a)
	case a.Patch != nil:
		return s.patch(ctx, a)
	case a.Annotate != nil:
		return s.annotate(ctx, "annotations", a.Annotate, a.Wait)
	case a.Label != nil:
		return s.annotate(ctx, "labels", a.Label, a.Wait)
	case a.Restart != nil:
		return "restart " + a.Restart.Workload, s.restart(ctx, s.workload(a.Restart.Workload), a.Restart.Await)
	case a.Deploy != nil:
		w := s.workload(a.Deploy.Workload)
		if err := s.deployWorkload(ctx, w); err != nil {
			return "deploy " + w.Name, err
		}
		return "deploy " + w.Name, s.deployed(ctx, w, a.Deploy.Await)
	case a.Await != nil:
		return "await " + a.Await.Workload, s.deployed(ctx, s.workload(a.Await.Workload), a.Await.Await)
	case a.Remove != nil:
		w := s.workload(a.Remove.Workload)
		return "remove " + w.Name, s.removeWorkload(ctx, w)
	case a.Scale != nil:
		return s.scale(ctx, a.Scale)
	case a.Install != nil:
		options := InstallOptions{DefaultInboundPolicy: a.Install.DefaultInboundPolicy, HA: a.Install.HA}
		for _, network := range a.Install.ClusterNetworks {
			options.ClusterNetworks = append(options.ClusterNetworks, s.text(network))
		}
		if a.Install.ProbeNetworks != nil {
			options.ProbeNetworks = []string{}
			for _, network := range a.Install.ProbeNetworks {
				options.ProbeNetworks = append(options.ProbeNetworks, s.text(network))
			}
		}
		called := time.Now()
		line, err := s.install(ctx, options)
		if err == nil {
			err = s.recorder.installed(ctx, called)
		}
		return line, err
	case a.Start != nil:
		return s.start(ctx, a.Start)
	case a.Stop != nil:
		return "stop stream " + a.Stop.Stream, s.streams[a.Stop.Stream].stop(ctx)
	case a.Hold != nil:
		return s.hold(ctx, a.Hold)
	case a.Fault != nil:
		return s.fault(ctx, a.Fault)
	case a.Heal != "":
		return s.heal(ctx, a.Heal)
	}
	return "nothing", nil
}

// phaseOf is what the time of an action goes into, waiting for policy aside.
func phaseOf(a *scenarios.Action) walltime.Phase {
	switch {
	case a.Restart != nil, a.Deploy != nil, a.Await != nil, a.Remove != nil:
		return walltime.Pods
	case a.Scale != nil, a.Install != nil:
		return walltime.Mesh
	case a.Start != nil, a.Stop != nil, a.Hold != nil:
		return walltime.Windows
	case a.Fault != nil, a.Heal != "":
		return walltime.Faults
	}
	return walltime.Writes
}

func (s *scenarioRun) workload(name string) *scenarios.Workload {
	for i := range s.planned.Spec.Workloads {
		if s.planned.Spec.Workloads[i].Name == name {
			return &s.planned.Spec.Workloads[i]
		}
	}
	return nil // the parser has refused it
}

// expand replaces the named values in a value of an object.
func (s *scenarioRun) expand(value any) any {
	switch value := value.(type) {
	case string:
		text, err := scenarios.Expand(value, s.values)
		if err != nil {
			return value // the parser has refused it
		}
		return text
	case map[string]any:
		out := make(map[string]any, len(value))
		for key, inner := range value {
			out[key] = s.expand(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, inner := range value {
			out[i] = s.expand(inner)
		}
		return out
	}
	return value
}

func (s *scenarioRun) text(value string) string { return s.expand(value).(string) }

// apply applies objects as one kubectl apply does: one after the other without
// waiting, and then waits for all of them.
func (s *scenarioRun) apply(ctx context.Context, objects []scenarios.Object, wait scenarios.Wait) (string, error) {
	var writes []write
	var lines []string
	for _, object := range objects {
		content := s.expand(object.Content).(map[string]any)
		w, err := s.e.kube.apply(ctx, content, s.namespace, false)
		if err != nil {
			return "apply", input(object.Pos, err)
		}
		writes = append(writes, w)
		lines = append(lines, w.kind+" "+w.name)
		if !s.owns(w.namespace) {
			s.undo = append(s.undo, func(ctx context.Context) { _, _ = s.e.kube.remove(ctx, w.kind, w.namespace, w.name) })
		}
	}
	return "apply " + strings.Join(lines, ", "), s.settle(ctx, writes, wait)
}

// owns says whether a namespace goes with the scenario.
func (s *scenarioRun) owns(namespace string) bool {
	return namespace == s.namespace || slices.Contains(s.furtherNamespaces(), namespace)
}

func (s *scenarioRun) inNamespace(name string) string {
	if name == "" {
		return s.namespace
	}
	return s.text(name)
}

func (s *scenarioRun) remove(ctx context.Context, a *scenarios.Action) (string, error) {
	var writes []write
	var lines []string
	for _, ref := range a.Delete {
		w, err := s.e.kube.remove(ctx, ref.Kind, s.inNamespace(ref.Namespace), s.text(ref.Name))
		if err != nil {
			return "delete " + ref.Kind + " " + ref.Name, input(ref.Pos, err)
		}
		writes = append(writes, w)
		lines = append(lines, w.kind+" "+w.name)
	}
	return "delete " + strings.Join(lines, ", "), s.settle(ctx, writes, a.Wait)
}

// input marks a refusal by the API server as a fault of the scenario.
func input(at scenarios.Pos, err error) error {
	var refused *refusedError
	if errors.As(err, &refused) {
		return &inputError{at, err}
	}
	return err
}

// about says which part of the scenario an error is about.
func about(at scenarios.Pos, part string, err error) error {
	err = fmt.Errorf("%s: %w", part, err)
	if marked := input(at, err); marked != err {
		return marked
	}
	return fmt.Errorf("%s: %w", at, err)
}

func (s *scenarioRun) patch(ctx context.Context, a *scenarios.Action) (string, error) {
	p := a.Patch
	var subresources []string
	if p.Subresource != "" {
		subresources = append(subresources, string(p.Subresource))
	}
	w, err := s.e.kube.merge(ctx, p.Kind, s.inNamespace(p.Namespace), s.text(p.Name), s.expand(p.Merge.Content).(map[string]any), subresources...)
	if err != nil {
		return "patch " + p.Kind + " " + p.Name, input(p.Pos, err)
	}
	return "patch " + p.Kind + " " + p.Name, s.settle(ctx, []write{w}, a.Wait)
}

// annotate sets annotations or labels of an object or of a workload's pods.
func (s *scenarioRun) annotate(ctx context.Context, field string, a *scenarios.Annotate, wait scenarios.Wait) (string, error) {
	set := map[string]any{}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(a.Set)) {
		set[key] = s.text(a.Set[key])
		parts = append(parts, key+"="+s.text(a.Set[key]))
	}
	for _, key := range a.Remove {
		set[key] = nil
		parts = append(parts, key+"-")
	}
	patch := map[string]any{"metadata": map[string]any{field: set}}
	line := fmt.Sprintf("set %s of %s %s%s: %s", field, a.Kind, a.Name, a.Workload, strings.Join(parts, ", "))
	var writes []write
	if a.Workload == "" {
		w, err := s.e.kube.merge(ctx, a.Kind, s.inNamespace(a.Namespace), s.text(a.Name), patch)
		if err != nil {
			return line, input(a.Pos, err)
		}
		writes = append(writes, w)
		return line, s.settle(ctx, writes, wait)
	}
	for _, pod := range s.componentPods(a.Workload) {
		w, err := s.e.kube.merge(ctx, "Pod", pod.Namespace, pod.Name, patch)
		if err != nil {
			return line, input(a.Pos, err)
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return line, fmt.Errorf("%s has no pods", a.Workload)
	}
	// The claims are judged by the pods as the store has them.
	if err := s.e.pods.until(ctx, settleBudget, func() (bool, string) { return s.e.pods.seen(writes) }); err != nil {
		return line, err
	}
	return line, s.settle(ctx, writes, wait)
}

// deployed waits for a new or restarted workload and its policies.
func (s *scenarioRun) deployed(ctx context.Context, w *scenarios.Workload, await scenarios.Await) error {
	if err := s.awaitWorkload(ctx, w, await); err != nil || await == scenarios.AwaitNone || await == scenarios.AwaitCreated {
		return err
	}
	if err := s.rolledOut(ctx, w); err != nil {
		return err
	}
	if err := s.reachable(ctx, func(other *scenarios.Workload) bool { return other == w }); err != nil {
		return err
	}
	return s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

// rolledOut waits until the Deployments of a workload, whose pods are ready, have no
// others left: one whose template was edited keeps the pods of the old one until those
// of the new one are ready, and makes some again that were deleted. Those that are on
// their way out are calls led to for as long as nodes and proxies have not heard of it,
// and they answer by the policy that they were made with.
func (s *scenarioRun) rolledOut(ctx context.Context, w *scenarios.Workload) error {
	namespace := s.space(w.Namespace)
	objects, err := s.objectsOf(w, namespace)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		if err := eventually(ctx, podsBudget, func() error { return s.e.alone(ctx, namespace, object.GetName()) }); err != nil {
			return err
		}
	}
	return nil
}

// alone says why a Deployment has other pods than it should; nil when it has none.
func (e *run) alone(ctx context.Context, namespace, name string) error {
	d, err := e.kube.typed.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Deployment %s/%s: %w", namespace, name, err)
	}
	if err := e.runs(d); err != nil {
		return err
	}
	if n := e.pods.leaving(namespace, d.Spec.Selector.MatchLabels); n > 0 {
		return fmt.Errorf("Deployment %s/%s still has %d pods on their way out", namespace, name, n)
	}
	return nil
}

func (s *scenarioRun) restart(ctx context.Context, w *scenarios.Workload, await scenarios.Await) error {
	objects, err := s.objectsOf(w, s.space(w.Namespace))
	if err != nil {
		return err
	}
	if err := s.askedFor(ctx, s.space(w.Namespace), objects); err != nil {
		return err
	}
	old := map[types.UID]bool{}
	grace := graceSeconds
	for name := range w.Components() {
		for _, pod := range s.componentPods(name) {
			old[pod.UID] = true
			if err := s.e.kube.typed.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("delete pod %s: %w", nameOf(pod), err)
			}
			s.e.forward.drop(nameOf(pod))
		}
	}
	// The old pods leave the list as soon as their deletion is under way.
	err = s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		for name := range w.Components() {
			for _, pod := range s.componentPods(name) {
				if old[pod.UID] {
					return false, "pod " + pod.Name + " is still there"
				}
			}
		}
		return true, ""
	})
	if err != nil {
		return err
	}
	if w.Form == scenarios.FormPod {
		if err := s.gone(ctx, w); err != nil {
			return err
		}
		if err := s.deployWorkload(ctx, w); err != nil {
			return err
		}
	}
	return s.deployed(ctx, w, await)
}

// gone waits until a bare Pod's name is free.
func (s *scenarioRun) gone(ctx context.Context, w *scenarios.Workload) error {
	name := types.NamespacedName{Namespace: s.space(w.Namespace), Name: w.Name}
	return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		_, there := s.e.pods.get(name)
		return !there, fmt.Sprintf("pod %s is still there", name)
	})
}

func (s *scenarioRun) removeWorkload(ctx context.Context, w *scenarios.Workload) error {
	if w.Kind == scenarios.FromManifest {
		return s.removeFile(ctx, w)
	}
	namespace := s.space(w.Namespace)
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	var err error
	if w.Form == scenarios.FormPod {
		err = s.e.kube.typed.CoreV1().Pods(namespace).Delete(ctx, w.Name, options)
	} else {
		err = s.e.kube.typed.AppsV1().Deployments(namespace).Delete(ctx, w.Name, options)
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove %s: %w", w.Name, err)
	}
	return s.e.pods.until(ctx, settleBudget, func() (bool, string) {
		pods := s.componentPods(w.Name)
		return len(pods) == 0, fmt.Sprintf("%s still has %d pods", w.Name, len(pods))
	})
}
