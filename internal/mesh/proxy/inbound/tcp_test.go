package inbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// echoed sends a line and waits for it to come back.
func echoed(conn net.Conn, line string) error {
	conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return err
	}
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if got != line+"\n" {
		return fmt.Errorf("echo of %q is %q", line, got)
	}
	return nil
}

// closed waits for the peer's end of a connection.
func closed(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(soon))
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("still open: %v", err)
	}
	return nil
}

func TestTCPIsForwardedUnderEveryProtocolThatHasConnections(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	kinds := map[policy.Protocol]*pb.ProxyProtocol{policy.Detect: detect(), policy.Opaque: opaque(), policy.TLS: tlsProtocol()}
	for _, protocol := range policy.Protocols {
		kind := kinds[protocol]
		if kind == nil {
			continue
		}
		w.apply(server(kind, anyone(t, "all")))
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"hello", "again"} {
			if err := echoed(conn, line); err != nil {
				t.Errorf("%v: %v", protocol, err)
			}
		}
		// The end of one direction is passed on, and the other still works until it ends too.
		conn.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("%v: after the end: %q, %v", protocol, rest, err)
		}
		conn.Close()
	}
}

func TestRevocationCutsExactlyWhatNothingCovers(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	in := func(name, net string, except ...string) *pb.Authz {
		a := anyone(t, name)
		a.Networks = []*pb.Network{network(t, net, except...)}
		return a
	}
	w.apply(server(opaque(), in("a", "127.0.0.2/32"), in("b", "127.0.0.3/32"), in("c", "127.0.0.4/31")))
	open := func(from string) net.Conn {
		conn, err := w.dial(client{from: from})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := echoed(conn, from); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		return conn
	}
	second, third, fourth, fifth := open("127.0.0.2"), open("127.0.0.3"), open("127.0.0.4"), open("127.0.0.5")
	local := open(localhostIP)

	// Another authorization now covers .2, .3's is gone, an except takes .5 out.
	w.apply(server(opaque(), in("d", "127.0.0.2/32"), in("c", "127.0.0.4/31", "127.0.0.5/32")))
	for name, conn := range map[string]net.Conn{".3": third, ".5": fifth} {
		if err := closed(conn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, conn := range map[string]net.Conn{".2": second, ".4": fourth, "localhost": local} {
		if err := echoed(conn, "still"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.counter("inbound_tcp_authz_terminate_total", map[string]string{"srv_name": "srv"}); got != 2 {
		t.Errorf("terminate counter: %v", got)
	}
	terminated := 0
	for _, d := range w.server.cfg.Decisions.List(DecisionFilter{}).Decisions {
		if d.Verdict == "terminate" {
			terminated++
		}
	}
	if terminated != 2 {
		t.Errorf("terminate records: %d", terminated)
	}

	// A policy for another port touches nothing; a protocol without connections cuts all.
	w.applyTo(1, server(opaque()))
	if err := echoed(second, "still"); err != nil {
		t.Error(err)
	}
	w.apply(server(http1Protocol(), anyone(t, "all")))
	for _, conn := range []net.Conn{second, fourth, local} {
		if err := closed(conn); err != nil {
			t.Error(err)
		}
	}
}

func TestExceptsAndBordersOnTheWire(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	a := anyone(t, "net")
	a.Networks = []*pb.Network{network(t, "127.1.0.0/16", "127.1.2.0/24")}
	w.apply(server(opaque(), a))
	for from, want := range map[string]bool{
		"127.0.255.255": false, "127.1.0.0": true, "127.1.1.255": true, "127.1.2.0": false, "127.1.2.255": false, "127.1.3.0": true, "127.1.255.254": true, "127.2.0.0": false,
	} {
		conn, err := w.dial(client{from: from})
		if err != nil {
			t.Logf("%s cannot be used as a source here: %v", from, err)
			continue
		}
		if err := echoed(conn, "x"); (err == nil) != want {
			t.Errorf("%s: %v", from, err)
		}
		conn.Close()
	}
}

func TestHeldUntilTheFirstAnswerThenRefused(t *testing.T) {
	t.Run("answer comes", func(t *testing.T) {
		w := newWorld(t, application(t, nil), nil)
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		done := make(chan error, 1)
		go func() { done <- echoed(conn, "held") }()
		eventually(t, "connection held", func() bool { return w.server.Policies().All()[fmt.Sprint(w.app.Port())].Source == sourceNone })
		w.apply(server(opaque(), anyone(t, "all")))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		w := newWorld(t, application(t, nil), func(c *Config) { c.Timeouts.Discovery = 50 * time.Millisecond })
		for _, c := range []client{{from: neighbourIP}, {from: localhostIP}} {
			conn, err := w.dial(c)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
			refusal(t, conn)
			conn.Close()
		}
		if got := w.counter("inbound_tcp_errors_total", map[string]string{"error": errNoPolicy}); got != 2 {
			t.Errorf("error counter: %v", got)
		}
		for _, d := range w.server.cfg.Decisions.List(DecisionFilter{}).Decisions {
			if d.Verdict != "deny" || d.Hash != "" || d.Server != "" {
				t.Errorf("record: %+v", d)
			}
		}
	})
	t.Run("dialect linkerd judges by its default", func(t *testing.T) {
		w := newWorld(t, application(t, nil), func(c *Config) {
			c.Dialect = policy.Linkerd
			c.Default = func(uint16) *policy.Port {
				p, err := policy.DefaultPort("all-unauthenticated", nil, true, time.Second, policy.Linkerd)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
		})
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := echoed(conn, "default"); err != nil {
			t.Error(err)
		}
	})
}

// The hold itself, in a bubble of fake time.
func TestHoldLastsExactlyTheDiscoveryTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCell(80, nil)
		start := time.Now()
		if snap := c.await(t.Context(), DefaultDiscovery); snap != nil || time.Since(start) != DefaultDiscovery {
			t.Errorf("without an answer: %v after %v", snap, time.Since(start))
		}
		port, err := policy.Parse(server(opaque()), policy.Dialect{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		time.AfterFunc(3*time.Second, func() { c.put(port) })
		if snap := c.await(t.Context(), DefaultDiscovery); snap == nil || snap.port != port || time.Since(start) != 3*time.Second {
			t.Errorf("with an answer: %v after %v", snap, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if snap := newCell(81, nil).await(ctx, DefaultDiscovery); snap != nil {
			t.Errorf("at the end: %v", snap)
		}
	})
}

// N-09 as current Linkerd has it: what is not understood denies, HTTP in its own
// form, and is over with the next good message.
func TestAnInvalidMessageDeniesEverythingInDialectLinkerd(t *testing.T) {
	var log lines
	w := newWorld(t, application(t, nil), func(c *Config) {
		c.Dialect = policy.Linkerd
		c.Default = func(uint16) *policy.Port { return nil }
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	})
	w.apply(server(detect(), anyone(t, "all")))
	w.apply(server(detect(), &pb.Authz{}))
	for _, from := range []string{localhostIP, neighbourIP} {
		if res, body := get1(t, w, client{from: from}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); res.StatusCode != http.StatusForbidden || body != "" {
			t.Errorf("HTTP from %s: %d %q", from, res.StatusCode, body)
		}
		conn, err := w.dial(client{from: from})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "\x00 these are not the words of HTTP")
		refusal(t, conn)
		conn.Close()
	}
	for _, name := range []string{"inbound_http_authz_deny_total", "inbound_tcp_authz_deny_total"} {
		if got := w.counter(name, map[string]string{"srv_name": "invalid"}); got != 2 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if log.find("Server misconfigured") == nil {
		t.Error("nothing is logged of it")
	}
	w.apply(server(opaque(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "again"); err != nil {
		t.Error(err)
	}
}

func TestAnInvalidMessageLeavesTheLastGoodPolicyInForce(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) { c.Timeouts.Discovery = 50 * time.Millisecond })
	broken := server(opaque(), &pb.Authz{})

	// Without a good one before it, everything is refused.
	w.policies.Set(w.app.Port(), broken)
	conn, err := w.dial(client{from: localhostIP})
	if err != nil {
		t.Fatal(err)
	}
	refusal(t, conn)
	conn.Close()

	w.apply(server(opaque(), anyone(t, "all")))
	before := w.counter("inbound_policy_invalid_total", nil)
	w.policies.Set(w.app.Port(), broken)
	eventually(t, "invalid message counted", func() bool { return w.counter("inbound_policy_invalid_total", nil) > before })
	if conn, err = w.dial(client{from: neighbourIP}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "still"); err != nil {
		t.Error(err)
	}
}

// direct connects to the proxy's own port and sends a transport header.
func (w *world) direct(tb testing.TB, c client, header transport.Header) (net.Conn, error) {
	tb.Helper()
	w.redirectTo(netip.MustParseAddrPort(w.inbound))
	defer w.redirectTo(w.app)
	c.tls, c.alpn = true, []string{transport.ALPN}
	conn, err := w.dial(c)
	if err != nil {
		return nil, err
	}
	return conn, header.Write(conn)
}

func TestDirectConnectionsAreJudgedByTheirTargetPort(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(opaque(), identities(t, "web", webName)))
	for _, tt := range []struct {
		name   string
		client client
		header transport.Header
		open   bool
	}{
		{"granted identity", client{from: neighbourIP, identity: webName}, transport.Header{Port: w.app.Port()}, true},
		{"other identity", client{from: neighbourIP, identity: otherName}, transport.Header{Port: w.app.Port()}, false},
		{"granted identity again", client{from: neighbourIP, identity: webName}, transport.Header{Port: w.app.Port()}, true},
		{"the proxy's own port", client{from: neighbourIP, identity: webName}, transport.Header{Port: w.server.cfg.InboundPort}, false},
		{"the admin port", client{from: neighbourIP, identity: webName}, transport.Header{Port: w.server.cfg.AdminPort}, false},
		{"gateway", client{from: neighbourIP, identity: webName}, transport.Header{Port: w.app.Port(), Name: "x.example:80"}, false},
	} {
		conn, err := w.direct(t, tt.client, tt.header)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if err := echoed(conn, "x"); (err == nil) != tt.open {
			t.Errorf("%s: %v", tt.name, err)
		}
		conn.Close()
	}
	if got := w.counter("inbound_tcp_errors_total", map[string]string{"error": errLoop}); got != 2 {
		t.Errorf("loops: %v", got)
	}
	// No identity, no ALPN, no TLS: closed, whatever the policy grants (T-31).
	w.apply(server(opaque(), anyone(t, "all")))
	if conn, err := w.direct(t, client{from: neighbourIP}, transport.Header{Port: w.app.Port()}); err == nil {
		if err := echoed(conn, "x"); err == nil {
			t.Error("without identity: served")
		}
		conn.Close()
	}
	w.redirectTo(netip.MustParseAddrPort(w.inbound))
	if conn, err := w.dial(client{from: neighbourIP, tls: true, identity: webName}); err == nil {
		t.Error("without ALPN: handshake done")
		conn.Close()
	}
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
	refusal(t, conn)
	conn.Close()
	w.redirectTo(w.app)

	// An HTTP-only policy has no list for opaque bytes, whoever sends them (T-33).
	w.apply(server(http2Protocol(), identities(t, "web", webName)))
	conn, err = w.direct(t, client{from: neighbourIP, identity: webName}, transport.Header{Port: w.app.Port()})
	if err != nil {
		t.Fatal(err)
	}
	refusal(t, conn)
	conn.Close()
}

func TestDirectHTTPSessions(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	c := client{from: neighbourIP, identity: webName}
	get := func(t *testing.T) []string {
		t.Helper()
		conn, err := w.direct(t, c, transport.Header{Port: w.app.Port(), Protocol: transport.HTTP2})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		h2 := newFrameClient(t, conn)
		got, _ := h2.answer(h2.request("GET", "/x", "l5d-orig-proto", "HTTP/1.1", "l5d-client-id", "evil"))
		return got
	}
	w.apply(server(detect(), identities(t, "web", webName)))
	got := fmt.Sprint(get(t))
	for _, want := range []string{":status: 200", "x-saw-client: " + webName, "x-saw-proto: HTTP/1.1", "x-saw-mesh: l5d-client-id"} {
		if !contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
	if contains(got, "l5d-orig-proto") {
		t.Errorf("l5d-orig-proto in the answer: %s", got)
	}
	// Opaque and TLS policies have no requests: 404, whoever asks (T-34).
	for _, protocol := range []*pb.ProxyProtocol{opaque(), tlsProtocol()} {
		w.apply(server(protocol, identities(t, "web", webName)))
		if got := get(t); got[0] != ":status: 404" {
			t.Errorf("%v: got %q", protocol, got)
		}
	}
}
