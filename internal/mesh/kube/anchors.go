package kube

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

const (
	// TrustRootsName is the ConfigMap that the identity role publishes.
	TrustRootsName = "linkerd-identity-trust-roots"
	// TrustRootsKey holds the trust anchors, PEM.
	TrustRootsKey = "ca-bundle.crt"
)

// TrustAnchors waits until the identity role has published the mesh's trust
// anchors and returns them as PEM. It fails only when ctx ends.
func TrustAnchors(ctx context.Context, core rest.Interface, namespace string) ([]byte, error) {
	watching, found := context.WithCancel(ctx)
	defer found()
	var anchors []byte
	slog.Info("waiting for trust anchors", "namespace", namespace, "name", TrustRootsName)
	Watch(watching, core, "configmaps", Scope{Namespace: namespace, Fields: "metadata.name=" + TrustRootsName},
		Latest[*corev1.ConfigMap](func(m *corev1.ConfigMap) {
			if anchors == nil && m != nil && m.Data[TrustRootsKey] != "" {
				anchors = []byte(m.Data[TrustRootsKey])
				found()
			}
		}), nil)
	if anchors == nil {
		return nil, fmt.Errorf("wait for the trust anchors in %s/%s: %w", namespace, TrustRootsName, context.Cause(ctx))
	}
	return anchors, nil
}

// Latest is a Sink for a watch of a single object: it is called with its state
// after every change, nil when there is none.
type Latest[T any] func(T)

// Put implements Sink.
func (l Latest[T]) Put(t T) { l(t) }

// Remove implements Sink.
func (l Latest[T]) Remove(T) { var none T; l(none) }

// Replace implements Sink.
func (l Latest[T]) Replace(all []T) {
	var one T
	if len(all) > 0 {
		one = all[0]
	}
	l(one)
}
