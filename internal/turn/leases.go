package turn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// Namespace holds the Leases: it is the mesh's.
const Namespace = values.Namespace

const (
	// prefix is before the run's id in a Lease's name.
	prefix = "meshproof-run-"
	// RunLabel's value is the run's id.
	RunLabel = "meshproof.dev/run"

	partOf          = "app.kubernetes.io/part-of"
	tool            = "meshproof"
	phaseAnnotation = "meshproof.dev/phase"
	sinceAnnotation = "meshproof.dev/wants-since"
	fieldManager    = "meshproof"
)

// Holder tells people whose run this is: the user, where known, and the host or
// pod.
func Holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	if user := os.Getenv("USER"); user != "" {
		return user + "@" + host
	}
	return host
}

// leases keeps the Leases in the API.
type leases struct{ client kubernetes.Interface }

func (l *leases) list(ctx context.Context) ([]member, error) {
	// No resourceVersion: the answer is not older than the question.
	found, err := l.client.CoordinationV1().Leases(Namespace).List(ctx, metav1.ListOptions{LabelSelector: RunLabel})
	if err != nil {
		return nil, fmt.Errorf("list the leases in namespace %s: %w", Namespace, err)
	}
	var out []member
	for _, lease := range found.Items {
		m := member{id: lease.Labels[RunLabel], phase: Phase(lease.Annotations[phaseAnnotation]), lifetime: lifetime, uid: string(lease.UID), version: lease.ResourceVersion}
		if lease.Spec.HolderIdentity != nil {
			m.holder = *lease.Spec.HolderIdentity
		}
		if lease.Spec.LeaseDurationSeconds != nil {
			m.lifetime = time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
		}
		m.since, _ = time.Parse(time.RFC3339Nano, lease.Annotations[sinceAnnotation])
		out = append(out, m)
	}
	return out, nil
}

func (l *leases) create(ctx context.Context, m member) error {
	seconds, now := int32(m.lifetime/time.Second), metav1.NowMicro()
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: prefix + m.id, Namespace: Namespace, Labels: map[string]string{partOf: tool, RunLabel: m.id}, Annotations: annotations(m)},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &m.holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now},
	}
	_, err := l.client.CoordinationV1().Leases(Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		// The mesh's namespace is there before the mesh, then; its label says that
		// this run made it.
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace, Labels: map[string]string{partOf: tool, RunLabel: m.id}}}
		_, err = l.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{FieldManager: fieldManager})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return refused("make namespace "+Namespace, err)
		}
		_, err = l.client.CoordinationV1().Leases(Namespace).Create(ctx, lease, metav1.CreateOptions{FieldManager: fieldManager})
	}
	switch {
	case apierrors.IsAlreadyExists(err):
		return errExists
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return errBusy
	}
	return refused("make a lease in namespace "+Namespace, err)
}

func annotations(m member) map[string]string {
	out := map[string]string{phaseAnnotation: string(m.phase)}
	if !m.since.IsZero() {
		out[sinceAnnotation] = m.since.UTC().Format(time.RFC3339Nano)
	}
	return out
}

func (l *leases) write(ctx context.Context, m member) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations(m)}, "spec": map[string]any{"renewTime": metav1.NowMicro()}})
	if err != nil {
		return fmt.Errorf("encode the lease of run %s: %w", m.id, err)
	}
	_, err = l.client.CoordinationV1().Leases(Namespace).Patch(ctx, prefix+m.id, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		return errGone
	}
	return refused("renew the lease of run "+m.id, err)
}

func (l *leases) remove(ctx context.Context, m member) error {
	options := metav1.DeleteOptions{}
	if m.uid != "" {
		uid := types.UID(m.uid)
		options.Preconditions = &metav1.Preconditions{UID: &uid, ResourceVersion: &m.version}
	}
	err := l.client.CoordinationV1().Leases(Namespace).Delete(ctx, prefix+m.id, options)
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove the lease of run %s: %w", m.id, err)
}

// refused marks answers that will not change.
func refused(what string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("%s: %w", what, err)
	var status apierrors.APIStatus
	if errors.As(err, &status) && (apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)) {
		return &refusedError{wrapped}
	}
	return wrapped
}
