package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/scenarios"
)

// scale sets the number of a Deployment's pods, and waits until they are there or
// gone. When the policy controller has come back it waits for the proxies, too: one
// that had lost it connects again after a pause that may be longer than any change
// of policy may take (L-06).
func (s *scenarioRun) scale(ctx context.Context, a *scenarios.Scale) (string, error) {
	line := fmt.Sprintf("scale Deployment %s/%s to %d", a.Namespace, a.Name, a.Replicas)
	before, err := s.e.setReplicas(ctx, a.Namespace, a.Name, int32(a.Replicas))
	if err != nil {
		return line, input(a.Pos, err)
	}
	s.undo = append(s.undo, func(ctx context.Context) {
		if s.e.Leave {
			return // the cluster ends with the run
		}
		if _, err := s.e.setReplicas(ctx, a.Namespace, a.Name, before); err == nil {
			_ = s.e.awaitRollout(ctx, a.Namespace, nil)
		}
	})
	if err := s.e.awaitRollout(ctx, a.Namespace, func(string) bool { return true }); err != nil {
		return line, err
	}
	if a.Namespace != meshNamespace || a.Name != policyService || a.Replicas == 0 {
		return line, nil
	}
	return line, s.restored(ctx, versions{})
}

func (e *run) setReplicas(ctx context.Context, namespace, name string, replicas int32) (int32, error) {
	deployments := e.kube.typed.AppsV1().Deployments(namespace)
	scale, err := deployments.GetScale(ctx, name, metav1.GetOptions{})
	if err != nil {
		return 0, fmt.Errorf("read the size of Deployment %s/%s: %w", namespace, name, refusal(err))
	}
	// A patch: the Deployment's controller may write at the same time, and what
	// it writes is none of ours.
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if _, err := deployments.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}, "scale"); err != nil {
		return 0, fmt.Errorf("set the size of Deployment %s/%s: %w", namespace, name, refusal(err))
	}
	return scale.Spec.Replicas, nil
}

// awaitRollout waits until every Deployment of the namespace runs what it
// should. It waits for the last of the old pods, too, of those Deployments for
// which gone says so; nil means none.
func (e *run) awaitRollout(ctx context.Context, namespace string, gone func(deployment string) bool) error {
	return eventually(ctx, installBudget, func() error {
		list, err := e.kube.typed.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list the Deployments of %s: %w", namespace, err)
		}
		for _, d := range list.Items {
			if err := e.runs(&d); err != nil {
				return err
			}
			// A pod that is on its way out still answers whoever is connected.
			if n := e.pods.leaving(namespace, d.Spec.Selector.MatchLabels); n > 0 && gone != nil && gone(d.Name) {
				return fmt.Errorf("Deployment %s/%s is not rolled out: %d old pods are still there", namespace, d.Name, n)
			}
		}
		return nil
	})
}

// runs says why a Deployment does not run what it should; nil when it does.
func (e *run) runs(d *appsv1.Deployment) error {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	st := d.Status
	if st.ObservedGeneration >= d.Generation && st.UpdatedReplicas == want && st.AvailableReplicas == want && st.Replicas == want {
		return nil
	}
	for _, pod := range e.pods.list(d.Namespace, d.Spec.Selector.MatchLabels) {
		if !ready(pod) {
			return fmt.Errorf("Deployment %s/%s is not rolled out: %s", d.Namespace, d.Name, why(pod))
		}
	}
	return fmt.Errorf("Deployment %s/%s is not rolled out: %d of %d pods are available and new", d.Namespace, d.Name, min(st.UpdatedReplicas, st.AvailableReplicas), want)
}

