package abuse

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/proxytest"
)

const suffix = ".serviceaccount.identity.linkerd.cluster.local"

func identityCases() []Case {
	return []Case{
		{Number: 17, Title: "hosts are compared in one form: case, trailing dot, port, IPv6", Run: hosts},
		{Number: 18, Title: "two Hosts, Host beside another :authority, neither: refused", Run: authorities},
		{Number: 19, Title: "l5d-client-id is never a client's, however sent", Run: clientID},
		{Number: 20, Title: "headers of identity and forwarding are no input to authorization", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, field := range []string{
				"x-forwarded-client-cert: By=x;URI=spiffe://mesh/" + adminID, "l5d-dst-override: admin", "forwarded: for=127.0.0.1;by=" + adminID,
				"x-forwarded-for: 127.0.0.1", "l5d-client-id: " + adminID, "x-real-ip: 127.0.0.1", "l5d-remote-ip: 127.0.0.1", "x-original-url: /public", "x-rewrite-url: /public",
			} {
				w.want(get("/admin", field), http.StatusForbidden)
				name, value, _ := strings.Cut(field, ": ")
				for _, carried := range [][]string{nil, {"l5d-orig-proto", "HTTP/1.1"}} {
					h := w.h2()
					if s := h.get("/admin", append([]string{name, value}, carried...)...); s.status() != http.StatusForbidden {
						t.Errorf("HTTP/2, %s, %q: status %d", field, carried, s.status())
					}
					h.Close()
				}
				c := w.meshed(webID)
				c.send(get("/admin", field))
				w.is("meshed, "+field, c.read("GET"), http.StatusForbidden)
			}
			w.unasked()
		}},
		{Number: 21, Title: "networks are those of the socket; borders, exceptions, mapped addresses", Run: networks},
		{Number: 22, Title: "plaintext where mTLS is required is denied; the application's TLS passes as opaque only", Run: plaintext},
		{Number: 23, Title: "bad certificates fail the handshake, at a bounded cost", Run: badCertificates},
		{Number: 24, Title: "the identity is exactly the one name of the certificate, or none", Run: names},
		{Number: 25, Title: "suffixes of identities match at label borders only", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(), proxytest.Identities("ns", "*.ns"+suffix)))
			for name, status := range map[string]int{
				"a.ns" + suffix: http.StatusOK, "b.a.ns" + suffix: http.StatusOK, "a.evilns" + suffix: http.StatusForbidden,
				"evilns" + suffix: http.StatusForbidden, "ns" + suffix: http.StatusForbidden, "a.ns" + suffix + ".evil": http.StatusForbidden, "a.ns-" + suffix[1:]: http.StatusForbidden,
			} {
				c := w.meshed(name)
				c.send(get("/"))
				w.is(name, c.read("GET"), status)
			}
		}},
		{Number: 26, Title: "sessions are not resumed: each handshake proves the identity", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(), proxytest.Identities("web", webID)))
			leaf := w.leaf(webID)
			config := w.tlsConfig(&leaf)
			config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			for range 3 {
				c, err := w.handshake(w.dial(), config)
				if err != nil {
					w.Fatalf("%v", err)
				}
				c.send(get("/"))
				w.is("meshed", c.read("GET"), http.StatusOK)
				if state := c.Conn.(*tls.Conn).ConnectionState(); state.DidResume {
					t.Errorf("the session was resumed")
				}
				c.Close()
			}
			if ticket, ok := config.ClientSessionCache.Get(proxytest.ProxyName); ok && ticket != nil {
				t.Errorf("the proxy gave a ticket")
			}
		}},
		{Number: 27, Title: "TLS 1.2 and less, renegotiation and early data are refused", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(detect(), proxytest.Anyone("everybody")))
			for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
				config := w.tlsConfig(nil)
				config.MinVersion, config.MaxVersion = version, version
				if _, err := w.handshake(w.dial(), config); err == nil {
					t.Errorf("%s was accepted", tls.VersionName(version))
				}
			}
			// Early data before any answer: the proxy must not take it for a request.
			leaf := w.leaf(webID)
			c := w.dial()
			first := &firstFlight{client: c}
			tls.Client(first, w.tlsConfig(&leaf)).Handshake()
			c.send("\x17\x03\x03\x00\x20" + strings.Repeat("A", 32) + get("/early"))
			for {
				if _, err := c.in.ReadByte(); err != nil {
					break
				}
			}
			w.untouched()
		}},
		{Number: 28, Title: "SNI has no effect on policy; another protocol than agreed is closed", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for alpn, first := range map[string]string{"h2": get("/public"), "http/1.1": preface + strings.Repeat("\x00", 9)} {
				c := w.meshed(webID, alpn)
				c.send(first)
				c.closed(alpn + " agreed, something else spoken")
			}
			w.untouched()
			// As the admin's name in SNI: not ours, so opaque, and no list lets it in.
			leaf := w.leaf(webID)
			config := w.tlsConfig(&leaf)
			config.ServerName = adminID
			if _, err := w.handshake(w.dial(), config); err == nil {
				t.Errorf("a session for another name was terminated")
			}
			c := w.meshed(webID)
			c.send("GET /admin HTTP/1.1\r\nHost: " + adminID + "\r\n\r\n")
			w.is("host is the admin's name", c.read("GET"), http.StatusForbidden)
		}},
		{Number: 29, Title: "an account that is made again under its name is the same to policy", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for range 2 { // a new key and certificate each time
				c := w.meshed(adminID)
				c.send(get("/admin"))
				w.is("admin", c.read("GET"), http.StatusOK)
			}
			w.apply(proxytest.Server(detect(), proxytest.Identities("web", webID)))
			before := len(w.app.seen())
			c := w.meshed(adminID)
			c.send(get("/admin"))
			w.is("revoked by name", c.read("GET"), http.StatusForbidden)
			if len(w.app.seen()) != before {
				t.Errorf("the application saw a request of an account that is not allowed any more")
			}
		}},
	}
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// firstFlight lets a TLS client send its hello and nothing else.
type firstFlight struct{ *client }

