package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// anchorLife is that of the trust anchor and of the issuer. Nothing renews
	// them by itself: whoever needs a shorter life brings a Secret of their own.
	anchorLife = 10 * 365 * 24 * time.Hour

	// DefaultLifetime and DefaultSkew are J-04's: how long a leaf lives, and by
	// how much its beginning is put back for clocks that are behind ours.
	DefaultLifetime = 24 * time.Hour
	DefaultSkew     = 20 * time.Second

	serialBits = 127

	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// Material is what the Secret holds, all PEM: the issuer's certificate and key,
// and the trust anchors, of which one signed the issuer.
type Material struct {
	Certificate, Key, Anchors []byte
}

// NewMaterial makes a trust anchor and an issuer. The anchor's key is thrown
// away: a new issuer means a new anchor beside the old one.
func NewMaterial(trustDomain string, now time.Time) (Material, error) {
	anchorKey, err := newKey()
	if err != nil {
		return Material{}, err
	}
	anchor, err := authority("root.linkerd."+trustDomain, now, 1)
	if err != nil {
		return Material{}, err
	}
	anchorDER, err := x509.CreateCertificate(rand.Reader, anchor, anchor, anchorKey.Public(), anchorKey)
	if err != nil {
		return Material{}, fmt.Errorf("sign the trust anchor: %w", err)
	}
	key, err := newKey()
	if err != nil {
		return Material{}, err
	}
	issuer, err := authority("identity.linkerd."+trustDomain, now, 0)
	if err != nil {
		return Material{}, err
	}
	// The parent's subject and key id are read from the parsed certificate.
	parent, err := x509.ParseCertificate(anchorDER)
	if err != nil {
		return Material{}, fmt.Errorf("read the trust anchor back: %w", err)
	}
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, parent, key.Public(), anchorKey)
	if err != nil {
		return Material{}, fmt.Errorf("sign the issuer: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Material{}, fmt.Errorf("encode the issuer's key: %w", err)
	}
	return Material{
		Certificate: encode(certificateBlock, issuerDER),
		Key:         encode(keyBlock, keyDER),
		Anchors:     encode(certificateBlock, anchorDER),
	}, nil
}

// CA signs leaves. It is immutable.
type CA struct {
	anchors     []byte
	certificate *x509.Certificate
	key         crypto.Signer
}

// NewCA reads material and makes sure that what it signs will be believed.
func NewCA(m Material, now time.Time) (*CA, error) {
	certificates, err := parse(m.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's certificate: %w", err)
	}
	issuer := certificates[0]
	anchors, err := parse(m.Anchors)
	if err != nil {
		return nil, fmt.Errorf("read the trust anchors: %w", err)
	}
	key, err := parseKey(m.Key)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's key: %w", err)
	}
	if !issuer.IsCA {
		return nil, errors.New("the issuer's certificate may not sign others")
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(issuer.PublicKey) {
		return nil, errors.New("the issuer's key does not belong to its certificate")
	}
	roots := x509.NewCertPool()
	for _, anchor := range anchors {
		roots.AddCert(anchor)
	}
	if _, err := issuer.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("check the issuer against the trust anchors: %w", err)
	}
	return &CA{anchors: bytes.TrimSpace(m.Anchors), certificate: issuer, key: key}, nil
}

// Anchors is the PEM that peers are to trust.
func (ca *CA) Anchors() []byte { return ca.anchors }

// NotAfter is the end of the issuer's life.
func (ca *CA) NotAfter() time.Time { return ca.certificate.NotAfter }

// Issue signs a leaf for one name. It never outlives its issuer. The chain is
// DER, leaf first, without the anchor.
func (ca *CA) Issue(name string, key any, now time.Time, lifetime, skew time.Duration) (chain [][]byte, notAfter time.Time, err error) {
	number, err := serial()
	if err != nil {
		return nil, time.Time{}, err
	}
	end := now.Add(lifetime)
	if end.After(ca.certificate.NotAfter) {
		end = ca.certificate.NotAfter
	}
	// X.509 knows whole seconds; what is told must be what is in the leaf.
	end = end.UTC().Truncate(time.Second)
	if !end.After(now) {
		return nil, time.Time{}, fmt.Errorf("the issuer's own certificate ended at %v", ca.certificate.NotAfter)
	}
	leaf := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{CommonName: commonName(name)},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-skew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca.certificate, key, ca.key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign a leaf for %s: %w", name, err)
	}
	return [][]byte{der, ca.certificate.Raw}, end, nil
}

// authority is the template of a CA certificate; depth is how many further
// authorities may stand below it.
func authority(name string, now time.Time, depth int) (*x509.Certificate, error) {
	number, err := serial()
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: number,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-DefaultSkew),
		NotAfter:     now.Add(anchorLife),
		IsCA:         true, BasicConstraintsValid: true,
		MaxPathLen: depth, MaxPathLenZero: depth == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

func serial() (*big.Int, error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return number, nil
}

// commonName repeats a name where X.509 has room for it.
func commonName(name string) string {
	const longest = 64
	if len(name) > longest {
		return ""
	}
	return name
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// parse reads at least one certificate.
func parse(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certificateBlock {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, certificate)
	}
	if len(all) == 0 {
		return nil, errors.New("no PEM certificate found")
	}
	return all, nil
}

// parseKey reads PKCS#8 or the older EC form, which other tools write.
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block found")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	return signer, nil
}
