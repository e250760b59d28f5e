package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	web    = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
	voting = "voting.emojivoto.serviceaccount.identity.linkerd.cluster.local"
)

// session is what both ends of one handshake made of it. Under TLS 1.3 a client
// learns that its certificate was refused only when it reads.
type session struct {
	serverErr, clientErr error
	server, client       tls.ConnectionState
}

func handshake(t *testing.T, server, client *tls.Config) session {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a pipe has no buffer and deadlocks on an alert
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	b, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var s session
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn := tls.Server(a, server)
		defer a.Close()
		if s.serverErr = conn.Handshake(); s.serverErr != nil {
			return
		}
		s.server = conn.ConnectionState()
		conn.Write([]byte("x"))
	}()
	conn := tls.Client(b, client)
	_, s.clientErr = io.ReadFull(conn, make([]byte, 1))
	s.client = conn.ConnectionState()
	b.Close()
	<-done
	return s
}

// presenting is a client's settings that check nothing and present leaf, so
// that only the server's judgement shows.
func presenting(leaf ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: voting, Certificates: leaf}
}

func usages(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = u }
}

func names(dns ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = dns }
}

func uris(t *testing.T, texts ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames = nil
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// inOrder makes a certificate name these, in this order.
func inOrder(t *testing.T, names ...asn1.RawValue) func(*x509.Certificate) {
	t.Helper()
	for i := range names {
		names[i].Class = asn1.ClassContextSpecific
	}
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.DNSNames = nil
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value})
	}
}

// Shows X-75 and I-02.
func TestAPresentedCertificateIsAnIdentityOrTheHandshakeFails(t *testing.T) {
	ca, foreign := identitytest.NewCA(t, "ours"), identitytest.NewCA(t, "foreign")
	server := ca.Client(t, voting).ServerConfig()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	long := ca.Leaf(t, web, nil)
	for range 9 {
		long.Certificate = append(long.Certificate, ca.Certificate.Raw)
	}
	const refused = "refused"
	for name, row := range map[string]struct {
		leaf tls.Certificate
		want string
	}{
		"valid":                       {ca.Leaf(t, web, nil), web},
		"spiffe":                      {ca.Leaf(t, "", uris(t, "spiffe://cluster.local/ns/a/sa/b")), "spiffe://cluster.local/ns/a/sa/b"},
		"client usage only":           {ca.Leaf(t, web, usages(x509.ExtKeyUsageClientAuth)), web},
		"wrong authority":             {foreign.Leaf(t, web, nil), refused},
		"expired":                     {ca.Leaf(t, web, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), refused},
		"not yet valid":               {ca.Leaf(t, web, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), refused},
		"server usage only":           {ca.Leaf(t, web, usages(x509.ExtKeyUsageServerAuth)), refused},
		"no usage":                    {ca.Leaf(t, web, usages()), refused},
		"authority as leaf":           {ca.Leaf(t, web, func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }), refused},
		"no name":                     {ca.Leaf(t, web, names()), refused},
		"common name only":            {ca.Leaf(t, web, func(c *x509.Certificate) { c.DNSNames = nil; c.Subject.CommonName = web }), refused},
		"the first of two":            {ca.Leaf(t, web, names(web, voting)), web}, // X-75, as all that follow
		"the same name twice":         {ca.Leaf(t, web, names(web, web)), web},
		"name before URI":             {ca.Leaf(t, web, func(c *x509.Certificate) { uris(t, "spiffe://a/b")(c); c.DNSNames = []string{web} }), web},
		"URI before name":             {ca.Leaf(t, "", inOrder(t, asn1.RawValue{Tag: 6, Bytes: []byte("spiffe://a/b")}, asn1.RawValue{Tag: 2, Bytes: []byte(web)})), "spiffe://a/b"},
		"name and address":            {ca.Leaf(t, web, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }), web},
		"dot at the end of the first": {ca.Leaf(t, "", inOrder(t, asn1.RawValue{Tag: 2, Bytes: []byte(web + ".")}, asn1.RawValue{Tag: 2, Bytes: []byte(voting)})), voting},
		"wildcard before a name":      {ca.Leaf(t, web, names("*.emojivoto.serviceaccount.identity.linkerd.cluster.local", web)), refused},
		"NUL in a name":               {ca.Leaf(t, "", inOrder(t, asn1.RawValue{Tag: 2, Bytes: []byte(web + "\x00.evil")})), refused},
		"wildcard":                    {ca.Leaf(t, web, names("*.emojivoto.serviceaccount.identity.linkerd.cluster.local")), refused},
		"upper case":                  {ca.Leaf(t, web, names("Web.emojivoto.serviceaccount.identity.linkerd.cluster.local")), refused},
		"trailing dot":                {ca.Leaf(t, web, names(web+".")), refused},
		"not a SPIFFE URI":            {ca.Leaf(t, "", uris(t, "https://cluster.local/ns/a")), refused},
		"P-384 key":                   {ca.LeafFor(t, web, p384, nil), refused},
		"RSA key":                     {ca.LeafFor(t, web, rsaKey, nil), refused},
		"chain too long":              {long, refused},
	} {
		t.Run(name, func(t *testing.T) {
			s := handshake(t, server, presenting(row.leaf))
			if row.want == refused {
				if s.serverErr == nil || s.clientErr == nil {
					t.Fatalf("handshake accepted as %q", identity.PeerIdentity(s.server))
				}
				return
			}
			if s.serverErr != nil || s.clientErr != nil {
				t.Fatalf("handshake failed: server %v, client %v", s.serverErr, s.clientErr)
			}
			if got := identity.PeerIdentity(s.server); got != row.want {
				t.Errorf("peer identity %q, want %q", got, row.want)
			}
		})
	}
}

