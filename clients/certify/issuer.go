package certify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
)

// leafLife is the validity of what an Issuer signs, serialBits the length of its
// serial numbers.
const (
	leafLife   = 24 * time.Hour
	serialBits = 120
)

// uriScheme begins the identities that are URIs.
const uriScheme = "spiffe://"

// Issuer signs certificates with the mesh's own issuer, for whatever identity is
// asked for: one that no ServiceAccount has, and that the mesh's identity service
// would refuse to certify (rule X-74). It is for whoever may read the Secret that
// holds the issuer; what goes to a client is the leaf alone.
type Issuer struct {
	pair *tls.Certificate
}

// NewIssuer reads the issuer as its Secret holds it: tls.crt and tls.key.
func NewIssuer(certificate, key []byte) (*Issuer, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read the mesh's issuer: %w", err)
	}
	return &Issuer{&pair}, nil
}

// Sign makes a certificate for identity: a SPIFFE ID becomes its URI, anything
// else its DNS name. The chain holds the issuer's certificate.
func (i *Issuer) Sign(identity string) (*clients.KeyPair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if strings.HasPrefix(identity, uriScheme) {
		uri, err := url.Parse(identity)
		if err != nil {
			return nil, fmt.Errorf("read the identity: %w", err)
		}
		template.URIs = []*url.URL{uri}
	} else {
		template.DNSNames = []string{identity}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, i.pair.Leaf, key.Public(), i.pair.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", identity, err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", identity, err)
	}
	pair := &clients.KeyPair{Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))}
	for _, der := range append([][]byte{leaf}, i.pair.Certificate...) {
		pair.Chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return pair, nil
}