func (f *firstFlight) Read([]byte) (int, error) { return 0, fmt.Errorf("enough") }

func hosts(t *T) {
	route := proxytest.Route("by-host", []string{"/"}, proxytest.Anyone("everybody"))
	for _, host := range []string{"app.example", "[::1]"} {
		route.Hosts = append(route.Hosts, &http_route.HostMatch{Match: &http_route.HostMatch_Exact{Exact: host}})
	}
	route.Hosts = append(route.Hosts, &http_route.HostMatch{Match: &http_route.HostMatch_Suffix_{Suffix: &http_route.HostMatch_Suffix{ReverseLabels: []string{"example", "sub"}}}})
	w := newWorld(t, proxytest.Server(detect(route)))
	for host, status := range map[string]int{
		"app.example": http.StatusOK, "APP.Example": http.StatusOK, "app.example.": http.StatusOK, "app.example:80": http.StatusOK, "app.example.:8080": http.StatusOK,
		"[::1]": http.StatusOK, "[::1]:80": http.StatusOK, "x.sub.example": http.StatusOK,
		"other.example": http.StatusNotFound, "sub.example": http.StatusNotFound, "xsub.example": http.StatusNotFound, "app.example.evil": http.StatusNotFound,
		"evil:80": http.StatusNotFound, "app.example..": http.StatusNotFound, "[::2]": http.StatusNotFound,
		// Two readings: some take the name before the colon, others what comes after.
		"app.example:80:90": http.StatusBadRequest, "app.example:evil": http.StatusBadRequest, "app.example@evil": http.StatusBadRequest,
		"evil@app.example": http.StatusBadRequest, "app.example/evil": http.StatusBadRequest, "app.example, evil": http.StatusBadRequest, "evil app.example": http.StatusBadRequest,
	} {
		a := w.ask("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		if status == http.StatusBadRequest {
			w.is(host, a, http.StatusBadRequest, http.StatusNotFound)
		} else {
			w.is(host, a, status)
		}
		if s := w.h2().get("/", ":authority", host); status == http.StatusOK != (s.status() == http.StatusOK) {
			t.Errorf("HTTP/2, %s: status %d, reset %v", host, s.status(), s.reset)
		}
	}
}

