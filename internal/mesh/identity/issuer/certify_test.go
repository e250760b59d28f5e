package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const web = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"

// reviewer knows the tokens of a few accounts and fails in every way.
type reviewer struct{ asked int }

func (r *reviewer) Review(_ context.Context, token string) (Account, error) {
	r.asked++
	switch token {
	case "web":
		return Account{"emojivoto", "web"}, nil
	case "voting":
		return Account{"emojivoto", "voting"}, nil
	case "malformed":
		return Account{}, fmt.Errorf("%w: no dots", ErrMalformed)
	case "broken":
		return Account{}, errors.New("no API server")
	default:
		return Account{}, ErrNotAuthenticated
	}
}

func mkCA(t *testing.T) *CA {
	t.Helper()
	m, err := NewMaterial("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA(m, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func mkKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mkCSR(t *testing.T, key crypto.Signer, edit func(*x509.CertificateRequest)) []byte {
	t.Helper()
	request := &x509.CertificateRequest{DNSNames: []string{web}}
	if edit != nil {
		edit(request)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func mkService(ca *CA) (*Service, *reviewer) {
	r := &reviewer{}
	s := &Service{Reviewer: r, Name: func(a Account) string { return values.Default().Identity(a.Name, a.Namespace) }}
	if ca != nil {
		s.Use(ca)
	}
	return s, r
}

func TestWhoProvesAnAccountGetsALeafForItsIdentity(t *testing.T) {
	ca, key := mkCA(t), mkKey(t)
	service, _ := mkService(ca)
	before := time.Now()
	response, err := service.Certify(t.Context(), &pb.CertifyRequest{
		Identity: web, Token: []byte("web"), CertificateSigningRequest: mkCSR(t, key, nil)})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(response.LeafCertificate)
	if err != nil {
		t.Fatalf("the leaf is not DER: %v", err)
	}
	intermediates := x509.NewCertPool()
	for _, der := range response.IntermediateCertificates {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("an intermediate is not DER: %v", err)
		}
		intermediates.AddCert(certificate)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Anchors())
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: web, Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("a peer refuses the leaf: %v", err)
		}
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the leaf is for another key")
	}
	if got := response.ValidUntil.AsTime(); !got.Equal(leaf.NotAfter) {
		t.Errorf("valid_until is %v, the leaf ends at %v", got, leaf.NotAfter)
	}
	// X.509 has whole seconds, hence the slack of one on either side.
	if life := leaf.NotAfter.Sub(before); life < DefaultLifetime-time.Second || life > DefaultLifetime+time.Minute {
		t.Errorf("the leaf lives %v", life)
	}
	if back := before.Sub(leaf.NotBefore); back < DefaultSkew-time.Minute || back > DefaultSkew+time.Second {
		t.Errorf("the leaf begins %v before it was asked for", back)
	}
	if leaf.IsCA {
		t.Error("the leaf is an authority")
	}
}

func TestALeafDoesNotOutliveItsIssuer(t *testing.T) {
	m, err := NewMaterial("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA(m, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	chain, end, err := ca.Issue(web, mkKey(t).Public(), time.Now(), 2*anchorLife, 0)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.NotAfter.Equal(ca.NotAfter()) || !end.Equal(ca.NotAfter()) {
		t.Errorf("leaf ends at %v, told %v, issuer at %v", leaf.NotAfter, end, ca.NotAfter())
	}
	if _, _, err := ca.Issue(web, mkKey(t).Public(), ca.NotAfter().Add(time.Second), time.Hour, 0); err == nil {
		t.Error("an issuer that has ended still signs")
	}
}

// The order is J-03's: each request has the fault of its row and those of all
// rows below it that can be had at once, and must get its own row's code.
func TestChecksComeInOrderWithTheirCodes(t *testing.T) {
	ca, key := mkCA(t), mkKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	named := func(edit func(*x509.CertificateRequest)) []byte { return mkCSR(t, key, edit) }
	spoilt := mkCSR(t, key, nil)
	spoilt[len(spoilt)-1] ^= 1
	for _, row := range []struct {
		name     string
		ca       *CA
		identity string
		token    string
		csr      []byte
		want     codes.Code
		reviews  int
	}{
		{"no issuer", nil, "", "", nil, codes.Unavailable, 0},
		{"no identity", ca, "", "", nil, codes.InvalidArgument, 0},
		{"no token", ca, web, "", nil, codes.InvalidArgument, 0},
		{"no request", ca, web, "unknown", nil, codes.InvalidArgument, 0},
		{"request is noise", ca, web, "unknown", []byte("noise"), codes.InvalidArgument, 0},
		{"request signed by nobody", ca, web, "unknown", spoilt, codes.InvalidArgument, 0},
		{"request with an RSA key", ca, web, "unknown", mkCSR(t, rsaKey, nil), codes.InvalidArgument, 0},
		{"request without a name", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.DNSNames = nil }), codes.FailedPrecondition, 0},
		{"request with another name", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.DNSNames = []string{"x." + web} }), codes.FailedPrecondition, 0},
		{"request with two names", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.DNSNames = []string{web, "x." + web} }), codes.FailedPrecondition, 0},
		{"request with a mail address", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), codes.FailedPrecondition, 0},
		{"request with an address", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{1, 2, 3, 4}} }), codes.FailedPrecondition, 0},
		{"request with a URI", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}} }), codes.FailedPrecondition, 0},
		{"request with another common name", ca, web, "unknown", named(func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: "x"} }), codes.FailedPrecondition, 0},
		{"token unknown", ca, web, "unknown", named(nil), codes.FailedPrecondition, 1},
		{"token malformed", ca, web, "malformed", named(nil), codes.InvalidArgument, 1},
		{"review fails", ca, web, "broken", named(nil), codes.Internal, 1},
		{"token of another account", ca, web, "voting", named(nil), codes.FailedPrecondition, 1},
		{"nothing wrong", ca, web, "web", named(nil), codes.OK, 1},
		{"the name as common name too", ca, web, "web", named(func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: web} }), codes.OK, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			service, reviewer := mkService(row.ca)
			_, err := service.Certify(t.Context(), &pb.CertifyRequest{Identity: row.identity, Token: []byte(row.token), CertificateSigningRequest: row.csr})
			if got := status.Code(err); got != row.want {
				t.Errorf("got %v (%v), want %v", got, err, row.want)
			}
			if reviewer.asked != row.reviews {
				t.Errorf("the API server was asked %d times, want %d", reviewer.asked, row.reviews)
			}
		})
	}
}
