package inbound

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// T-01, T-11 to T-13, T-31, B-05, I-02, M-08: what is closed without a policy's
// having been asked, counted by its kind and written down. Everything is granted to
// everybody, so nothing else can be the cause.
func TestWhatIsClosedUnaskedIsCountedAndRecorded(t *testing.T) {
	linkerd := func(c *Config) {
		c.Dialect, c.Default = policy.Linkerd, func(uint16) *policy.Port { return nil }
		c.Timeouts.Detect = short
	}
	admin := func(w *world) (net.Conn, error) { return w.dialTo(w.admin, client{from: neighbourIP}) }
	says := func(dial func(*world) (net.Conn, error), words string) func(*world) (net.Conn, error) {
		return func(w *world) (net.Conn, error) {
			conn, err := dial(w)
			if err == nil {
				_, err = io.WriteString(conn, words)
			}
			return conn, err
		}
	}
	plain := func(w *world) (net.Conn, error) { return w.dial(client{from: neighbourIP}) }
	directly := func(c client) func(*world) (net.Conn, error) {
		return func(w *world) (net.Conn, error) {
			w.redirectTo(netip.MustParseAddrPort(w.inbound))
			c.from = neighbourIP
			return w.dial(c)
		}
	}
	web := client{tls: true, identity: webName, alpn: []string{transport.ALPN}}
	edit := func(change func(*client)) client { c := web; change(&c); return c }
	stranger := identitytest.NewCA(t, "stranger")
	for _, row := range []struct {
		name, kind string
		edit       func(*Config)
		dial       func(*world) (net.Conn, error)
		// handshake: the client notices in its handshake, or with its first read.
		handshake bool
	}{
		{"T-01: another pod's address", errUnexpected, func(c *Config) { c.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1")} }, plain, false},
		{"T-12: a silent client, in dialect linkerd", errTLSTimeout, linkerd, plain, false},
		{"B-05: a silent client at the admin port", errTLSTimeout, func(c *Config) { c.Timeouts.AdminDetect = short }, admin, false},
		{"B-05: no HTTP at the admin port", errUnexpected, nil, says(admin, "hello\n"), false},
		{"T-31: plain text", errUnexpected, nil, says(directly(client{}), "GET / HTTP/1.1\r\n\r\n"), false},
		{"T-31: another name", errUnexpected, nil, directly(edit(func(c *client) { c.sni = "another.name" })), true},
		{"T-31: no certificate", errUnexpected, nil, directly(edit(func(c *client) { c.identity = "" })), true},
		{"T-31: another root's certificate", errUnexpected, nil, directly(edit(func(c *client) { c.ca = stranger })), true},
		{"T-31: another protocol", errUnexpected, nil, directly(edit(func(c *client) { c.alpn = []string{"h2"} })), true},
		{"T-31: no protocol", errUnexpected, nil, directly(edit(func(c *client) { c.alpn = nil })), true},
		{"T-32: no header", errUnexpected, nil, says(directly(web), "GET / HTTP/1.1\r\nHost: app\r\nMore: words\r\n\r\n"), false},
		{"I-02: another root's certificate", errUnexpected, nil, func(w *world) (net.Conn, error) {
			return w.dial(client{from: neighbourIP, tls: true, identity: webName, ca: stranger})
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, application(t, whoami()), row.edit)
			w.apply(server(detect(), anyone(t, "all")))
			w.applyTo(w.server.cfg.AdminPort, server(detect(), anyone(t, "all")))
			conn, err := row.dial(w)
			switch {
			case err == nil:
				refusal(t, conn)
				conn.Close()
			case !row.handshake:
				t.Fatal(err)
			}
			eventually(t, "the refusal recorded", func() bool {
				return len(w.server.cfg.Decisions.List(DecisionFilter{}).Decisions) == 1
			})
			if d := w.server.cfg.Decisions.List(DecisionFilter{}).Decisions[0]; d.Verdict != "refuse" || d.Reason == "" || !sameClient(d.Client, neighbourIP) {
				t.Errorf("record %+v", d)
			}
			if got := w.counter("inbound_tcp_errors_total", map[string]string{"error": row.kind}); got != 1 {
				t.Errorf("%s: %v", row.kind, got)
			}
			for _, name := range []string{"inbound_tcp_authz_deny_total", "inbound_tcp_authz_allow_total", "inbound_http_authz_allow_total"} {
				if got := w.counter(name, nil); got != 0 {
					t.Errorf("%s: %v", name, got)
				}
			}
		})
	}
}

// B-05: HTTP that stops short at the admin port is waited for a second, and then
// taken for HTTP/1 in plain text, for HTTP/2 from the mesh.
func TestTheAdminPortGuessesTheProtocolInTheEnd(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) { c.Timeouts.AdminDetect = short })
	w.applyTo(w.server.cfg.AdminPort, server(detect(), anyone(t, "all")))
	conn, err := w.dialTo(w.admin, client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /live")
	eventually(t, "the guess", func() bool {
		return w.counter("inbound_tcp_detect_http_results_total", map[string]string{"result": detectTimeout}) == 1
	})
	io.WriteString(conn, " HTTP/1.1\r\nHost: proxy\r\n\r\n")
	conn.SetDeadline(time.Now().Add(soon))
	if line, _ := rawHead(t, conn); line != "HTTP/1.1 200 OK" {
		t.Errorf("plain text: %q", line)
	}
	meshed, err := w.dialTo(w.admin, client{from: neighbourIP, tls: true, identity: webName})
	if err != nil {
		t.Fatal(err)
	}
	defer meshed.Close()
	io.WriteString(meshed, "GET /")
	eventually(t, "the second guess", func() bool {
		return w.counter("inbound_tcp_detect_http_results_total", map[string]string{"result": detectTimeout}) == 2
	})
	io.WriteString(meshed, "live HTTP/1.1\r\nHost: proxy\r\n\r\n")
	meshed.SetDeadline(time.Now().Add(soon))
	answer, _ := io.ReadAll(meshed)
	const settings = 4 // the type of the frame with which HTTP/2 greets
	if len(answer) > 0 && (len(answer) < 9 || answer[3] != settings) {
		t.Errorf("from the mesh: %q", answer)
	}
	if got := w.counter("inbound_http_authz_allow_total", map[string]string{"tls": "true"}); got != 0 {
		t.Errorf("HTTP/1 from the mesh was served: %v", got)
	}
}

