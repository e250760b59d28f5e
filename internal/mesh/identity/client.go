package identity

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
	"log/slog"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// DefaultMinRefresh and DefaultMaxRefresh bound the time between two
	// certifications (J-04).
	DefaultMinRefresh = 10 * time.Second
	DefaultMaxRefresh = 24 * time.Hour

	// certifyTimeout bounds one attempt, dial included.
	certifyTimeout = 5 * time.Second
	// firstRetry doubles with each failed attempt up to lastRetry; every wait
	// is spread by retryJitter so that a restarted identity service is not met
	// by all proxies at once.
	firstRetry  = 100 * time.Millisecond
	lastRetry   = 10 * time.Second
	retryJitter = 0.2

	// renewalShare of the remaining life passes before renewal (J-04).
	renewalShare = 0.7
)

// ErrNotCertified is why a handshake fails while there is no valid leaf yet, or
// any more (I-04).
var ErrNotCertified = errors.New("no valid mesh certificate")

// Signer turns a certificate request (DER, one DNS name) into a chain in DER,
// leaf first, trust anchor not included.
type Signer func(ctx context.Context, csr []byte) (chain [][]byte, err error)

// ClientConfig says who the process is and who certifies it.
type ClientConfig struct {
	// Addr is host:port of the identity service.
	Addr string
	// ServerName is the identity that the identity service must prove.
	ServerName string
	// TokenFile holds the service account token; it is read at each attempt,
	// since the kubelet replaces it.
	TokenFile string
	// LocalName is the identity asked for.
	LocalName string
	// TrustAnchors are the PEM certificates peers must chain to.
	TrustAnchors []byte
	// SocketMark is put on the client's own connections, 0 for none.
	SocketMark int
	// MinRefresh and MaxRefresh bound the renewal interval; 0 means default.
	MinRefresh, MaxRefresh time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Client holds the current certificate. It is useless until Run is called.
type Client struct {
	config ClientConfig
	sign   Signer
	trust  *trust
	ready  chan struct{}
	// current is replaced by Run at each certification, read at handshakes.
	current atomic.Pointer[tls.Certificate]
}

// NewClient returns a client of the identity service named in config.
func NewClient(config ClientConfig) (*Client, error) {
	if config.Addr == "" || config.ServerName == "" || config.TokenFile == "" {
		return nil, errors.New("identity client needs address, server name and token file of its identity service")
	}
	c, err := NewLocalClient(config, nil)
	if err != nil {
		return nil, err
	}
	c.sign = c.certifyRemotely
	return c, nil
}

// NewLocalClient returns a client certified by sign: for the identity service's
// own pod, which cannot call itself before it serves. Of config it needs
// LocalName and TrustAnchors only.
func NewLocalClient(config ClientConfig, sign Signer) (*Client, error) {
	if !validDNSIdentity(config.LocalName) {
		return nil, fmt.Errorf("identity client: %q is no identity name", config.LocalName)
	}
	anchors := x509.NewCertPool()
	if !anchors.AppendCertsFromPEM(config.TrustAnchors) {
		return nil, errors.New("identity client: no certificate found in the trust anchors")
	}
	if config.MinRefresh <= 0 {
		config.MinRefresh = DefaultMinRefresh
	}
	if config.MaxRefresh <= 0 {
		config.MaxRefresh = DefaultMaxRefresh
	}
	if config.MinRefresh > config.MaxRefresh {
		return nil, fmt.Errorf("identity client: least refresh %v exceeds greatest %v", config.MinRefresh, config.MaxRefresh)
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Client{config: config, sign: sign, trust: newTrust(anchors), ready: make(chan struct{})}, nil
}

// LocalName is the identity this client is certified for.
func (c *Client) LocalName() string { return c.config.LocalName }

// Ready is closed once the first certificate is there.
func (c *Client) Ready() <-chan struct{} { return c.ready }

// NotAfter tells when the current certificate ends, zero when there is none.
func (c *Client) NotAfter() time.Time {
	if leaf := c.current.Load(); leaf != nil {
		return leaf.Leaf.NotAfter
	}
	return time.Time{}
}

// Run certifies and renews until ctx ends, and returns nil then. A failed
// attempt is logged and repeated; the certificate in use is kept to its end.
func (c *Client) Run(ctx context.Context) error {
	log := c.config.Logger.With("identity", c.config.LocalName)
	retry := firstRetry
	for {
		leaf, err := c.certify(ctx)
		if ctx.Err() != nil {
			return nil
		}
		wait := jittered(retry)
		if err != nil {
			log.Warn("certification failed", "error", err, "retry", wait, "not_after", c.NotAfter())
			retry = min(2*retry, lastRetry)
		} else {
			first := c.current.Swap(leaf) == nil
			if first {
				close(c.ready)
			}
			wait, retry = c.renewIn(leaf.Leaf), firstRetry
			log.Info("certified", "not_after", leaf.Leaf.NotAfter, "renew_in", wait)
		}
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// renewIn applies J-04 to a fresh leaf.
func (c *Client) renewIn(leaf *x509.Certificate) time.Duration {
	share := time.Duration(float64(time.Until(leaf.NotAfter)) * renewalShare)
	return min(max(share, c.config.MinRefresh), c.config.MaxRefresh)
}

// certify makes a new key and has it certified. What comes back is checked as a
// peer would check it, so that a wrong leaf is found here and not there.
func (c *Client) certify(ctx context.Context) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, certifyTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: commonName(c.config.LocalName)},
		DNSNames: []string{c.config.LocalName},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request for %s: %w", c.config.LocalName, err)
	}
	chain, err := c.sign(ctx, csr)
	if err != nil {
		return nil, fmt.Errorf("have %s certified: %w", c.config.LocalName, err)
	}
	certificates := make([]*x509.Certificate, 0, len(chain))
	for _, der := range chain {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the certificate chain for %s: %w", c.config.LocalName, err)
		}
		certificates = append(certificates, certificate)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		self, err := verifyPeer(certificates, c.trust.anchors, usage, time.Now())
		if err != nil {
			return nil, fmt.Errorf("check the certificate for %s: %w", c.config.LocalName, err)
		}
		if self.name != c.config.LocalName {
			return nil, fmt.Errorf("check the certificate for %s: it names %s", c.config.LocalName, self.name)
		}
	}
	if !key.PublicKey.Equal(certificates[0].PublicKey) {
		return nil, fmt.Errorf("check the certificate for %s: it is for another key", c.config.LocalName)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: certificates[0]}, nil
}

// certificate is the current leaf while it is valid.
func (c *Client) certificate() (*tls.Certificate, error) {
	leaf := c.current.Load()
	if leaf == nil {
		return nil, fmt.Errorf("%w for %s: not certified yet", ErrNotCertified, c.config.LocalName)
	}
	if time.Now().After(leaf.Leaf.NotAfter) {
		return nil, fmt.Errorf("%w for %s: it ended at %v", ErrNotCertified, c.config.LocalName, leaf.Leaf.NotAfter)
	}
	return leaf, nil
}

// commonName repeats the identity where X.509 has room for it (64 characters).
func commonName(name string) string {
	const longest = 64
	if len(name) > longest {
		return ""
	}
	return name
}

func jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + retryJitter*(2*mathrand.Float64()-1)))
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
