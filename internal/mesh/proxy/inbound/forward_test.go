package inbound

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
)

func TestHTTP1KeepAliveJudgesEachRequest(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	allowed, denied := server(detect(), anyone(t, "all")), server(detect())
	w.apply(allowed)
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	read := bufio.NewReader(conn)
	for i, policy := range []int{200, 403, 200, 403} {
		if policy == 200 {
			w.apply(allowed)
		} else {
			w.apply(denied)
		}
		fmt.Fprintf(conn, "POST /%d HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nbody", i)
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != policy {
			t.Errorf("request %d: got %d, want %d", i, res.StatusCode, policy)
		}
	}
	// Pipelined: each judged alone, in order.
	w.apply(server(detect(httpRoute("a", []string{"/a"}, anyone(t, "a")), httpRoute("b", []string{"/b"}))))
	io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n")
	for i, want := range []int{200, 403, 404, 200} {
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != want {
			t.Errorf("pipelined %d: got %d, want %d", i, res.StatusCode, want)
		}
	}
}

func TestBodiesTrailersAndInformationalAnswersPass(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("Trailer", "Sum")
		w.Header()["Date"] = nil
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes, asked by %s", n, r.Trailer.Get("Asker")+r.Trailer.Get("L5d-Client-Id"))
		w.(http.Flusher).Flush()
		w.Header().Set("Sum", "42")
		w.Header().Set(http.TrailerPrefix+"Late", "yes")
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Asker, L5d-Client-Id\r\nTE: trailers\r\n\r\n"+
		"5\r\nhello\r\n0\r\nAsker: me\r\nL5d-Client-Id: evil\r\n\r\n")
	read := bufio.NewReader(conn)
	hints, err := http.ReadResponse(read, nil)
	if err != nil || hints.StatusCode != http.StatusEarlyHints || hints.Header.Get("Link") == "" {
		t.Fatalf("early hints: %v, %v", hints, err)
	}
	res, err := http.ReadResponse(read, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "5 bytes, asked by me" {
		t.Errorf("body: %q, %v", body, err)
	}
	if res.Trailer.Get("Sum") != "42" || res.Trailer.Get("Late") != "yes" {
		t.Errorf("trailers: %v", res.Trailer)
	}
	if res.Header.Get("Date") != "" || res.Header.Get("Link") != "" {
		t.Errorf("made-up headers: %v", res.Header)
	}
}