// L-02 to L-04, P-16: before the first answer dialect linkerd judges by the
// proxy's own default, of which deny is opaque and spares not even localhost,
// and the port's number in the list of opaque ports makes any opaque.
func TestBeforeTheFirstAnswerTheDefaultJudgesInDialectLinkerd(t *testing.T) {
	for _, row := range []struct {
		name       string
		opaque     bool
		http, text string // what HTTP gets from a neighbour: a status line, "" for nothing
	}{
		{"all-unauthenticated", false, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK"},
		{"all-unauthenticated", true, "HTTP/1.1 200 OK", "HTTP/1.1 200 OK"},
		{"all-authenticated", false, "HTTP/1.1 403 Forbidden", "HTTP/1.1 200 OK"},
		{"all-authenticated", true, "", "HTTP/1.1 200 OK"},
		{"deny", false, "", ""},
		{"deny", true, "", ""},
	} {
		t.Run(fmt.Sprint(row.name, row.opaque), func(t *testing.T) {
			w := newWorld(t, application(t, whoami()), func(c *Config) {
				c.Dialect = policy.Linkerd
				c.Default = func(uint16) *policy.Port {
					p, err := policy.DefaultPort(row.name, nil, row.opaque, soon, policy.Linkerd)
					if err != nil {
						t.Error(err)
					}
					return p
				}
			})
			for _, from := range []string{neighbourIP, localhostIP} {
				conn, err := w.dial(client{from: from})
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
				want := map[string]string{neighbourIP: row.http, localhostIP: row.text}[from]
				if want == "" {
					refusal(t, conn)
					continue
				}
				conn.SetDeadline(time.Now().Add(soon))
				if line, _ := rawHead(t, conn); line != want {
					t.Errorf("from %s: %q, want %q", from, line, want)
				}
			}
			// The controller's answer is in force with the next connection.
			w.apply(server(detect(), anyone(t, "all")))
			if res, _ := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); res.StatusCode != 200 {
				t.Errorf("after the answer: %d", res.StatusCode)
			}
		})
	}
}

// I-05: a session keeps the identity of its handshake, also when the certificate
// has ended; a handshake with that certificate fails.
func TestAnIdentityLastsAsLongAsItsSession(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), identities(t, "web", webName)))
	const life = 4 * time.Second
	leaf := w.ca.Leaf(t, webName, identitytest.EndsAfter(life))
	dial := func() (net.Conn, error) {
		return w.dial(client{from: neighbourIP, tls: true, identity: webName, leaf: &leaf})
	}
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func() string {
		conn.SetDeadline(time.Now().Add(soon))
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
		line, _ := rawHead(t, conn)
		return line
	}
	if got := ask(); got != "HTTP/1.1 200 OK" {
		t.Fatalf("before the end: %q", got)
	}
	eventually(t, "the certificate's end", func() bool { return time.Now().After(leaf.Leaf.NotAfter) })
	if again, err := dial(); err == nil {
		refusal(t, again)
		again.Close()
	}
	if got := ask(); got != "HTTP/1.1 200 OK" {
		t.Errorf("after the end: %q", got)
	}
}

// I-04: before its first certificate a proxy terminates no mesh TLS, and serves
// who speaks plain text.
func TestWithoutACertificateOnlyPlainTextIsServed(t *testing.T) {
	ca := identitytest.NewCA(t, "mesh")
	uncertified, err := identity.NewLocalClient(identity.ClientConfig{LocalName: serverName, TrustAnchors: ca.PEM()}, ca.Sign(nil))
	if err != nil {
		t.Fatal(err) // nobody runs it, so it stays without a certificate
	}
	w := newWorld(t, application(t, whoami()), func(c *Config) { c.Identity = uncertified })
	w.ca = ca
	w.apply(server(detect(), anyone(t, "all")))
	if conn, err := w.dial(client{from: neighbourIP, tls: true, identity: webName}); err == nil {
		conn.Close()
		t.Error("a handshake with a proxy that has no certificate")
	}
	if res, _ := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("plain text: %d", res.StatusCode)
	}
}

// T-22: fourteen bytes make HTTP/2 of a connection, and what follows must be the
// rest: it is nothing else afterwards.
func TestAWrongEndOfThePrefaceIsAnErrorOfHTTP2(t *testing.T) {
	w := newWorld(t, application(t, nil), nil) // an application that would answer anything
	w.apply(server(detect(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, preface[:prefaceEnough]+"\r\n\r\nand then something else")
	conn.SetDeadline(time.Now().Add(soon))
	answer, _ := io.ReadAll(conn)
	if len(answer) > 0 && answer[3] != 4 {
		t.Errorf("answered %q", answer)
	}
	if http2, allowed := w.counter("inbound_tcp_detect_http_results_total", map[string]string{"result": "http/2"}), w.counter("inbound_tcp_authz_allow_total", nil); http2 != 1 || allowed != 0 {
		t.Errorf("detected as HTTP/2: %v, forwarded: %v", http2, allowed)
	}
}
