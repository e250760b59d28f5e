package identity_test

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
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
)

const asClient = x509.ExtKeyUsageClientAuth

// judging returns a client that trusts these authorities and certifies nothing.
func judging(t *testing.T, trusted ...*identitytest.CA) *identity.Client {
	t.Helper()
	var anchors []byte
	for _, ca := range trusted {
		anchors = append(anchors, ca.PEM()...)
	}
	client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: anchors},
		func(context.Context, []byte) ([][]byte, error) { return nil, errors.New("unused") })
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// chainOf is a chain as it arrives: made anew of bytes.
func chainOf(t *testing.T, ders ...[]byte) []*x509.Certificate {
	t.Helper()
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if chain[i], err = x509.ParseCertificate(slices.Clone(der)); err != nil {
			t.Fatal(err)
		}
	}
	return chain
}

func TestAChainIsVerifiedInTheFirstHandshakeAndNotInTheNext(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	server, client := ca.Client(t, voting), ca.Client(t, web)
	atServer, atClient := identity.CountVerifications(server), identity.CountVerifications(client)
	accepting, dialling := server.ServerConfig(), client.ClientConfig(voting)
	for n := range 3 {
		s := handshake(t, accepting, dialling)
		if s.serverErr != nil || s.clientErr != nil {
			t.Fatalf("handshake %d failed: server %v, client %v", n, s.serverErr, s.clientErr)
		}
		if got := identity.PeerIdentity(s.server); got != web {
			t.Errorf("handshake %d: client identity %q", n, got)
		}
	}
	if atServer.Load() != 1 || atClient.Load() != 1 {
		t.Errorf("three handshakes: verified %d times by the server, %d times by the client, want once each", atServer.Load(), atClient.Load())
	}
	// The name is compared in each handshake, whatever is remembered.
	if s := handshake(t, accepting, client.ClientConfig(web)); s.clientErr == nil {
		t.Error("a server whose chain is remembered was taken for another identity")
	}
}

func TestARememberedCertificateNeedsItsKeyInEachHandshake(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	server := ca.Client(t, voting)
	verified := identity.CountVerifications(server)
	leaf, accepting := ca.Leaf(t, web, nil), server.ServerConfig()
	if s := handshake(t, accepting, presenting(leaf)); s.serverErr != nil {
		t.Fatalf("handshake with the key: %v", s.serverErr)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s := handshake(t, accepting, presenting(tls.Certificate{Certificate: leaf.Certificate, PrivateKey: other})); s.serverErr == nil {
		t.Errorf("accepted as %q with another key", identity.PeerIdentity(s.server))
	}
	if n := verified.Load(); n != 1 {
		t.Errorf("verified %d times: the chain was to be a remembered one", n)
	}
}

func TestOtherAnchorsRememberNothing(t *testing.T) {
	old, next := identitytest.NewCA(t, "old"), identitytest.NewCA(t, "next")
	leaf := old.Leaf(t, web, nil).Certificate[0]
	for _, row := range []struct {
		when    string
		anchors []*identitytest.CA
		want    string
	}{
		{"before the anchors change", []*identitytest.CA{old}, web},
		{"while both are trusted", []*identitytest.CA{old, next}, web},
		{"afterwards", []*identitytest.CA{next}, ""},
	} {
		client := judging(t, row.anchors...)
		for range 2 {
			if got, err := identity.Identify(client, chainOf(t, leaf), asClient, time.Now()); got != row.want || (err == nil) != (row.want != "") {
				t.Errorf("%s: %q, %v, want %q", row.when, got, err, row.want)
			}
		}
	}
}

// The shortest life in the path decides, whosever it is.
func TestARememberedChainIsRefusedOutOfItsTime(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	early, late := now.Add(-time.Minute), now.Add(time.Hour)
	for _, short := range []string{"leaf", "intermediate", "root"} {
		t.Run(short, func(t *testing.T) {
			root, chain := path(t, func(who string, template *x509.Certificate) {
				template.NotBefore, template.NotAfter = early.Add(-time.Hour), late.Add(time.Hour)
				if who == short {
					template.NotBefore, template.NotAfter = early, late
				}
			})
			client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: root}, nil)
			if err != nil {
				t.Fatal(err)
			}
			verified := identity.CountVerifications(client)
			for _, step := range []struct {
				at        time.Time
				ok        bool
				verifying int64
			}{
				{early.Add(-time.Second), false, 1},
				{now, true, 1},
				{early, true, 0}, {late, true, 0},
				{early.Add(-time.Second), false, 1},
				{late.Add(time.Nanosecond), false, 1},
				{now, true, 0},
			} {
				before := verified.Load()
				got, err := identity.Identify(client, chainOf(t, chain...), asClient, step.at)
				if (err == nil) != step.ok || step.ok && got != web {
					t.Errorf("at %v: %q, %v", step.at.Sub(now), got, err)
				}
				if n := verified.Load() - before; n != step.verifying {
					t.Errorf("at %v: verified %d times, want %d", step.at.Sub(now), n, step.verifying)
				}
			}
		})
	}
}

