package inbound

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestSniffNeverCallsAPossibleRequestLineSomethingElse(t *testing.T) {
	for text, want := range map[string]spoken{
		"GET / HTTP/1.1\r\n": isHTTP1, "\r\nGET / HTTP/1.0\n": isHTTP1, "M-SEARCH * HTTP/1.1\r\n": isHTTP1, "get /x HTTP/1.1\r\n": isHTTP1,
		"GET http://h/x HTTP/1.1\r\n": isHTTP1, "CONNECT h:1 HTTP/1.1\r\n": isHTTP1,
		"GET  / HTTP/1.1\r\n": isHTTP1, "GET\t/ HTTP/1.1\n": isHTTP1, "GET /\x01\x7f http/1.1x\r\n": isHTTP1, "GET /x\r\n": isHTTP1, // refused there
		preface: isHTTP2, preface[:prefaceEnough]: isHTTP2, preface[:prefaceEnough] + "garbage": isHTTP2,
		"hello\n": notHTTP, "\x16\x03\x01": notHTTP, "\x00": notHTTP, "get /x\r\n": notHTTP, "NICK me\r\n": notHTTP, "GET / HTTQ/1.1\n": notHTTP,
		" GET / HTTP/1.1\r\n": notHTTP, "*1\r\n$4\r\nPING\r\n": notHTTP, "SSH-2.0-x\r\n": notHTTP, "\r\r": notHTTP, "HTTP/1.1\n": notHTTP,
		"": undecided, "G": undecided, "ping": undecided, "PRI": undecided, "\r\n": undecided, "GET /": undecided, "GET / HTTP/1.1\r": undecided,
	} {
		if got := sniff([]byte(text)); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	for _, whole := range []string{"GET /a/b?c HTTP/1.1\r\n", "\r\nOPTIONS * HTTP/1.0\n", preface} {
		for i := range whole {
			if got := sniff([]byte(whole[:i])); got == notHTTP {
				t.Errorf("%q is called not HTTP", whole[:i])
			}
		}
	}
}

// hellos records the first flight of the standard client.
func helloBytes(t testing.TB, config *tls.Config) []byte {
	a, b := net.Pipe()
	defer b.Close()
	go func() { tls.Client(a, config).Handshake(); a.Close() }()
	buf := make([]byte, maxClientHello)
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestClientHelloIsReadWholeAndInPieces(t *testing.T) {
	raw := helloBytes(t, &tls.Config{ServerName: "Web.Example.com", NextProtos: []string{"h2", "foo"}, InsecureSkipVerify: true})
	for i := range raw {
		if h := parseHello(raw[:i]); h.decided {
			t.Fatalf("decided after %d of %d bytes: %+v", i, len(raw), h)
		}
	}
	h := parseHello(raw)
	if !h.tls || h.serverName != "web.example.com" || fmt.Sprint(h.protocols) != "[h2 foo]" {
		t.Errorf("got %+v", h)
	}
	// Split over two records.
	body := raw[recordHeader:]
	record := func(b []byte) []byte {
		return append([]byte{recordHandshake, 3, 1, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	split := append(record(body[:50]), record(body[50:])...)
	if again := parseHello(split); again.serverName != h.serverName || !again.tls {
		t.Errorf("in two records: %+v", again)
	}
	if h := parseHello(helloBytes(t, &tls.Config{InsecureSkipVerify: true})); !h.tls || h.serverName != "" {
		t.Errorf("without name: %+v", h)
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n", "\x16\x02", "\x16\x03\x01\x00\x00", "\x16\x03\x01\x00\x05\x02"} {
		if h := parseHello([]byte(text)); !h.decided || h.tls {
			t.Errorf("%q: %+v", text, h)
		}
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Once decided, more bytes change nothing.
		for i := range b {
			if said := sniff(b[:i]); said != undecided && sniff(b) != said {
				t.Errorf("%q: first %d, then %d", b, said, sniff(b))
			}
		}
	})
}

// A request in single bytes is judged as a request: its route decides.
func TestDribbledRequestsAreJudgedAsRequests(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(httpRoute("only", []string{"/open"})), anyone(t, "all")))
	for path, want := range map[string]int{"/open": 200, "/closed": 404} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).SetNoDelay(true)
		for _, b := range []byte("GET " + path + " HTTP/1.1\r\nHost: app\r\n\r\n") {
			conn.Write([]byte{b})
		}
		conn.SetDeadline(time.Now().Add(soon))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
		conn.Close()
	}
}

const short = 300 * time.Millisecond

