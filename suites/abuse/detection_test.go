package abuse

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
	"github.com/meshproof/meshproof/internal/proxytest"
	"github.com/meshproof/meshproof/internal/proxytest/readers"
)

// shortDetection lets detection end soon; policies say it too.
var shortDetection = env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT=" + within.String())

// stricter is a port whose routes let through less than its list would: only
// /public, for everybody, while bytes that are not HTTP are for everybody too.
func stricter(routes ...*pb.HttpRoute) *pb.Server {
	routes = append(routes, proxytest.Route("public", []string{"/public"}))
	return proxytest.Server(proxytest.Detect(within, routes...), proxytest.Anyone("everybody"))
}

func detectionCases() []Case {
	return []Case{
		{Number: 30, Title: "late, dribbled and split first bytes are never judged by a weaker policy", Waits: true, Run: dribbled},
		{Number: 31, Title: "Upgrade: h2c is not forwarded", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			for _, fields := range [][]string{
				{"Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"},
				{"Upgrade: H2C", "Connection: upgrade,http2-settings", "HTTP2-Settings: AAMAAABkAAQAAP__"},
				{"Upgrade: h2c, websocket", "Connection: Upgrade"}, {"Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"},
				{"Upgrade: websocket,\th2c", "Connection: Upgrade"}, {"Upgrade: h2c", "Connection: keep-alive", "Connection: Upgrade"}, {"Upgrade: h2c"},
			} {
				if a := w.ask(get("/public", fields...)); a.status == 0 {
					t.Errorf("%q: %v", fields, a.err)
					continue
				} else if a.status != http.StatusOK {
					continue
				}
				seen := w.app.last(t)
				if up := strings.ToLower(strings.Join(seen.header["Upgrade"], ",")); strings.Contains(up, "h2c") || seen.header.Get("Http2-Settings") != "" {
					t.Errorf("%q: the application saw %v", fields, seen.header)
				}
			}
		}},
		{Number: 32, Title: "an upgrade to WebSocket is authorized as its GET, then opaque", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			w.app.answer = func(c net.Conn, r *request) bool {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
				io.Copy(c, c)
				return false
			}
			upgrade := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="}
			w.want(get("/admin", upgrade...), http.StatusForbidden)
			w.want(get("/x/../admin", upgrade...), refused...)
			w.untouched()
			c := w.dial()
			c.send(get("/public", upgrade...))
			w.is("upgrade", c.read("GET"), http.StatusSwitchingProtocols)
			c.send("opaque now")
			got := make([]byte, len("opaque now"))
			if _, err := io.ReadFull(c.in, got); err != nil || string(got) != "opaque now" {
				t.Errorf("the tunnel gave %q, %v", got, err)
			}
			before := w.app.count()
			w.apply(proxytest.Server(proxytest.Opaque(), proxytest.Identities("web", webID)))
			c.closed("a tunnel whose port became opaque and whose client is not permitted")
			if w.app.count() != before {
				t.Errorf("a new connection reached the application")
			}
		}},
		{Number: 33, Title: "CONNECT through an HTTP route is denied unless a route names it", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			w.app.answer = func(c net.Conn, r *request) bool {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				io.Copy(c, c)
				return false
			}
			for _, target := range []string{"app:80", "127.0.0.1:22", "[::1]:80"} {
				host := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n"
				w.want(host, http.StatusForbidden, http.StatusNotFound, http.StatusBadRequest, http.StatusMethodNotAllowed)
			}
			h := w.h2()
			id := h.open([][2]string{{":method", "CONNECT"}, {":authority", "app:80"}}, false)
			if s := h.wait(id); s.status() == http.StatusOK {
				t.Errorf("HTTP/2: a tunnel was opened")
			}
			w.unasked()
			w.apply(only(&http_route.HttpRouteMatch{Method: &http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: http_types.HttpMethod_CONNECT}}}))
			c := w.dial()
			c.send("CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n")
			w.is("a route for CONNECT", c.read("CONNECT"), http.StatusOK)
		}},
		{Number: 34, Title: "a server that speaks first is opaque after the time-out, authorized before", Waits: true, Run: func(t *T) {
			w := newWorld(t, proxytest.Server(proxytest.Detect(within), proxytest.Anyone("net", "127.0.0.2/32")), shortDetection)
			w.app.greet = "220 ready\r\n"
			stranger := w.dialFrom("127.0.0.3")
			stranger.closed("a stranger")
			if n := w.app.count(); n != 0 {
				t.Errorf("the application got %d connections", n)
			}
			c := w.dial()
			if line, err := c.in.ReadString('\n'); err != nil || line != w.app.greet {
				t.Errorf("greeted with %q, %v", line, err)
			}
			c.send("EHLO x\r\n")
			if line, err := c.in.ReadString('\n'); err != nil || line != "EHLO x\r\n" {
				t.Errorf("answered with %q, %v", line, err)
			}
		}},
		{Number: 35, Title: "an opaque port has the connection's policy only, and routes on it are told as without effect", Run: func(t *T) {
			w := newWorld(t, proxytest.Server(proxytest.Opaque(), proxytest.Anyone("net", "127.0.0.2/32")))
			w.want(get("/admin"), http.StatusOK)
			w.keeps = func(string) bool { return false }
			c := w.dialFrom("127.0.0.3")
			c.send(get("/admin"))
			c.closed("a stranger")
		}, Shown: map[string][]string{"internal/mesh/controller/index": {"TestObjectsThatDoNotDoWhatTheySeemToAreFound", "TestRoutesCountOnServersOfTheirProtocolOnly"}}},
		{Number: 36, Title: "the proxy's own ports, loops and foreign destinations are refused", Run: ownPorts},
		{Number: 37, Title: "ways around the redirection are found and listed", Shown: map[string][]string{
			"internal/mesh/controller/index": {"TestServersOverPodsWithoutProxyAreFound"},
			"internal/archtest":              {"TestNothingButTheProxyRunsAsItsUser", "TestOnlyTheRedirectionNeedsPrivileges"},
			"internal/mesh/injector":         {"TestAContainerThatPassesForTheProxyIsTold", "TestTheProxyIsToldByItsUserWhereThereIsMoreThanOne"},
			"internal/mesh/intercept":        {"TestRedirection", "TestRulesThatWouldLoopAreRefused"},
		}},
		{Number: 38, Title: "of a direct connection the policy of the final port applies", Run: finalPort},
	}
}

