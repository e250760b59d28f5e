package certify_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients/certify"
)

// an identity that no ServiceAccount has, and that the mesh believes.
func TestAnIssuerSignsForNamesAndForURIs(t *testing.T) {
	mesh, _, roots := start(t, time.Hour)
	key, err := x509.MarshalPKCS8PrivateKey(mesh.key)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := certify.NewIssuer(roots, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(mesh.root)
	for _, identity := range []string{"spiffe://root.linkerd.cluster.local/a/b", clientName} {
		pair, err := issuer.Sign(identity)
		if err != nil {
			t.Fatal(err)
		}
		made, err := tls.X509KeyPair([]byte(pair.Chain), []byte(pair.Key))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := made.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", identity, err)
		}
		names := made.Leaf.DNSNames
		for _, uri := range made.Leaf.URIs {
			names = append(names, uri.String())
		}
		if len(names) != 1 || names[0] != identity {
			t.Errorf("the certificate names %q, want %q", names, identity)
		}
	}
	if _, err := certify.NewIssuer(roots, roots); err == nil {
		t.Error("an issuer without a key is taken for one")
	}
}