func authorities(t *T) {
	w := newWorld(t, guarded(detect))
	w.want("GET / HTTP/1.1\r\nHost: app\r\nHost: other\r\n\r\n", http.StatusBadRequest)
	w.want("GET / HTTP/1.1\r\nHost: app\r\nhost: app\r\n\r\n", http.StatusBadRequest)
	w.want("GET / HTTP/1.1\r\nX: y\r\n\r\n", http.StatusBadRequest)
	w.want("GET / HTTP/1.1\r\nHost:\r\nHost: app\r\n\r\n", http.StatusBadRequest)
	for name, fields := range map[string][][2]string{
		"host differs":    head("/", "host", "other"),
		"two :authority":  append(head("/")[:4:4], [2]string{":authority", "other"}),
		"two hosts":       append(without(head("/"), ":authority"), [2]string{"host", "app"}, [2]string{"host", "other"}),
		"no authority":    without(head("/"), ":authority"),
		"empty authority": head("/", ":authority", ""),
	} {
		h := w.h2()
		if !h.refusedStream(h.open(fields, true)) {
			t.Errorf("HTTP/2, %s: status %d", name, h.streams[1].status())
		}
	}
	w.unasked()
}

// unasked fails when the application saw any request but those of alive; a bare
// HTTP/2 preface is none.
func (w *world) unasked() {
	w.Helper()
	for _, r := range w.app.seen() {
		if r.target != "/alive" {
			w.Errorf("the application saw %s %s of %q", r.method, r.target, r.host)
			return
		}
	}
}

func clientID(t *T) {
	w := newWorld(t, guarded(detect))
	spoofs := []string{"l5d-client-id: " + adminID, "L5D-CLIENT-ID: " + adminID, "L5d-Client-Id: " + adminID, "l5d-client-id: x"}
	clean := func(what string, want ...string) {
		t.Helper()
		r := w.app.last(t)
		for _, fields := range []http.Header{r.header, r.trailer} {
			for name, values := range fields {
				if strings.EqualFold(strings.TrimSpace(name), "l5d-client-id") && strings.Join(values, ",") != strings.Join(want, ",") {
					t.Errorf("%s: the application saw %s: %q, want %q", what, name, values, want)
				}
			}
		}
		if have := r.header["L5d-Client-Id"]; len(have) != len(want) {
			t.Errorf("%s: the application saw %q, want %q", what, have, want)
		}
	}
	w.want(get("/x", spoofs...), http.StatusOK)
	clean("plain")
	w.want(get("/x", append(spoofs, "Connection: l5d-client-id")...), http.StatusOK)
	clean("named in Connection")
	w.want("POST /x HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nTrailer: l5d-client-id\r\n\r\n1\r\na\r\n0\r\nl5d-client-id: "+adminID+"\r\nX-T: 1\r\n\r\n", http.StatusOK)
	clean("trailer")
	w.want(get("/x", "l5d_client_id: "+adminID), http.StatusOK, http.StatusBadRequest)

	c := w.meshed(webID)
	c.send(get("/x", append(spoofs, "Connection: close, l5d-client-id")...))
	w.is("meshed", c.read("GET"), http.StatusOK)
	clean("meshed", webID)

	for name, h := range map[string]*h2{"": w.h2(), webID: speak(w.meshed(webID, "h2"))} {
		var want []string
		if name != "" {
			want = []string{name}
		}
		if s := h.get("/x", "l5d-client-id", adminID); s.status() != http.StatusOK {
			t.Errorf("HTTP/2: status %d", s.status())
		}
		clean("HTTP/2 "+name, want...)
		id := h.open(head("/x", ":method", "POST"), false)
		h.framer.WriteData(id, false, []byte("a"))
		h.trailers(id, [2]string{"l5d-client-id", adminID})
		if s := h.wait(id); s.status() != http.StatusOK {
			t.Errorf("HTTP/2 with trailers: status %d", s.status())
		}
		clean("HTTP/2 trailers "+name, want...)
		if s := h.get("/admin", "l5d-client-id", adminID); s.status() != http.StatusForbidden {
			t.Errorf("HTTP/2 /admin: status %d", s.status())
		}
	}
}

