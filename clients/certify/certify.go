// Package certify gets a client a mesh certificate of its own, the way a proxy
// gets one: the pod's ServiceAccount token and a certificate request go to the
// mesh's identity service, a leaf comes back.
//
// It exists so that a client without a sidecar can present a genuine identity
// and see the answers that sidecars keep from applications (rule N-07). It is
// written apart from the mesh's own client, which it must not agree with by
// construction. It trusts only the roots it is given.
package certify

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Where a mesh that is installed with Linkerd's names has its identity service.
const (
	DefaultAddress    = "linkerd-identity-headless.linkerd.svc.cluster.local:8080"
	DefaultServerName = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
	DefaultTokenFile  = "/var/run/secrets/tokens/linkerd-identity-token"
)

// spare is how long before its end a certificate is no longer given out, so
// that none ends during a call.
const spare = time.Minute

// Source certifies at the first use and keeps the certificate until it nears
// its end. It is safe for concurrent use.
type Source struct {
	// Address, ServerName and TokenFile have the defaults above.
	Address, ServerName, TokenFile string
	// Name is the identity to be certified for:
	// <sa>.<ns>.serviceaccount.identity.linkerd.cluster.local
	Name string
	// Roots is the PEM bundle of the mesh's trust anchors.
	Roots []byte
	// Token, when not empty, stands in for what is in TokenFile.
	Token []byte
	// Dial, when not nil, connects to the service in place of the network.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	mu      sync.Mutex
	current *tls.Certificate
	pool    *x509.CertPool
}

// ErrRoots says that a Source holds no trust anchors.
var ErrRoots = errors.New("the trust anchors hold no certificate")

// Certificate returns the leaf with its chain, and the roots. Errors are the
// identity service's status, wrapped, or what kept the call from being made.
func (s *Source) Certificate(ctx context.Context) (*tls.Certificate, *x509.CertPool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool == nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(s.Roots) {
			return nil, nil, ErrRoots
		}
		s.pool = pool
	}
	if s.current == nil || time.Until(s.current.Leaf.NotAfter) < spare {
		made, err := s.certify(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("certify as %s: %w", s.Name, err)
		}
		s.current = made
	}
	return s.current, s.pool, nil
}

func (s *Source) certify(ctx context.Context) (*tls.Certificate, error) {
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{s.Name}}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	target, options := "dns:///"+or(s.Address, DefaultAddress), []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.pool, ServerName: or(s.ServerName, DefaultServerName)}))}
	if s.Dial != nil {
		target, options = "passthrough:///"+or(s.Address, DefaultAddress), append(options, grpc.WithContextDialer(s.Dial))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("make a client of the identity service: %w", err)
	}
	defer conn.Close()
	answer, err := identity.NewIdentityClient(conn).Certify(ctx, &identity.CertifyRequest{
		Identity: s.Name, Token: token, CertificateSigningRequest: request}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("ask the identity service: %w", err)
	}
	chain := append([][]byte{answer.GetLeafCertificate()}, answer.GetIntermediateCertificates()...)
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	if err := leaf.VerifyHostname(s.Name); err != nil {
		return nil, fmt.Errorf("check the certificate: %w", err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

func (s *Source) token() ([]byte, error) {
	if len(s.Token) > 0 {
		return s.Token, nil
	}
	token, err := os.ReadFile(or(s.TokenFile, DefaultTokenFile))
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return token, nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
