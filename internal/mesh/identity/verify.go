package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// longestChain bounds the certificates that a peer may present; the mesh's
	// own chains have one or two.
	longestChain = 8
	// longestName is the limit of DNS.
	longestName = 253
)

// verifyPeer checks a presented chain, leaf first, against the trust anchors and
// returns the one identity in the leaf.
func verifyPeer(chain []*x509.Certificate, anchors *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (string, error) {
	if len(chain) == 0 {
		return "", errors.New("peer certificate: none presented")
	}
	if len(chain) > longestChain {
		return "", fmt.Errorf("peer certificate: %d in the chain, at most %d are read", len(chain), longestChain)
	}
	leaf := chain[0]
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: anchors, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	}); err != nil {
		return "", fmt.Errorf("peer certificate: %w", err)
	}
	// The library takes absent usages for all of them.
	if !slices.Contains(leaf.ExtKeyUsage, usage) {
		return "", errors.New("peer certificate: lacks the key usage of its role")
	}
	if leaf.IsCA {
		return "", errors.New("peer certificate: is a certificate authority's")
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return "", errors.New("peer certificate: key is not ECDSA P-256")
	}
	name, err := identityOf(leaf)
	if err != nil {
		return "", fmt.Errorf("peer certificate: %w", err)
	}
	return name, nil
}

// identityOf reads the single subject alternative name of a leaf, a DNS name or
// a SPIFFE URI. X-75 names the first of several; we refuse several, because two
// readers of such a certificate could take it for two different peers.
func identityOf(leaf *x509.Certificate) (string, error) {
	count := len(leaf.DNSNames) + len(leaf.URIs) + len(leaf.EmailAddresses) + len(leaf.IPAddresses)
	if count != 1 {
		return "", fmt.Errorf("has %d names, an identity has one", count)
	}
	if len(leaf.DNSNames) == 1 && validDNSIdentity(leaf.DNSNames[0]) {
		return leaf.DNSNames[0], nil
	}
	if len(leaf.URIs) == 1 && validSPIFFE(leaf.URIs[0]) {
		return leaf.URIs[0].String(), nil
	}
	return "", errors.New("its name has not the form of an identity")
}

// validDNSIdentity accepts lower-case DNS labels joined by dots. Wildcards,
// trailing dots and upper case have a meaning in policies or none at all, but
// never in a certificate.
func validDNSIdentity(name string) bool {
	if name == "" || len(name) > longestName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// validSPIFFE accepts what A-16 accepts.
func validSPIFFE(u *url.URL) bool {
	if u.Scheme != "spiffe" || u.Host == "" || u.Port() != "" || u.User != nil || u.Opaque != "" ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawPath != "" {
		return false
	}
	for _, c := range []byte(u.Host) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("-._", rune(c)) {
			return false
		}
	}
	if u.Path == "" {
		return true
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
