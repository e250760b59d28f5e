package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/scenarios"
)

// Faults of the mesh that are made of what the Kubernetes API offers, and so on
// every cluster.

const (
	// lifetimeFlag sets how long certificates live that the identity service signs.
	lifetimeFlag = "--issuance-lifetime="
	// shortLife is longer than the least time after which proxies renew theirs, and
	// short enough to wait for its end.
	shortLife = 15 * time.Second
	// expiryBudget is from the start of pods with such certificates to their end.
	expiryBudget = 2 * shortLife
	// awayLabel selects no pod.
	awayLabel = "meshproof.dev/away"
)

// shortCertificates has the identity service sign certificates of a short life.
func shortCertificates(ctx context.Context, s *scenarioRun, f *faultRun) error {
	deployments := s.e.kube.typed.AppsV1().Deployments(meshNamespace)
	now, err := deployments.Get(ctx, identityDeploy, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Deployment %s: %w", identityDeploy, err)
	}
	was := now.Spec.Template.Spec.Containers[0]
	args := slices.DeleteFunc(slices.Clone(was.Args), func(arg string) bool { return strings.HasPrefix(arg, lifetimeFlag) })
	f.onLift(func(ctx context.Context) error { return s.e.setArgs(ctx, identityDeploy, was.Name, was.Args) })
	if err := s.e.setArgs(ctx, identityDeploy, was.Name, append(args, lifetimeFlag+shortLife.String())); err != nil {
		return err
	}
	return s.e.awaitRollout(ctx, meshNamespace, func(name string) bool { return name == identityDeploy })
}

// setArgs gives a container of the control plane other arguments.
func (e *run) setArgs(ctx context.Context, deployment, container string, args []string) error {
	patch := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
		"containers": []any{map[string]any{"name": container, "args": args}}}}}}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	var done *appsv1.Deployment
	if done, err = e.kube.typed.AppsV1().Deployments(meshNamespace).Patch(ctx, deployment, types.StrategicMergePatchType, body, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("change the arguments of Deployment %s: %w", deployment, refusal(err))
	}
	for _, c := range done.Spec.Template.Spec.Containers {
		if c.Name == container && !slices.Equal(c.Args, args) {
			return fmt.Errorf("change the arguments of Deployment %s: it kept %q", deployment, c.Args)
		}
	}
	return nil
}

// expire starts the fault's pods again with certificates of a short life, takes
// the identity service away, and waits for the certificates' end.
func expire(ctx context.Context, s *scenarioRun, f *faultRun) error {
	if err := shortCertificates(ctx, s, f); err != nil {
		return err
	}
	w := s.workload(f.Workload)
	if err := s.restart(ctx, w, ""); err != nil {
		return err
	}
	s.mu.Lock()
	f.pods = nil
	for name := range w.Components() {
		for _, pod := range s.componentPods(name) {
			f.pods = append(f.pods, nameOf(pod).String())
		}
	}
	s.mu.Unlock()
	if err := away(identityDeploy)(ctx, s, f); err != nil {
		return err
	}
	var end time.Time
	for _, pod := range s.podsOfFault(f) {
		at, err := s.e.certifiedUntil(ctx, nameOf(pod))
		if err != nil {
			return err
		}
		if at.After(end) {
			end = at
		}
	}
	if rest := time.Until(end); rest > expiryBudget {
		return fmt.Errorf("certificates of %s live for another %s: the identity service does not heed %s", f.Workload, rest.Round(time.Second), lifetimeFlag)
	}
	return pause(ctx, time.Until(end))
}

// recertified waits until the pods of which the certificates had ended have others:
// who was turned away tries again only after a while.
func (s *scenarioRun) recertified(ctx context.Context, f *faultRun) error {
	if f.Kind != scenarios.CertificateExpired {
		return nil
	}
	for _, pod := range s.podsOfFault(f) {
		if err := eventually(ctx, settleBudget, func() error {
			end, err := s.e.certifiedUntil(ctx, nameOf(pod))
			if err == nil && !end.After(time.Now()) {
				err = fmt.Errorf("the certificate of %s has ended at %s, and it has no other", nameOf(pod), end)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// certifiedUntil is when the certificate of a pod's proxy ends.
func (e *run) certifiedUntil(ctx context.Context, pod types.NamespacedName) (time.Time, error) {
	page, err := e.metrics(ctx, pod)
	if err != nil {
		return time.Time{}, err
	}
	const gauge = "identity_cert_expiration_timestamp_seconds "
	for line := range strings.Lines(string(page)) {
		if text, ok := strings.CutPrefix(line, gauge); ok {
			var seconds float64
			if _, err := fmt.Sscan(text, &seconds); err != nil || seconds == 0 {
				return time.Time{}, fmt.Errorf("%s has no certificate: %s", pod, line)
			}
			return time.UnixMilli(int64(seconds * 1000)), nil
		}
	}
	return time.Time{}, errors.New(pod.String() + " does not tell when its certificate ends")
}

// noAdmission leads whoever asks for a check of policy objects to nobody.
func noAdmission(ctx context.Context, s *scenarioRun, f *faultRun) error {
	set := func(ctx context.Context, value any) error {
		patch := map[string]any{"spec": map[string]any{"selector": map[string]any{awayLabel: value}}}
		if _, err := s.e.kube.merge(ctx, "Service", meshNamespace, validatorName, patch); err != nil {
			return err
		}
		// Until those who ask have learnt it.
		return eventually(ctx, settleBudget, func() error {
			_, err := s.e.kube.apply(ctx, refusedObject(), s.namespace, true)
			switch {
			case value == nil && err == nil:
				return errors.New("an object that is refused is still taken")
			case value != nil && err != nil:
				return fmt.Errorf("an object that is refused is not taken yet: %w", err)
			}
			return nil
		})
	}
	f.onLift(func(ctx context.Context) error { return set(ctx, nil) })
	return set(ctx, "yes")
}

// refusedObject is one that only the mesh's check of objects refuses.
func refusedObject() map[string]any {
	return map[string]any{"apiVersion": "policy.linkerd.io/v1alpha1", "kind": "NetworkAuthentication", "metadata": map[string]any{"name": "refused"},
		"spec": map[string]any{"networks": []any{map[string]any{"cidr": "10.0.0.0/8", "except": []any{"11.0.0.0/16"}}}}}
}
