// Package identitytest is a certificate authority in memory for the tests of
// whatever speaks mesh TLS.
//
// It makes leaves of any shape, good and bad, and certified identity clients. It
// touches no network and no disk.
package identitytest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/identity"
)

const (
	// life of the authority and, unless a test says otherwise, of its leaves.
	life = 24 * time.Hour
	// backdated as the mesh's issuer does (J-04).
	backdated = 20 * time.Second
)

// CA is a self-signed authority.
type CA struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewCA makes an authority that nobody else trusts.
func NewCA(tb testing.TB, name string) *CA {
	tb.Helper()
	ca, err := MakeCA(name)
	if err != nil {
		tb.Fatal(err)
	}
	return ca
}

// MakeCA is NewCA outside tests.
func MakeCA(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-backdated), NotAfter: time.Now().Add(365 * life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{Certificate: certificate, key: key}, nil
}

// PEM is the authority as trust anchors are given.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})
}

// Leaf makes a valid leaf for name; edit, when not nil, may spoil the template
// before it is signed.
func (ca *CA) Leaf(tb testing.TB, name string, edit func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	key := newKey(tb)
	return ca.LeafFor(tb, name, key, edit)
}

// LeafFor is Leaf with a key of the caller's.
func (ca *CA) LeafFor(tb testing.TB, name string, key crypto.Signer, edit func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	leaf, err := ca.MakeLeaf(name, key, edit)
	if err != nil {
		tb.Fatal(err)
	}
	return leaf
}

// MakeLeaf is LeafFor outside tests; key nil means a new one.
func (ca *CA) MakeLeaf(name string, key crypto.Signer, edit func(*x509.Certificate)) (tls.Certificate, error) {
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return tls.Certificate{}, err
		}
	}
	der, err := ca.sign(name, key.Public(), edit)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// EndsAfter is an edit by which a leaf lives no longer than that.
func EndsAfter(life time.Duration) func(*x509.Certificate) {
	return func(template *x509.Certificate) { template.NotAfter = time.Now().Add(life) }
}

// Sign is an identity.Signer; edit as in Leaf.
func (ca *CA) Sign(edit func(*x509.Certificate)) identity.Signer {
	return func(_ context.Context, csr []byte) ([][]byte, error) {
		request, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return nil, fmt.Errorf("read the certificate request: %w", err)
		}
		if err := request.CheckSignature(); err != nil {
			return nil, fmt.Errorf("check the certificate request: %w", err)
		}
		if len(request.DNSNames) != 1 {
			return nil, fmt.Errorf("certificate request has %d DNS names", len(request.DNSNames))
		}
		der, err := ca.sign(request.DNSNames[0], request.PublicKey, edit)
		if err != nil {
			return nil, err
		}
		return [][]byte{der}, nil
	}
}

// Client returns a client certified as name, which runs until the test ends.
func (ca *CA) Client(tb testing.TB, name string) *identity.Client {
	tb.Helper()
	client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: name, TrustAnchors: ca.PEM(), Logger: slog.New(slog.DiscardHandler)}, ca.Sign(nil))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); client.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
	<-client.Ready()
	return client
}

func (ca *CA) sign(name string, public any, edit func(*x509.Certificate)) ([]byte, error) {
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: number,
		NotBefore:    time.Now().Add(-backdated), NotAfter: time.Now().Add(life),
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a leaf for %s: %w", name, err)
	}
	return der, nil
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}
