package abuse

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
)

// ecdsa-with-SHA256 and ecdsa-with-SHA1, as they stand in a certificate.
var (
	oidSHA256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	oidSHA1   = []byte{0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01}
)

// sha1Signed says of a certificate that it is signed with SHA-1. The library
// signs none itself any more; that the signature does not fit either changes
// nothing, as the algorithm is refused before it is computed.
func sha1Signed(t *T, leaf tls.Certificate) tls.Certificate {
	t.Helper()
	der := leaf.Certificate[0]
	// The identifier stands twice, each in a sequence that becomes a byte
	// shorter; so does all around the first one.
	der = bytes.ReplaceAll(der, append([]byte{0x30, 0x0a}, oidSHA256...), append([]byte{0x30, 0x09}, oidSHA1...))
	shrink := func(at int, by int) {
		n := int(der[at+2])<<8 | int(der[at+3])
		n -= by
		der[at+2], der[at+3] = byte(n>>8), byte(n)
	}
	der = bytes.Clone(der)
	if der[1] != 0x82 || der[5] != 0x82 {
		t.Fatalf("a certificate of another size than expected")
	}
	shrink(0, 2)
	shrink(4, 1)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("spoil a certificate: %v", err)
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA1 {
		t.Fatalf("signed with %v", cert.SignatureAlgorithm)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leaf.PrivateKey}
}
