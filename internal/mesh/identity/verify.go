package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
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
// returns the identity in the leaf, and how long the answer stays the same.
func verifyPeer(chain []*x509.Certificate, anchors *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (peer, error) {
	if len(chain) == 0 {
		return peer{}, errors.New("peer certificate: none presented")
	}
	if len(chain) > longestChain {
		return peer{}, fmt.Errorf("peer certificate: %d in the chain, at most %d are read", len(chain), longestChain)
	}
	leaf := chain[0]
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: anchors, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return peer{}, fmt.Errorf("peer certificate: %w", err)
	}
	// The library takes absent usages for all of them.
	if !slices.Contains(leaf.ExtKeyUsage, usage) {
		return peer{}, errors.New("peer certificate: lacks the key usage of its role")
	}
	if leaf.IsCA {
		return peer{}, errors.New("peer certificate: is a certificate authority's")
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return peer{}, errors.New("peer certificate: key is not ECDSA P-256")
	}
	name, err := identityOf(leaf)
	if err != nil {
		return peer{}, fmt.Errorf("peer certificate: %w", err)
	}
	found := peer{name: name}
	found.notBefore, found.notAfter = inDate(paths)
	return found, nil
}

// The tags of the names that can be identities, in the extension that holds a
// certificate's names (RFC 5280).
const (
	tagDNS = 2
	tagURI = 6
)

var oidNames = asn1.ObjectIdentifier{2, 5, 29, 17}

// identityOf is the first DNS name or URI of a leaf, in the order in which they
// stand there; DNS names with a dot at the end are passed over. If it has
// not the form of an identity the leaf has none: the next one is no substitute.
func identityOf(leaf *x509.Certificate) (string, error) {
	for _, extension := range leaf.Extensions {
		if !extension.Id.Equal(oidNames) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &names); err != nil || len(rest) > 0 {
			return "", errors.New("its names cannot be read")
		}
		for _, name := range names {
			text := string(name.Bytes)
			switch {
			case name.Class != asn1.ClassContextSpecific:
			case name.IsCompound && (name.Tag == tagDNS || name.Tag == tagURI):
				return "", errors.New("its names are made of parts") // which the library passes over
			case name.Tag == tagDNS && !strings.HasSuffix(text, "."):
				if !validDNSIdentity(text) {
					return "", errors.New("its name has not the form of an identity")
				}
				return text, nil
			case name.Tag == tagURI:
				uri, err := url.Parse(text)
				// Written in another way it would be compared as what it is not.
				if err != nil || !validSPIFFE(uri) || uri.String() != text {
					return "", errors.New("its URI has not the form of an identity")
				}
				return text, nil
			}
		}
	}
	return "", errors.New("names no identity")
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
