package main

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
)

func TestTheLoadsClientKnowsOnlyWhatItHasVerified(t *testing.T) {
	const name = "a.b"
	ca := identitytest.NewCA(t, "ours")
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	a := &acquaintances{roots: roots, name: name}
	good := ca.Leaf(t, name, nil).Leaf
	wrong := map[string]*x509.Certificate{
		"of another authority": identitytest.NewCA(t, "theirs").Leaf(t, name, nil).Leaf,
		"for another name":     ca.Leaf(t, "c.d", nil).Leaf,
	}
	says := func(leaf *x509.Certificate) error {
		return a.check(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
	}
	for range 2 {
		if err := says(good); err != nil {
			t.Error(err)
		}
		for what, leaf := range wrong {
			if says(leaf) == nil {
				t.Errorf("a certificate %s is taken", what)
			}
		}
	}
	a.roots = x509.NewCertPool()
	if err := says(good); err != nil {
		t.Errorf("verified again: %v", err)
	}
}
