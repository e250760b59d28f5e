package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"
)

// keyExchange is what I-01 allows, most wanted first.
var keyExchange = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}

// baseConfig is what both ends share.
func baseConfig(alpn []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       keyExchange,
		SessionTicketsDisabled: true, // an identity is proved at each handshake (I-06)
		NextProtos:             alpn,
	}
}

// ServerConfig returns settings for accepting mesh TLS. The certificate in force
// at each handshake is presented; none yet, or none valid, fails it (I-04).
// Clients are asked for a certificate: whoever presents one must pass I-02, who
// presents none has no identity (I-03).
func (c *Client) ServerConfig(alpn ...string) *tls.Config {
	config := baseConfig(alpn)
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.certificate() }
	config.ClientAuth = tls.RequestClientCert
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return nil
		}
		_, err := c.trust.identify(state.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
		return err
	}
	return config
}

// ClientConfig returns settings for dialling the mesh server that is to prove
// the identity serverName, which is sent as SNI too. The own certificate is
// presented; without a valid one the handshake fails.
func (c *Client) ClientConfig(serverName string, alpn ...string) *tls.Config {
	return c.ClientConfigSNI(serverName, serverName, alpn...)
}

// ClientConfigSNI is ClientConfig for the case that the server is to be asked
// for by another name than the identity it is to prove.
func (c *Client) ClientConfigSNI(identity, sni string, alpn ...string) *tls.Config {
	config := baseConfig(alpn)
	config.ServerName = sni
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() }
	// The library's check would accept a wildcard and further names; ours, in
	// VerifyConnection, is stricter and always runs.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		name, err := c.trust.identify(state.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
		if err != nil {
			return err
		}
		if name != identity {
			return fmt.Errorf("peer certificate: names %s, expected %s", name, identity)
		}
		return nil
	}
	return config
}

// PeerIdentity is the identity that the peer of a session made with ServerConfig
// or ClientConfig has proved, "" when it presented no certificate.
func PeerIdentity(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return ""
	}
	name, err := identityOf(state.PeerCertificates[0])
	if err != nil {
		return ""
	}
	return name
}
