package issuer

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/mesh/kube"
)

const (
	// SecretName holds the issuer; its keys are those of cert-manager, so that a
	// Secret from there can stand in its place.
	SecretName = "linkerd-identity-issuer"

	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	keyAnchors     = "ca.crt"

	controlPlaneLabel = "linkerd.io/control-plane-component"
)

// store keeps the CA's material in the cluster.
type store struct {
	core        rest.Interface
	namespace   string
	trustDomain string
}

// load returns what the Secret holds and makes it when it is not there. Of
// several replicas that start at once one wins, and all use the winner's.
func (s store) load(ctx context.Context) (Material, error) {
	secret, err := s.get(ctx)
	if apierrors.IsNotFound(err) {
		secret, err = s.create(ctx)
		if apierrors.IsAlreadyExists(err) {
			secret, err = s.get(ctx)
		}
	}
	if err != nil {
		return Material{}, fmt.Errorf("keep the issuer in Secret %s/%s: %w", s.namespace, SecretName, err)
	}
	return material(secret), nil
}

func (s store) get(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, s.core.Get().Namespace(s.namespace).Resource("secrets").Name(SecretName).Do(ctx).Into(secret)
}

func (s store) create(ctx context.Context) (*corev1.Secret, error) {
	m, err := NewMaterial(s.trustDomain, time.Now())
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: SecretName, Namespace: s.namespace, Labels: map[string]string{controlPlaneLabel: "identity"}},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{keyCertificate: m.Certificate, keyKey: m.Key, keyAnchors: m.Anchors},
	}
	created := &corev1.Secret{}
	if err := s.core.Post().Namespace(s.namespace).Resource("secrets").Body(secret).Do(ctx).Into(created); err != nil {
		return nil, err
	}
	slog.Info("made a trust anchor and an issuer", "namespace", s.namespace, "secret", SecretName)
	return created, nil
}

func material(secret *corev1.Secret) Material {
	return Material{Certificate: secret.Data[keyCertificate], Key: secret.Data[keyKey], Anchors: secret.Data[keyAnchors]}
}

// publish makes sure that everybody can read the anchors. Anchors that are
// published already stay: somebody may have added one ahead of a rotation.
func (s store) publish(ctx context.Context, anchors []byte) error {
	resource := func(r *rest.Request) *rest.Request { return r.Namespace(s.namespace).Resource("configmaps") }
	current := &corev1.ConfigMap{}
	err := resource(s.core.Get()).Name(kube.TrustRootsName).Do(ctx).Into(current)
	switch {
	case apierrors.IsNotFound(err):
		roots := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: kube.TrustRootsName, Namespace: s.namespace, Labels: map[string]string{controlPlaneLabel: "identity"}},
			Data:       map[string]string{kube.TrustRootsKey: string(anchors) + "\n"},
		}
		err = resource(s.core.Post()).Body(roots).Do(ctx).Error()
	case err == nil:
		bundle, missing := join([]byte(current.Data[kube.TrustRootsKey]), anchors)
		if !missing {
			return nil
		}
		if current.Data == nil {
			current.Data = map[string]string{}
		}
		current.Data[kube.TrustRootsKey] = string(bundle)
		err = resource(s.core.Put()).Name(kube.TrustRootsName).Body(current).Do(ctx).Error()
	}
	if err != nil {
		return fmt.Errorf("publish the trust anchors in ConfigMap %s/%s: %w", s.namespace, kube.TrustRootsName, err)
	}
	return nil
}

// join appends to a bundle those anchors that are not in it, and tells whether
// there were any. A bundle that cannot be read is replaced.
func join(bundle, anchors []byte) (joined []byte, missing bool) {
	have, err := parse(bundle)
	if err != nil {
		bundle = nil
	}
	want, err := parse(anchors)
	if err != nil {
		return bundle, false
	}
	known := map[string]bool{}
	for _, certificate := range have {
		known[string(certificate.Raw)] = true
	}
	if bundle = bytes.TrimSpace(bundle); len(bundle) > 0 {
		bundle = append(bundle, '\n')
	}
	for _, certificate := range want {
		if !known[string(certificate.Raw)] {
			bundle, missing = append(bundle, encode(certificateBlock, certificate.Raw)...), true
		}
	}
	return bundle, missing
}