// install pipes the installer's manifests into the cluster, as the document's
// upgrade does. Before another scenario needs them, and at the end of the run,
// the defaults are installed again.
func (s *scenarioRun) install(ctx context.Context, options InstallOptions) (string, error) {
	line := "install"
	if options.DefaultInboundPolicy != "" {
		line += " --default-inbound-policy " + options.DefaultInboundPolicy
	}
	if len(options.ClusterNetworks) > 0 {
		line += " --cluster-networks " + strings.Join(options.ClusterNetworks, ",")
	}
	if options.ProbeNetworks != nil {
		line += " --probe-networks " + strings.Join(options.ProbeNetworks, ",")
	}
	if options.HA {
		line += " --ha"
	}
	line += " | apply"
	s.e.installed = true
	s.waiting(line)
	if err := s.e.install(ctx, options); err != nil {
		return line, err
	}
	return line, s.inForce(ctx, s.endpoints(nil), versions{}, time.Time{})
}

func (e *run) install(ctx context.Context, options InstallOptions) error {
	if e.Manifests == nil {
		return errors.New("this run has no installer of the mesh")
	}
	text, err := e.Manifests(options)
	if err != nil {
		return fmt.Errorf("print the mesh's manifests: %w", err)
	}
	objects, err := scenarios.Objects("the mesh's manifests", text)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if _, err := e.kube.apply(ctx, object.Content, meshNamespace, false); err != nil {
			return err
		}
	}
	// API servers keep connections to the old injector, which answers on them with
	// the old settings until it is gone.
	if err := e.awaitRollout(ctx, meshNamespace, func(deployment string) bool { return deployment == injectorName }); err != nil {
		return err
	}
	e.settled = options
	want := options.DefaultInboundPolicy
	if want == "" {
		want = e.Mesh.DefaultPolicy
	}
	return eventually(ctx, settleBudget, func() error { return e.injects(ctx, want) })
}

// injectorName is the injector's Deployment.
const injectorName = "linkerd-proxy-injector"

// defaultPolicyEnv is how the injector hands a pod its default policy.
const defaultPolicyEnv = "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"

// injects says whether a pod that is created now gets that default policy. The
// old injector may answer for a moment after the new one is ready; so the
// injector is asked, by creating a pod without keeping it.
func (e *run) injects(ctx context.Context, policy string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mp-" + e.short() + "-asks", Namespace: e.clientsNamespace(),
		Annotations: map[string]string{injectKey: string(injected(true))}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "none", Image: "meshproof/none"}}}}
	if err := e.shared.ensure(ctx, e.clientsNamespace()); err != nil {
		return err
	}
	answer, err := e.kube.typed.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{FieldManager: fieldManager, DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return fmt.Errorf("ask the injector: %w", err)
	}
	for _, container := range slices.Concat(answer.Spec.InitContainers, answer.Spec.Containers) {
		for _, env := range container.Env {
			if container.Name == proxyContainer && env.Name == defaultPolicyEnv {
				if policy != "" && env.Value != policy {
					return fmt.Errorf("the injector still gives new pods the default policy %s", env.Value)
				}
				return nil
			}
		}
	}
	return errors.New("the injector gave a new pod no proxy with a default policy")
}

// webhooks waits until the API server reaches the mesh's webhooks: their pods may
// be ready before every API server and its Service rules know of them, and what
// is created meanwhile would stay without a proxy or pass unchecked.
func (e *run) webhooks(ctx context.Context) error {
	if err := eventually(ctx, settleBudget, func() error { return e.injects(ctx, e.Mesh.DefaultPolicy) }); err != nil {
		return fmt.Errorf("wait for the injector: %w", err)
	}
	if err := eventually(ctx, settleBudget, func() error { return e.validates(ctx, e.clientsNamespace()) }); err != nil {
		return fmt.Errorf("wait for the policy validator: %w", err)
	}
	return nil
}

// validates says whether the policy validator is asked: it must refuse this.
func (e *run) validates(ctx context.Context, namespace string) error {
	broken := map[string]any{"apiVersion": policyGroup + "/v1beta1", "kind": "Server", "metadata": map[string]any{"name": "healthy"},
		"spec": map[string]any{"podSelector": map[string]any{}, "port": "http", "proxyProtocol": "no such protocol"}}
	var refused *refusedError
	if _, err := e.kube.apply(ctx, broken, namespace, true); !errors.As(err, &refused) {
		return fmt.Errorf("the policy validator let an invalid Server pass: %v", err)
	}
	return nil
}