func TestUndecidedBytesAreNeverJudgedMoreWeakly(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	send := func(text string) net.Conn {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, text)
		return conn
	}
	// Routes are stricter than the list: bytes that may become a request are refused after the time-out.
	w.apply(server(detectWithin(short, httpRoute("only", []string{"/open"})), anyone(t, "all")))
	conn := send("GET /clo")
	refusal(t, conn)
	conn.Close()
	// Only the default route: the list is as strict, so the bytes pass as what they are.
	w.apply(server(detectWithin(short), anyone(t, "all")))
	conn = send("ping")
	conn.SetDeadline(time.Now().Add(soon))
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
		t.Errorf("short message: %q, %v", got, err)
	}
	conn.Close()
	// The end of the stream decides at once.
	w.apply(server(detect(httpRoute("only", []string{"/open"})), anyone(t, "all")))
	conn = send("ping")
	conn.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "ping" {
		t.Errorf("short message with end: %q, %v", b, err)
	}
	conn.Close()
}

// A server that speaks first: its client is silent, and the connection opaque after the time-out.
func TestSilentClientsBecomeOpaque(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "220 ready\n")
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	app := listener.Addr().(*net.TCPAddr).AddrPort()
	for _, dialect := range []policy.Dialect{{}, {CloseSilentClient: true}} {
		t.Run(fmt.Sprintf("close=%v", dialect.CloseSilentClient), func(t *testing.T) {
			w := newWorld(t, app, func(c *Config) { c.Timeouts.Detect, c.Dialect = short, dialect })
			w.apply(server(detectWithin(short), anyone(t, "all")))
			conn, err := w.dial(client{from: neighbourIP})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(soon))
			b, _ := io.ReadAll(conn)
			want := "220 ready\n"
			if dialect.CloseSilentClient {
				want = ""
			}
			if string(b) != want {
				t.Errorf("got %q, want %q", b, want)
			}
			// Meshed and silent: T-17, in both dialects.
			conn, err = w.dial(client{from: neighbourIP, tls: true, identity: webName})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(soon))
			if b, _ := io.ReadAll(conn); string(b) != "220 ready\n" {
				t.Errorf("meshed: got %q", b)
			}
			// Who is not covered is refused without a byte.
			w.apply(server(detectWithin(short), identities(t, "web", webName)))
			conn, err = w.dial(client{from: neighbourIP})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			refusal(t, conn)
		})
	}
}

func TestADeclaredProtocolIsNotDetected(t *testing.T) {
	w := newWorld(t, application(t, whoami()), func(c *Config) { c.Timeouts.Detect = short })
	w.apply(server(grpcProtocol(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.Sleep(2 * short) // a client that speaks late is merely late
	h2 := newFrameClient(t, conn)
	got, _ := h2.answer(h2.request("POST", "/a.B/C"))
	if got[0] != ":status: 200" {
		t.Errorf("got %q", got)
	}
	if got := w.counter("inbound_tcp_detect_http_results_total", nil); got != 0 {
		t.Errorf("detections: %v", got)
	}
}

func TestForeignTLSIsPassedOnlyByAList(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	foreign := client{from: neighbourIP, tls: true, sni: "shop.example.com"}
	for _, tt := range []struct {
		name string
		want bool
		msg  func()
	}{
		{"anyone on detect", true, func() { w.apply(server(detect(), anyone(t, "all"))) }},
		{"anyone on TLS", true, func() { w.apply(server(tlsProtocol(), anyone(t, "all"))) }},
		{"anyone on opaque", true, func() { w.apply(server(opaque(), anyone(t, "all"))) }},
		{"TLS of the mesh only", false, func() { w.apply(server(detect(), anyTLS(t, "tls"))) }},
		{"any identity", false, func() { w.apply(server(detect(), identities(t, "any", "*"))) }},
		{"HTTP/1", false, func() { w.apply(server(http1Protocol(), anyone(t, "all"))) }},
		{"HTTP/2", false, func() { w.apply(server(http2Protocol(), anyone(t, "all"))) }},
		{"gRPC", false, func() { w.apply(server(grpcProtocol(), anyone(t, "all"))) }},
	} {
		tt.msg()
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		hello := helloBytes(t, &tls.Config{ServerName: foreign.sni, InsecureSkipVerify: true})
		conn.Write(hello)
		if !tt.want {
			refusal(t, conn)
			conn.Close()
			continue
		}
		conn.SetDeadline(time.Now().Add(soon))
		got := make([]byte, len(hello)) // the application echoes what it got, untouched
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(hello) {
			t.Errorf("%s: %v", tt.name, err)
		}
		conn.Close()
	}
}

// Whoever presents a certificate must present a good one (I-02).
func TestABadCertificateIsNotTakenForNone(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), anyone(t, "all")))
	stranger := newWorld(t, w.app, nil).ca
	conn, err := w.dial(client{from: neighbourIP, tls: true, identity: webName, ca: stranger})
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	if b, _ := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("answered: %q", b)
	}
}

func TestWhatWasAgreedMustBeSpoken(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP, tls: true, identity: webName, alpn: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
	conn.SetDeadline(time.Now().Add(soon))
	if b, _ := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("HTTP/1 where h2 was agreed: answered %q", b)
	}
}
