package webhook

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// certificateLife is that of a serving certificate. Nobody trusts it but the
	// API server, by way of the webhook configuration; deleting the Secret and
	// restarting the role makes a new one.
	certificateLife = 10 * 365 * 24 * time.Hour
	// backdated allows for an API server whose clock is behind.
	backdated  = time.Minute
	serialBits = 127

	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// newPair makes a self-signed certificate for the given host names, PEM.
func newPair(names []string, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		NotBefore:    now.Add(-backdated),
		NotAfter:     now.Add(certificateLife),
		// It is its own authority, hence both kinds of usage.
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a serving certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: pkcs8}), nil
}

// load returns the Secret with the certificate and makes it when there is none.
// Of several replicas that start at once one wins, and all use the winner's.
func (s *Server) load(ctx context.Context) (*corev1.Secret, error) {
	secret, err := s.get(ctx)
	if apierrors.IsNotFound(err) {
		secret, err = s.create(ctx)
		if apierrors.IsAlreadyExists(err) {
			secret, err = s.get(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keep the serving certificate in Secret %s/%s: %w", s.Namespace, s.Secret, err)
	}
	return secret, nil
}

func (s *Server) get(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	return secret, s.Core.Get().Namespace(s.Namespace).Resource("secrets").Name(s.Secret).Do(ctx).Into(secret)
}

func (s *Server) create(ctx context.Context) (*corev1.Secret, error) {
	host := s.Service + "." + s.Namespace + ".svc"
	certificate, key, err := newPair([]string{host, host + ".cluster.local"}, time.Now())
	if err != nil {
		return nil, err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: s.Secret, Namespace: s.Namespace},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key},
	}
	created := &corev1.Secret{}
	return created, s.Core.Post().Namespace(s.Namespace).Resource("secrets").Body(secret).Do(ctx).Into(created)
}

// use serves a Secret's certificate from the next handshake on.
func (s *Server) use(secret *corev1.Secret) error {
	certificate, key := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("use Secret %s/%s: %w", s.Namespace, s.Secret, err)
	}
	s.pair.Store(&servingPair{certificate: &pair, bundle: certificate})
	return nil
}

// servingPair is the certificate in use, and itself as the PEM that callers trust.
type servingPair struct {
	certificate *tls.Certificate
	bundle      []byte
}