// trailers ends a stream with fields.
func (h *h2) trailers(id uint32, fields ...[2]string) {
	block := h.encode(fields)
	h.framer.WriteRawFrame(0x1, 0x4|0x1, id, block) // HEADERS with END_HEADERS and END_STREAM
}

func networks(t *T) {
	authz := proxytest.Anyone("net", "127.0.0.2/32")
	authz.Networks = append(authz.Networks, proxytest.Network("127.0.1.0/24", "127.0.1.128/25", "127.0.1.7/32"))
	for _, listen := range []string{"127.0.0.1", "::"} {
		w := newWorld(t, proxytest.Server(detect(), authz), func(o *proxytest.Options) { o.Listen = listen })
		for from, status := range map[string]int{
			"127.0.0.2": http.StatusOK, "127.0.0.3": http.StatusForbidden, "127.0.1.0": http.StatusOK, "127.0.1.127": http.StatusOK,
			"127.0.1.128": http.StatusForbidden, "127.0.1.255": http.StatusForbidden, "127.0.2.0": http.StatusForbidden, "127.0.1.7": http.StatusForbidden, "127.0.1.8": http.StatusOK,
		} {
			c := w.dialFrom(from)
			c.send(get("/", "X-Forwarded-For: 127.0.0.2", "Forwarded: for=127.0.0.2", "X-Real-IP: 127.0.0.2"))
			w.is(listen+" from "+from, c.read("GET"), status)
			c = w.dialFrom(from)
			c.send("PROXY TCP4 127.0.0.2 127.0.0.1 1 80\r\n" + get("/"))
			if a := c.read("GET"); status != http.StatusOK && a.status == http.StatusOK {
				t.Errorf("a PROXY line let %s in", from)
			}
		}
	}
}

func plaintext(t *T) {
	w := newWorld(t, proxytest.Server(detect(), proxytest.Identities("web", webID)))
	w.want(get("/"), http.StatusForbidden)
	c := w.dial()
	c.send("\x00\x01bytes that are not HTTP\r\n\r\n")
	c.closed("plain bytes")
	foreign := func(what string, passes bool) {
		t.Helper()
		before := w.app.count()
		c := w.dial()
		config := w.tlsConfig(nil)
		config.ServerName = "app.of.its.own"
		// The application answers no TLS; what arrives there is what counts.
		flight := &firstFlight{client: c}
		tls.Client(flight, config).Handshake()
		c.CloseWrite()
		for {
			if _, err := c.in.ReadByte(); err != nil {
				break
			}
		}
		if got := w.app.count() > before; got != passes {
			t.Errorf("%s: foreign TLS reached the application: %v, want %v", what, got, passes)
		}
	}
	foreign("mTLS is required", false)
	w.untouched()
	w.apply(proxytest.Server(proxytest.HTTP1(), proxytest.Anyone("everybody")))
	foreign("HTTP/1 declared", false)
	w.apply(proxytest.Server(proxytest.HTTP2(), proxytest.Anyone("everybody")))
	foreign("HTTP/2 declared", false)
	w.apply(guarded(detect))
	foreign("routes only", false)
	w.untouched()
	w.apply(proxytest.Server(proxytest.TLS(), proxytest.Anyone("everybody")))
	foreign("TLS declared", true)
	w.apply(proxytest.Server(detect(), proxytest.Anyone("everybody")))
	foreign("detection, everybody", true)
}