func TestLargeBodiesGoBothWaysAtOnce(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})), nil)
	w.apply(server(detect(), anyone(t, "all")))
	const size = 4 << 20
	for _, version := range []int{1, 2} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(version == 1)
		protocols.SetUnencryptedHTTP2(version == 2)
		transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(client{from: neighbourIP}) }}
		request, _ := http.NewRequestWithContext(within(t), http.MethodPost, "http://app/", io.LimitReader(zeros{}, size))
		res, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		if err != nil || n != size || res.ProtoMajor != version {
			t.Errorf("HTTP/%d: %d bytes, %v", version, n, err)
		}
		res.Body.Close()
		transport.CloseIdleConnections()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestNormalisedPathIsWhatTheApplicationSees(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(httpRoute("open", []string{"/open"})), anyone(t, "all")))
	saw := func(target string) string {
		res, _ := get1(t, w, client{from: neighbourIP}, "GET "+target+" HTTP/1.1\r\nHost: app\r\n\r\n")
		return fmt.Sprint(res.StatusCode, " ", res.Header.Get("X-Saw-Path"))
	}
	for target, want := range map[string]string{
		"/x/..//%6fpen/a%20b?q=/../x": "200 /open/a%20b?q=/../x", "/open%2fx": "400 ", "/open/../closed": "404 ", "http://app/x/../open": "200 http://app/open",
		"//other/open": "404 ", // a path, not an authority
	} {
		if got := saw(target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	// No route looks at paths: they pass as sent.
	w.apply(server(detect(), anyone(t, "all")))
	for _, target := range []string{"//a/./b", "/a%2fb", "/%7Ea?x=%zz;y", "/a;b=c/"} {
		if got := saw(target); got != "200 "+target {
			t.Errorf("%s: %q", target, got)
		}
	}
}

func TestUpgradeTunnels(t *testing.T) {
	w := newWorld(t, application(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" && r.Method != http.MethodConnect {
			fmt.Fprintf(w, "plain, connection %q", r.Header["Connection"])
			return
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		if r.Method == http.MethodConnect {
			io.WriteString(conn, "HTTP/1.1 200 Established\r\n\r\n")
		} else {
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		}
		io.Copy(conn, buffered)
	})), nil)
	open := func(request string, want int) (net.Conn, *bufio.Reader) {
		t.Helper()
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(soon))
		io.WriteString(conn, request)
		read := bufio.NewReader(conn)
		res, err := http.ReadResponse(read, &http.Request{Method: strings.SplitN(request, " ", 2)[0]})
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Fatalf("%q: got %d, want %d", request, res.StatusCode, want)
		}
		return conn, read
	}
	line := func(conn net.Conn, read *bufio.Reader, text string) error {
		if _, err := io.WriteString(conn, text+"\n"); err != nil {
			return err
		}
		got, err := read.ReadString('\n')
		if err == nil && got != text+"\n" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	}
	const upgrade = "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	const connect = "CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n"
	w.apply(server(detect(), anyone(t, "all")))
	ws, wsRead := open(upgrade, http.StatusSwitchingProtocols)
	tunnel, tunnelRead := open(connect, http.StatusOK)
	check := func(when string, alive bool) {
		t.Helper()
		for name, err := range map[string]error{"upgrade": line(ws, wsRead, "hello"), "connect": line(tunnel, tunnelRead, "hello")} {
			if (err == nil) != alive {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
	}
	check("open", true)
	w.apply(server(detect()))
	check("after a revocation they keep their verdict", true)
	open(upgrade, http.StatusForbidden)
	open(connect, http.StatusForbidden)
	w.apply(server(opaque(), anyone(t, "all")))
	check("opaque and covered", true)
	w.apply(server(opaque()))
	check("opaque and not covered", false)

	// No uninspected HTTP/2 may start behind an upgrade.
	w.apply(server(detect(), anyone(t, "all")))
	res, body := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if res.StatusCode != 200 || body != "plain, connection []" {
		t.Errorf("h2c: %d %q", res.StatusCode, body)
	}
}

func TestConnectionHeaderCannotTakeAwayWhatTheApplicationDecidesBy(t *testing.T) {
	seen := make(chan http.Header, 1)
	w := newWorld(t, application(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() })), nil)
	w.apply(server(detect(), anyone(t, "all")))
	get1(t, w, client{from: neighbourIP, tls: true, identity: webName},
		"GET / HTTP/1.1\r\nHost: app\r\nAuthorization: token\r\nCookie: c\r\nX-Hop: 1\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: authorization, cookie, x-hop, l5d-client-id, x-forwarded-for\r\n\r\n")
	h := <-seen
	for name, want := range map[string]string{"Authorization": "token", "Cookie": "c", "X-Hop": "", "L5d-Client-Id": webName, "X-Forwarded-For": "1.2.3.4"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"User-Agent", "Accept-Encoding"} {
		if _, ok := h[name]; ok {
			t.Errorf("the proxy made up %s", name)
		}
	}
}

// TestTooManyRequestsInFlightAreTurnedAwayUnjudged is H-04, in each form.
func TestTooManyRequestsInFlightAreTurnedAwayUnjudged(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 1)
	w := newWorld(t, application(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})), func(c *Config) { c.MaxInFlight = 1 })
	w.apply(server(detect(), anyone(t, "all")))
	first := make(chan int, 1)
	go func() {
		res, _ := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
		first <- res.StatusCode
	}()
	<-arrived
	res, body := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	if res.StatusCode != http.StatusServiceUnavailable || body != "" || !res.Close {
		t.Errorf("second: %d %q", res.StatusCode, body)
	}
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h2 := newFrameClient(t, conn)
	if got, _ := h2.answer(h2.request("POST", "/a.B/C", "content-type", "application/grpc")); !slices.Contains(got, "grpc-status: 14") {
		t.Errorf("gRPC: %q", got)
	}
	if got := w.counter("inbound_http_errors_total", map[string]string{"error": "loadshed"}); got != 2 {
		t.Errorf("errors: %v", got)
	}
	close(release)
	if got := <-first; got != 200 {
		t.Errorf("first: %d", got)
	}
	if got := w.counter("inbound_http_authz_allow_total", nil); got != 1 {
		t.Errorf("judged: %v", got)
	}
}

func TestOversizedHeadsAreRefusedBeforePolicy(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\nX: "+strings.Repeat("x", 2*http1.DefaultHead)+"\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %v, %v", res, err)
	}
	if got := w.counter("inbound_http_authz_allow_total", nil); got != 0 {
		t.Errorf("judged: %v", got)
	}
}

func TestDeniedStreamsLeaveTheConnectionInOrder(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(http2Protocol(httpRoute("open", []string{"/open"}, anyone(t, "all")), httpRoute("closed", []string{"/closed"}))))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h2 := newFrameClient(t, conn)
	for i := range 50 {
		path, want := "/open", ":status: 200"
		if i%2 == 1 {
			path, want = "/closed", ":status: 403"
		}
		got, _ := h2.answer(h2.request("GET", path, "x-n", fmt.Sprint("header-", i%7)))
		if got[0] != want {
			t.Fatalf("stream %d: %q", i, got)
		}
	}
}
