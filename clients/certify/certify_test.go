package certify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/identity"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/clients/certify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuerName = "identity.test"
	clientName = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
)

// issuer is an identity service that signs for whoever shows the token "good".
type issuer struct {
	identity.UnimplementedIdentityServer
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	// life of the leaves.
	life  time.Duration
	calls int
}

func (i *issuer) sign(template *x509.Certificate, public any) ([]byte, error) {
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(2), time.Now().Add(-time.Minute), time.Now().Add(i.life)
	return x509.CreateCertificate(rand.Reader, template, i.root, public, i.key)
}

func (i *issuer) Certify(_ context.Context, in *identity.CertifyRequest) (*identity.CertifyResponse, error) {
	i.calls++
	if string(in.GetToken()) != "good" {
		return nil, status.Error(codes.FailedPrecondition, "who is this")
	}
	request, err := x509.ParseCertificateRequest(in.GetCertificateSigningRequest())
	if err != nil || len(request.DNSNames) != 1 || request.DNSNames[0] != in.GetIdentity() {
		return nil, status.Error(codes.FailedPrecondition, "the names differ")
	}
	leaf, err := i.sign(&x509.Certificate{DNSNames: request.DNSNames}, request.PublicKey)
	if err != nil {
		return nil, err
	}
	return &identity.CertifyResponse{LeafCertificate: leaf, IntermediateCertificates: [][]byte{i.root.Raw}}, nil
}

func start(t *testing.T, life time.Duration) (*issuer, string, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{root: root, key: key, life: time.Hour}
	own, err := i.sign(&x509.Certificate{DNSNames: []string{issuerName}}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	i.life = life
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own}, PrivateKey: key}}})))
	identity.RegisterIdentityServer(server, i)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return i, listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func token(t *testing.T, text string) string {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAClientIsCertifiedOnceAndAgainWhenItsCertificateNearsItsEnd(t *testing.T) {
	for _, row := range []struct {
		name string
		life time.Duration
		want int
	}{{"long", time.Hour, 1}, {"nearly over", time.Second, 2}} {
		t.Run(row.name, func(t *testing.T) {
			i, address, roots := start(t, row.life)
			source := &certify.Source{Address: address, ServerName: issuerName, TokenFile: token(t, "good"), Name: clientName, Roots: roots}
			for range 2 {
				certificate, pool, err := source.Certificate(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := certificate.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: clientName}); err != nil {
					t.Error(err)
				}
			}
			if i.calls != row.want {
				t.Errorf("%d certifications, want %d", i.calls, row.want)
			}
		})
	}
}

func TestARefusedCertificationIsItsStatus(t *testing.T) {
	_, address, roots := start(t, time.Hour)
	source := &certify.Source{Address: address, ServerName: issuerName, TokenFile: token(t, "bad"), Name: clientName, Roots: roots}
	if _, _, err := source.Certificate(t.Context()); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("error %v, want FailedPrecondition", err)
	}
}

func TestAnIdentityServiceThatIsNotTheMeshsGetsNoToken(t *testing.T) {
	_, _, roots := start(t, time.Hour)
	impostor, address, _ := start(t, time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	source := &certify.Source{Address: address, ServerName: issuerName, TokenFile: token(t, "good"), Name: clientName, Roots: roots}
	if _, _, err := source.Certificate(ctx); err == nil || impostor.calls != 0 {
		t.Errorf("error %v after %d calls of the impostor, want an error and none", err, impostor.calls)
	}
	if _, _, err := (&certify.Source{Name: clientName}).Certificate(t.Context()); !errors.Is(err, certify.ErrRoots) {
		t.Errorf("error %v, want ErrRoots", err)
	}
}