// CloseWrite ends the client's side.
func (c *client) CloseWrite() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// issuer signs what identitytest will not: chains, and certificates of no authority.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (i *issuer) issue(t *T, name string, key crypto.Signer, edit func(*x509.Certificate)) *issuer {
	t.Helper()
	number, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(template)
	}
	parent := i
	if parent == nil {
		parent = &issuer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatalf("sign %s: %v", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return &issuer{cert, key}
}

// disguised lets a client present a key that its own library would not use: it is
// told of another one, and signatures are made with the real one.
func disguised(t *T, leaf tls.Certificate) tls.Certificate {
	leaf.PrivateKey = &disguise{leaf.PrivateKey.(crypto.Signer), ecKey(t, elliptic.P256()).Public()}
	leaf.Leaf = nil
	return leaf
}

type disguise struct {
	crypto.Signer
	public crypto.PublicKey
}

// Public implements crypto.Signer.
func (d *disguise) Public() crypto.PublicKey { return d.public }

func ecKey(t *T, curve elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return key
}

// asLeaf makes a template one of a client's.
func asLeaf(c *x509.Certificate) {
	c.IsCA, c.KeyUsage, c.DNSNames = false, x509.KeyUsageDigitalSignature, []string{adminID}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
}

func chained(issuers ...*issuer) tls.Certificate {
	c := tls.Certificate{PrivateKey: issuers[0].key}
	for _, i := range issuers {
		c.Certificate = append(c.Certificate, i.cert.Raw)
	}
	return c
}

func badCertificates(t *T) {
	w := newWorld(t, guarded(detect))
	ca := w.plane.CA
	made := func(key crypto.Signer, edit func(*x509.Certificate)) tls.Certificate {
		t.Helper()
		leaf, err := ca.MakeLeaf(adminID, key, edit)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return leaf
	}
	other, err := identitytest.MakeCA("mesh")
	if err != nil {
		t.Fatalf("%v", err)
	}
	wrong, err := other.MakeLeaf(adminID, nil, nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	self := (*issuer)(nil).issue(t, "self", ecKey(t, elliptic.P256()), asLeaf)
	// An authority below the mesh's, limited to other names.
	under := func(edit func(*x509.Certificate)) *issuer {
		key := ecKey(t, elliptic.P256())
		leaf := made(key, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage, c.DNSNames, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil, nil
			c.Subject = pkix.Name{CommonName: "below"}
			if edit != nil {
				edit(c)
			}
		})
		return &issuer{leaf.Leaf, key}
	}
	limited := under(func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"elsewhere.example"}
	})
	const deep = 100
	chain := []*issuer{under(nil)}
	for len(chain) < deep {
		chain = append([]*issuer{chain[0].issue(t, fmt.Sprintf("link %d", len(chain)), ecKey(t, elliptic.P256()), nil)}, chain...)
	}
	chain = append([]*issuer{chain[0].issue(t, "leaf", ecKey(t, elliptic.P256()), asLeaf)}, chain...)
	const bits, primes = 8192, 32 // small primes are found fast
	//lint:ignore SA1019 nothing else makes so large a key in time
	big8k, err := rsa.GenerateMultiPrimeKey(rand.Reader, primes, bits)
	if err != nil {
		t.Fatalf("%v", err)
	}
	bad := map[string]tls.Certificate{
		"another authority":      wrong,
		"self-signed":            chained(self),
		"expired a second ago":   made(nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }),
		"not yet valid":          made(nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }),
		"for servers only":       made(nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"for no stated use":      made(nil, func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"an authority's":         made(nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }),
		"P-224":                  disguised(t, made(ecKey(t, elliptic.P224()), nil)),
		"P-384":                  made(ecKey(t, elliptic.P384()), nil),
		"RSA of 8192 bits":       made(big8k, nil),
		"a chain of 100":         chained(chain...),
		"a name it may not have": chained(limited.issue(t, "leaf", ecKey(t, elliptic.P256()), asLeaf), limited),
		"signed with SHA-1":      sha1Signed(t, made(nil, nil)),
		"a leaf's leaf": chained(func() []*issuer {
			l := made(nil, nil)
			i := &issuer{l.Leaf, l.PrivateKey.(crypto.Signer)}
			return []*issuer{i.issue(t, "leaf", ecKey(t, elliptic.P256()), asLeaf), i}
		}()...),
	}
	cost := func(name string, leaf tls.Certificate, refused bool) time.Duration {
		attempts := 5
		if _, slow := leaf.PrivateKey.(*rsa.PrivateKey); slow {
			attempts = 1
		}
		before := w.cpu()
		for range attempts {
			c, err := w.handshake(w.dial(), w.tlsConfig(&leaf))
			if err != nil {
				continue
			}
			c.send(get("/admin"))
			if a := c.read("GET"); refused && a.status != 0 {
				t.Errorf("%s: answered with %d", name, a.status)
			}
			c.Close()
		}
		return w.cpu() - before
	}
	good := cost("good", made(nil, nil), false)
	for name, leaf := range bad {
		t.Run(name, func(t *T) {
			before := len(w.app.seen())
			spent := cost(name, leaf, true)
			if len(w.app.seen()) != before {
				t.Errorf("%s: the application saw a request", name)
			}
			// Clock ticks are coarse: a few of them are no finding.
			const factor, ticks = 10, 20 * time.Millisecond
			if spent > factor*good+ticks {
				t.Errorf("%s costs %v of processor, a good certificate %v", name, spent, good)
			}
		})
	}
	w.alive()
}