func dribbled(t *T) {
	w := newWorld(t, stricter(), shortDetection)
	w.keeps = func(p string) bool { return !readers.Under(p, "/public") }
	secret := get("/secret")
	// It goes around a client that waits: whatever comes then must not pass as bytes.
	gets := func(what string, open func() *client, parts ...string) {
		t.Run(what, func(t *T) {
			t.Parallel()
			c := open()
			for i, part := range parts {
				if i > 0 {
					time.Sleep(beyond)
				}
				c.send(part)
			}
			a := c.read("GET")
			if a.status == http.StatusOK {
				t.Errorf("%s: let through", what)
			}
		})
	}
	plain := func() *client { return w.dial() }
	meshed := func() *client { return w.meshed(webID) }
	for how, open := range map[string]func() *client{"plain": plain, "meshed": meshed} {
		gets(how+", silent, then a request", open, "", secret)
		gets(how+", silent twice, then a byte, then the rest", open, "", "G", secret[1:])
		gets(how+", silent, then empty lines, then a request", open, "", "\r\n\r\n", secret)
		gets(how+", a byte, then the rest", open, "G", secret[1:])
		gets(how+", half of the first line, then the rest", open, secret[:8], secret[8:])
		gets(how+", empty lines, then a request", open, "\r\n\r\n", secret)
		gets(how+", silent, then HTTP/2", open, "", preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		gets(how+", half of the preface, then HTTP/1", open, preface[:10], secret)
		gets(how+", the preface, then HTTP/1", open, preface, secret)
		gets(how+", as much of the preface as decides, then HTTP/1", open, preface[:14], secret)
	}
	t.Run("a byte at a time", func(t *T) {
		c := w.dial()
		for _, b := range []byte(secret) {
			c.send(string(b))
		}
		w.is("dribbled", c.read("GET"), http.StatusNotFound)
	})
	t.Run("the preface a byte at a time", func(t *T) {
		c := w.dial()
		for _, b := range []byte(preface) {
			c.send(string(b))
		}
		h := speakOn(c)
		if s := h.get("/secret"); s.status() != http.StatusNotFound {
			t.Errorf("status %d", s.status())
		}
	})
}

func ownPorts(t *T) {
	w := newWorld(t, proxytest.Everybody())
	loops := env()
	proxied := func(dst netip.AddrPort, ips ...netip.Addr) {
		t.Helper()
		options := proxytest.Options{Program: *program, Apps: []netip.AddrPort{dst}, IPs: ips, Stderr: w.log}
		loops(&options)
		p, err := w.plane.Start(t.Context(), options)
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer p.Kill()
		w.plane.Set(dst.Port(), proxytest.Everybody())
		conn, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", p.Pairs[0].String())
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		io.WriteString(conn, get("/"))
		if b, _ := io.ReadAll(conn); len(b) > 0 {
			t.Errorf("%s answered %.60q", dst, b)
		}
	}
	foreign := w.app.addr
	proxied(foreign, netip.MustParseAddr("127.0.0.9")) // not an address of the pod
	w.untouched()
	// What the kernel says was meant for the proxy's own port, which would come back for ever.
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	own := probe.Addr().(*net.TCPAddr).AddrPort()
	probe.Close()
	loops = env("LINKERD2_PROXY_INBOUND_LISTEN_ADDR=" + own.String())
	proxied(own)

	// The direct port without mesh TLS, and as a loop: the header names a port of the proxy.
	raw, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", w.proxy.Direct.String())
	if err != nil {
		t.Fatalf("%v", err)
	}
	raw.SetDeadline(time.Now().Add(soon))
	io.WriteString(raw, get("/"))
	if b, _ := io.ReadAll(raw); len(b) > 0 {
		t.Errorf("the direct port answered %q", b)
	}
	for _, port := range []netip.AddrPort{w.proxy.Direct, w.proxy.Admin, w.proxy.Observe} {
		c := w.direct(webID, transport.Header{Port: port.Port()})
		c.send(get("/"))
		c.closed("a loop to " + port.String())
	}
	// Neither do requests that were redirected from the admin's and the control port's numbers get there.
	for _, dst := range []netip.AddrPort{w.proxy.Observe} {
		c, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", w.proxy.Observe.String())
		if err == nil {
			c.Close()
		}
		if !dst.Addr().IsLoopback() {
			t.Errorf("the control port is on %s", dst)
		}
	}
	if metrics := w.metrics(`inbound_tcp_errors_total`); len(metrics) == 0 {
		t.Errorf("no refusal was counted")
	}
}

// direct connects to the proxy's own port as a meshed client.
func (w *world) direct(identity string, header transport.Header) *client {
	w.Helper()
	conn, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", w.proxy.Direct.String())
	if err != nil {
		w.Fatalf("%v", err)
	}
	conn.SetDeadline(time.Now().Add(soon))
	w.Cleanup(func() { conn.Close() })
	leaf := w.leaf(identity)
	c, err := w.handshake(&client{Conn: conn, t: w.T}, w.tlsConfig(&leaf, transport.ALPN))
	if err != nil {
		w.Fatalf("%v", err)
	}
	c.Write(header.Append(nil))
	return c
}

func finalPort(t *T) {
	w := newWorld(t, proxytest.Server(detect(), proxytest.Identities("admins", adminID)))
	port := w.app.addr.Port()
	for _, protocol := range []transport.SessionProtocol{transport.HTTP1, transport.Opaque} {
		c := w.direct(webID, transport.Header{Port: port, Protocol: protocol})
		c.send(get("/public"))
		if a := c.read("GET"); a.status == http.StatusOK {
			t.Errorf("%v: the policy of another port applied", protocol)
		}
	}
	w.untouched()
	c := w.direct(adminID, transport.Header{Port: port, Protocol: transport.HTTP1})
	c.send(get("/public"))
	w.is("admin", c.read("GET"), http.StatusOK)
	// A header with a name asks for a gateway, which this is not; one that is cut or too long is none.
	before := len(w.app.seen())
	c = w.direct(adminID, transport.Header{Port: port, Name: "app:80", Protocol: transport.HTTP1})
	c.send(get("/public"))
	c.closed("gateway")
	if len(w.app.seen()) != before {
		t.Errorf("the application saw a request")
	}
	// The port of the policy is the destination's, whatever the listener was.
	other := newApp(t)
	p, err := w.plane.Start(t.Context(), proxytest.Options{Program: *program, Apps: []netip.AddrPort{w.app.addr, other.addr}, Stderr: w.log})
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer p.Kill()
	w.plane.Set(other.addr.Port(), proxytest.Everybody())
	for i, status := range []int{http.StatusForbidden, http.StatusOK} {
		conn, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", p.Pairs[i].String())
		if err != nil {
			t.Fatalf("%v", err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		c := newClient(t, conn)
		c.send(get("/public"))
		w.is(p.Pairs[i].String(), c.read("GET"), status)
	}
}