func TestARefusalIsNotRememberedAndNeitherIsAChainForAnotherRole(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	client := judging(t, ca)
	verified := identity.CountVerifications(client)
	foreign := identitytest.NewCA(t, "foreign").Leaf(t, web, nil).Certificate[0]
	own := ca.Leaf(t, web, usages(asClient)).Certificate[0]
	for range 2 {
		if _, err := identity.Identify(client, chainOf(t, foreign), asClient, time.Now()); err == nil {
			t.Error("a foreign certificate was accepted")
		}
	}
	if verified.Load() != 2 || identity.Remembered(client) != 0 {
		t.Errorf("verified %d times, %d remembered, want 2 and 0", verified.Load(), identity.Remembered(client))
	}
	if got, err := identity.Identify(client, chainOf(t, own), asClient, time.Now()); got != web {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := identity.Identify(client, chainOf(t, own), x509.ExtKeyUsageServerAuth, time.Now()); err == nil {
		t.Error("a client's certificate that is remembered was accepted of a server")
	}
}

// Whatever byte of whichever certificate is another one, nothing that is remembered
// answers for it.
func TestAChainWithOneByteChangedIsVerifiedAnew(t *testing.T) {
	root, chain := path(t, nil)
	client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: root}, nil)
	if err != nil {
		t.Fatal(err)
	}
	verified := identity.CountVerifications(client)
	if got, err := identity.Identify(client, chainOf(t, chain...), asClient, time.Now()); got != web {
		t.Fatalf("%q, %v", got, err)
	}
	for which := range chain {
		tried := 0
		for at := range chain[which] {
			changed := slices.Clone(chain)
			changed[which] = slices.Clone(chain[which])
			changed[which][at] ^= 1
			certificate, err := x509.ParseCertificate(changed[which])
			if err != nil {
				continue // no handshake gets so far
			}
			parsed := chainOf(t, chain...)
			parsed[which] = certificate
			tried++
			before := verified.Load()
			if got, err := identity.Identify(client, parsed, asClient, time.Now()); err == nil {
				t.Errorf("certificate %d with byte %d changed: accepted as %q", which, at, got)
			}
			if verified.Load() == before {
				t.Errorf("certificate %d with byte %d changed: not verified", which, at)
			}
		}
		if tried == 0 {
			t.Errorf("certificate %d: no change could be read", which)
		}
	}
	for name, other := range map[string][][]byte{"the leaf alone": chain[:1], "twice the intermediate": {chain[0], chain[1], chain[1]}} {
		before := verified.Load()
		identity.Identify(client, chainOf(t, other...), asClient, time.Now())
		if verified.Load() == before {
			t.Errorf("%s: not verified", name)
		}
	}
}

func TestNoMoreChainsAreRememberedThanTheBound(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	client := judging(t, ca)
	verified := identity.CountVerifications(client)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const more = 50
	var chains [identity.RememberedChains + more][]*x509.Certificate
	for n := range chains {
		chains[n] = chainOf(t, ca.LeafFor(t, fmt.Sprintf("a-%d.b", n), key, nil).Certificate[0])
	}
	var all sync.WaitGroup
	const together = 4
	for first := range together {
		all.Go(func() {
			for n := first; n < len(chains); n += together {
				if got, err := identity.Identify(client, chains[n], asClient, time.Now()); err != nil || got != chains[n][0].DNSNames[0] {
					t.Errorf("chain %d: %q, %v", n, got, err)
				}
				if known := identity.Remembered(client); known > identity.RememberedChains {
					t.Errorf("%d chains are remembered", known)
				}
			}
		})
	}
	all.Wait()
	if known := identity.Remembered(client); known != identity.RememberedChains {
		t.Errorf("%d chains are remembered, want %d", known, identity.RememberedChains)
	}
	// Those that were forgotten are verified again, and only they and whom they displace.
	before := verified.Load()
	for n := range chains {
		if got, err := identity.Identify(client, chains[n], asClient, time.Now()); err != nil || got != chains[n][0].DNSNames[0] {
			t.Errorf("chain %d again: %q, %v", n, got, err)
		}
	}
	if again := verified.Load() - before; again < more || again > int64(len(chains))/2 {
		t.Errorf("%d of %d chains were verified again", again, len(chains))
	}
}

// path makes a root in PEM, and leaf and intermediate in DER; edit, when not nil,
// may change each before it is signed.
func path(t *testing.T, edit func(who string, template *x509.Certificate)) (root []byte, chain [][]byte) {
	t.Helper()
	sign := func(who string, by *x509.Certificate, with *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(len(who))), Subject: pkix.Name{CommonName: who},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: who != "leaf", BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if who == "leaf" {
			template.DNSNames, template.KeyUsage = []string{web}, x509.KeyUsageDigitalSignature
			template.ExtKeyUsage = []x509.ExtKeyUsage{asClient}
		}
		if edit != nil {
			edit(who, template)
		}
		if by == nil {
			by, with = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), with)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	anchor, anchorKey := sign("root", nil, nil)
	intermediate, intermediateKey := sign("intermediate", anchor, anchorKey)
	leaf, _ := sign("leaf", intermediate, intermediateKey)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor.Raw}), [][]byte{leaf.Raw, intermediate.Raw}
}