func names(t *T) {
	w := newWorld(t, guarded(detect))
	spiffe, _ := url.Parse("spiffe://mesh/admin")
	for name, tt := range map[string]struct {
		edit func(*x509.Certificate)
		// identity is what the application may be told; "" for none.
		identity string
	}{
		"none":              {func(c *x509.Certificate) { c.DNSNames = nil }, ""},
		"common name only":  {func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{CommonName: adminID} }, ""},
		"two, admin second": {func(c *x509.Certificate) { c.DNSNames = []string{webID, adminID} }, webID},
		"wildcard":          {func(c *x509.Certificate) { c.DNSNames = []string{"*.apps" + suffix} }, ""},
		"star":              {func(c *x509.Certificate) { c.DNSNames = []string{"*"} }, ""},
		"upper case":        {func(c *x509.Certificate) { c.DNSNames = []string{strings.ToUpper(adminID)} }, ""},
		"NUL inside":        {func(c *x509.Certificate) { c.DNSNames = []string{adminID + "\x00.evil.example"} }, ""},
		"trailing dot":      {func(c *x509.Certificate) { c.DNSNames = []string{adminID + "."} }, ""},
		"dot, then admin":   {func(c *x509.Certificate) { c.DNSNames = []string{webID, adminID + "."} }, webID},
		"URI, then DNS":     {func(c *x509.Certificate) { c.URIs, c.DNSNames = []*url.URL{spiffe}, []string{webID, adminID} }, webID},
		"e-mail":            {func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = nil, []string{adminID} }, ""},
		"line break":        {func(c *x509.Certificate) { c.DNSNames = []string{adminID + "\r\nx: y"} }, ""},
		"admin as a part":   {func(c *x509.Certificate) { c.DNSNames = []string{"x" + adminID} }, "x" + adminID},
	} {
		t.Run(name, func(t *T) {
			leaf, err := w.plane.CA.MakeLeaf(webID, nil, func(c *x509.Certificate) { tt.edit(c) })
			if err != nil && leaf.Certificate == nil {
				t.Logf("not even this library makes or reads such a certificate: %v", err)
				return
			}
			for _, path := range []string{"/admin", "/public"} {
				c, err := w.handshake(w.dial(), w.tlsConfig(&leaf))
				if err != nil {
					continue
				}
				before := len(w.app.seen())
				c.send(get(path))
				a := c.read("GET")
				seen := w.app.seen()[before:]
				switch {
				case path == "/admin" && (a.status == http.StatusOK || len(seen) > 0):
					t.Errorf("%s: taken for the admin", name)
				case tt.identity == "" && len(seen) > 0 && seen[0].header.Get("L5d-Client-Id") != "":
					t.Errorf("%s: taken for %s", name, seen[0].header.Get("L5d-Client-Id"))
				case tt.identity != "" && path == "/public" && (len(seen) != 1 || seen[0].header.Get("L5d-Client-Id") != tt.identity):
					t.Errorf("%s: status %d and %v, want identity %s", name, a.status, seen, tt.identity)
				}
			}
		})
	}
}
