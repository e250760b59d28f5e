package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// Certifier gives a caller its own mesh certificate and the roots by which it
// verifies servers.
type Certifier interface {
	Certificate(ctx context.Context) (*tls.Certificate, *x509.CertPool, error)
}

// ErrNoCertifier is the cause when OwnIdentity is asked of a caller that has no
// mesh certificate to show.
var ErrNoCertifier = errors.New("this caller has no mesh certificate of its own")

// foreignLife is the validity of what the unknown authority signs.
const foreignLife = 24 * time.Hour

func (c *Caller) tlsConfig(ctx context.Context, r Request) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: r.ServerName, NextProtos: r.alpn(),
		// These callers test what the server does with them; whether the server
		// is genuine is checked with OwnIdentity only.
		InsecureSkipVerify: true}
	present := func(certificate *tls.Certificate) {
		// Certificates set by list are withheld when the server names the
		// authorities it accepts; this caller insists.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	switch r.TLS {
	case ForeignRoot:
		certificate, err := c.foreign.certificate(r.ClaimedIdentity)
		if err != nil {
			return nil, err
		}
		present(certificate)
	case Presented:
		certificate, err := tls.X509KeyPair([]byte(r.Certificate.Chain), []byte(r.Certificate.Key))
		if err != nil {
			return nil, fmt.Errorf("read the certificate to present: %w", err)
		}
		present(&certificate)
	case OwnIdentity:
		if c.certifier == nil {
			return nil, ErrNoCertifier
		}
		certificate, roots, err := c.certifier.Certificate(ctx)
		if err != nil {
			return nil, err
		}
		present(certificate)
		config.InsecureSkipVerify, config.RootCAs = false, roots
	}
	return config, nil
}

func (r Request) alpn() []string {
	switch {
	case len(r.ALPN) == 1 && r.ALPN[0] == "":
		return nil
	case len(r.ALPN) > 0:
		return r.ALPN
	case r.Transport != nil:
		return []string{TransportALPN}
	case r.Protocol == HTTP1, r.Protocol.tunnel():
		return []string{"http/1.1"}
	case r.Protocol.http2():
		return []string{"h2"}
	}
	return nil
}

// foreignAuthority is a certificate authority nobody trusts. The zero value is
// ready; it is made at the first certificate.
type foreignAuthority struct {
	mu     sync.Mutex
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
	leaves map[string]*tls.Certificate
}

// certificate returns a leaf for identity, correct in everything but its root.
func (a *foreignAuthority) certificate(identity string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if leaf, ok := a.leaves[identity]; ok {
		return leaf, nil
	}
	if a.root == nil {
		root, key, err := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "root of no mesh"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign}, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("make a foreign root: %w", err)
		}
		a.root, a.key, a.leaves = root, key, map[string]*tls.Certificate{}
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: identity}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if identity != "" {
		template.DNSNames = []string{identity}
	}
	leaf, key, err := sign(template, a.root, a.key)
	if err != nil {
		return nil, fmt.Errorf("make a foreign certificate for %q: %w", identity, err)
	}
	made := &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.root.Raw}, PrivateKey: key, Leaf: leaf}
	a.leaves[identity] = made
	return made, nil
}

// sign completes template with a key, serial number and dates, signed by parent
// or by itself.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(foreignLife)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}
