package identity_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/mesh/identity"
)

// The forms of identities, written down a second time.
var (
	dnsForm    = regexp.MustCompile(`\A[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\z`)
	spiffeForm = regexp.MustCompile(`\Aspiffe://[a-z0-9._-]+(/[^/?#\x00]+)*\z`)
	dotSegment = regexp.MustCompile(`/\.\.?(/|\z)`)
)

// FuzzNamesOfCertificates: whatever a certificate names, and however that is
// encoded, its identity is byte for byte the first name that the library reads in
// it, in one of the two forms, or there is none.
func FuzzNamesOfCertificates(f *testing.F) {
	der := func(names ...asn1.RawValue) []byte {
		for i := range names {
			names[i].Class = asn1.ClassContextSpecific
		}
		value, err := asn1.Marshal(names)
		if err != nil {
			f.Fatal(err)
		}
		return value
	}
	dns := func(name string) asn1.RawValue { return asn1.RawValue{Tag: 2, Bytes: []byte(name)} }
	uri := func(text string) asn1.RawValue { return asn1.RawValue{Tag: 6, Bytes: []byte(text)} }
	for _, value := range [][]byte{
		der(dns(web)), der(dns(voting), dns(web)), der(dns(web+"."), dns(voting)), der(dns("*.a.b"), dns("a.b")), der(dns("A.b")), der(dns("a.b\x00.evil")),
		der(uri("spiffe://a.b/c/d"), dns(web)), der(dns(web), uri("spiffe://a.b/c")), der(uri("spiffe://a/%2e%2e/b")), der(uri("spiffe://a/b c")), der(uri("SPIFFE://a/b")),
		der(uri("spiffe://a:1/b"), uri("spiffe://a")), der(uri("spiffe://a/b/")), der(uri("spiffe://a/b#")),
		der(asn1.RawValue{Tag: 7, Bytes: []byte{127, 0, 0, 1}}, dns("a.b")), der(asn1.RawValue{Tag: 2, IsCompound: true, Bytes: []byte("a.b")}, dns("c.d")),
		append(der(dns(web)), '.'), der(asn1.RawValue{Tag: 6, IsCompound: true, Bytes: []byte("spiffe://a")}, dns("c.d")), {},
	} {
		f.Add(value)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return // no handshake gets so far
		}
		got := identity.PeerIdentity(tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}})
		first := firstName(t, value)
		dns := dnsForm.MatchString(first) && len(first) <= 253 && slices.Contains(leaf.DNSNames, first)
		spiffe := spiffeForm.MatchString(first) && !dotSegment.MatchString(unescaped(first)) && len(leaf.URIs) > 0 && leaf.URIs[0].String() == first
		switch {
		case got != "" && got != first:
			t.Errorf("the identity is %q, and the first name %q, of %q, %q", got, first, leaf.DNSNames, leaf.URIs)
		case got != "" && !dns && !spiffe:
			t.Errorf("%q is an identity, of %q, %q", got, leaf.DNSNames, leaf.URIs)
		case got == "" && dns:
			t.Errorf("%q is none of %x", first, value)
		}
	})
}

// firstName is the first DNS name without a dot at its end, or URI, in the sequence
// that an extension holds; "" when one is made of parts or something follows, which
// the library passes over.
func firstName(t *testing.T, value []byte) string {
	var all asn1.RawValue
	if behind, err := asn1.Unmarshal(value, &all); err != nil {
		t.Fatalf("the library reads what cannot be read: %v", err)
	} else if len(behind) > 0 {
		return ""
	}
	const dns, uri, ofParts = 0x82, 0x86, 0x20
	for rest := all.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			t.Fatalf("the library reads what cannot be read: %v", err)
		}
		switch kind := name.FullBytes[0]; {
		case kind == dns|ofParts || kind == uri|ofParts:
			return ""
		case kind == uri || kind == dns && !strings.HasSuffix(string(name.Bytes), "."):
			return string(name.Bytes)
		}
	}
	return ""
}

func unescaped(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