func TestNoCertificateIsASessionWithoutIdentity(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	s := handshake(t, ca.Client(t, voting).ServerConfig(), presenting())
	if s.serverErr != nil || s.clientErr != nil {
		t.Fatalf("handshake failed: server %v, client %v", s.serverErr, s.clientErr)
	}
	if got := identity.PeerIdentity(s.server); got != "" {
		t.Errorf("peer identity %q of a client without certificate", got)
	}
}

func TestAServerMustProveExactlyTheNameAskedFor(t *testing.T) {
	ca, foreign := identitytest.NewCA(t, "ours"), identitytest.NewCA(t, "foreign")
	client := ca.Client(t, web)
	for name, row := range map[string]struct {
		leaf tls.Certificate
		ok   bool
	}{
		"the name":          {ca.Leaf(t, voting, nil), true},
		"another name":      {ca.Leaf(t, "emoji.emojivoto.serviceaccount.identity.linkerd.cluster.local", nil), false},
		"a wildcard":        {ca.Leaf(t, "*"+strings.TrimPrefix(voting, "voting"), nil), false},
		"the first of two":  {ca.Leaf(t, voting, names(voting, web)), true},
		"the second of two": {ca.Leaf(t, voting, names(web, voting)), false},
		"foreign":           {foreign.Leaf(t, voting, nil), false},
		"client usage only": {ca.Leaf(t, voting, usages(x509.ExtKeyUsageClientAuth)), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := handshake(t, &tls.Config{Certificates: []tls.Certificate{row.leaf}}, client.ClientConfig(voting, "h2"))
			if ok := s.clientErr == nil; ok != row.ok {
				t.Errorf("accepted %v, want %v (%v)", ok, row.ok, s.clientErr)
			}
		})
	}
}

func TestTLSIsVersion13WithoutResumption(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	server, client := ca.Client(t, voting), ca.Client(t, web)
	config := client.ClientConfig(voting, "transport.l5d.io/v1")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	config.SessionTicketsDisabled = false // a client that would resume
	accepting := server.ServerConfig("transport.l5d.io/v1")
	for range 2 {
		s := handshake(t, accepting, config)
		if s.serverErr != nil || s.clientErr != nil {
			t.Fatalf("handshake failed: server %v, client %v", s.serverErr, s.clientErr)
		}
		if s.server.Version != tls.VersionTLS13 || s.server.CurveID != tls.X25519MLKEM768 || s.server.DidResume ||
			s.server.ServerName != voting || s.server.NegotiatedProtocol != "transport.l5d.io/v1" {
			t.Errorf("session %+v", s.server)
		}
		if got := identity.PeerIdentity(s.server); got != web {
			t.Errorf("client identity %q", got)
		}
		if got := identity.PeerIdentity(s.client); got != voting {
			t.Errorf("server identity %q", got)
		}
	}
	old := presenting()
	old.MaxVersion = tls.VersionTLS12
	if s := handshake(t, server.ServerConfig(), old); s.serverErr == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestHandshakesFailBeforeTheFirstCertificate(t *testing.T) {
	ca := identitytest.NewCA(t, "ours")
	client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: web, TrustAnchors: ca.PEM()},
		func(context.Context, []byte) ([][]byte, error) { return nil, errors.New("unused") })
	if err != nil {
		t.Fatal(err)
	}
	if s := handshake(t, client.ServerConfig(), presenting()); !errors.Is(s.serverErr, identity.ErrNotCertified) {
		t.Errorf("server: %v", s.serverErr)
	}
	if s := handshake(t, ca.Client(t, voting).ServerConfig(), client.ClientConfig(voting)); !errors.Is(s.clientErr, identity.ErrNotCertified) {
		t.Errorf("client: %v", s.clientErr)
	}
}
