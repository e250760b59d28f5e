package identity

import (
	"crypto/x509"
	"sync/atomic"
	"time"
)

// RememberedChains is how many chains a client remembers.
const RememberedChains = rememberedChains

// CountVerifications counts how often a client verifies a chain from now on. It is
// called before handshakes begin.
func CountVerifications(c *Client) *atomic.Int64 {
	var n atomic.Int64
	check := c.trust.check
	c.trust.check = func(chain []*x509.Certificate, anchors *x509.CertPool, usage x509.ExtKeyUsage, now time.Time) (peer, error) {
		n.Add(1)
		return check(chain, anchors, usage, now)
	}
	return &n
}

// Identify is what a client makes of a chain, in a handshake at that time.
func Identify(c *Client, chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (string, error) {
	return c.trust.identify(chain, usage, now)
}

// Remembered is how many chains a client knows.
func Remembered(c *Client) int {
	c.trust.mu.Lock()
	defer c.trust.mu.Unlock()
	return len(c.trust.known)
}
