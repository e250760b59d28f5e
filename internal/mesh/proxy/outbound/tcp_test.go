package outbound

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProtocolIsKnownByTheFirstBytes(t *testing.T) {
	long := "GET /" + strings.Repeat("x", longestLine)
	for text, want := range map[string]protocol{
		"":                                 undecided,
		"G":                                undecided,
		"GET ":                             undecided,
		"GET / HTTP/1.1":                   undecided,
		"GET / HTTP/1.1\r\n":               http1Protocol,
		"GET / HTTP/1.0\n":                 http1Protocol,
		"get / HTTP/1.1\r\nHost: a\r\n":    http1Protocol,
		"M-SEARCH * HTTP/1.1\r\n":          http1Protocol,
		"GET /a b HTTP/1.1\r\n":            http1Protocol, // the server refuses it
		"GET / HTTP/1.2\r\n":               notHTTP,
		"GET / HTTP/2.0\r\n":               notHTTP,
		"GET /\r\n":                        notHTTP,
		"GET HTTP/1.1\r\n":                 notHTTP,
		" / HTTP/1.1\r\n":                  notHTTP,
		"ping":                             notHTTP,
		"PING\r\n":                         notHTTP,
		"EHLO example.org\r\n":             notHTTP,
		"\x16\x03\x01\x02\x00\x01":         notHTTP,
		"\x00":                             notHTTP,
		"\r\n":                             notHTTP,
		"G\x00":                            notHTTP,
		"PRI * HTTP/2.0\r\n":               undecided,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": http2Protocol,
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n": notHTTP,
		http2Preface + "\x00\x00\x00\x04":  http2Protocol,
		long:                               http1Protocol,
		strings.Repeat("G", longestLine):   notHTTP,
	} {
		if got := classify([]byte(text)); got != want {
			t.Errorf("%.40q: %d, want %d", text, got, want)
		}
	}
}

func TestHTTPInPiecesIsStillHTTP(t *testing.T) {
	w := newWorld(t, nil)
	w.destinations.service(w.newPod(2, votingID, nil).describe(meshedHTTP2))
	conn := w.dial(serviceAddr)
	for _, c := range []byte("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") {
		if _, err := conn.Write([]byte{c}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), `"OrigProto":"HTTP/1.1"`) {
		t.Errorf("%s %v", answer, err)
	}
}

func TestASilentClientGetsAnOpaqueConnectionInTheEnd(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DetectTimeout = soon })
	w.destinations.service(w.newPod(2, votingID, greet).describe(meshedHTTP2))
	for _, said := range []string{"", "GET"} {
		conn := w.dial(serviceAddr)
		io.WriteString(conn, said)
		b := make([]byte, len("220 ready\r\n")+len(said))
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "220 ready\r\n"+said {
			t.Errorf("having said %q: %q, %v", said, b, err)
		}
	}
}

func TestAConnectionClosedUnserved(t *testing.T) {
	silent := func(conn net.Conn) {} // closes at once, as a proxy does that refuses (N-08)
	afterHello := func(conn net.Conn) { io.ReadFull(conn, make([]byte, 5)) }
	reset := func(conn net.Conn) { abort(conn) }
	for name, row := range map[string]struct {
		app   func(net.Conn)
		hint  hint
		says  string
		reset bool
	}{
		"refused by a proxy, client silent":     {silent, meshedOpaque, "", false},
		"refused by a proxy, client has spoken": {afterHello, meshedOpaque, "hello", false},
		"closed by an application":              {afterHello, unmeshed, "hello", false},
		"reset by an application":               {reset, unmeshed, "hello", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.destinations.service(w.newPod(2, votingID, row.app).describe(row.hint))
			conn := w.dial(serviceAddr)
			io.WriteString(conn, row.says)
			got, err := io.ReadAll(conn)
			if len(got) > 0 || errors.Is(err, syscall.ECONNRESET) != row.reset || !row.reset && err != nil {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestACutConnectionEndsForTheClient(t *testing.T) {
	for _, h := range []hint{meshedOpaque, unmeshed} {
		w := newWorld(t, nil)
		p := w.newPod(2, votingID, echo)
		w.destinations.service(p.describe(h))
		conn := w.dial(serviceAddr)
		io.WriteString(conn, "hello")
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		p.cut()
		if rest, _ := io.ReadAll(conn); len(rest) > 0 {
			t.Errorf("read %q", rest)
		}
	}
}

func TestHalfCloseIsPassedOnEitherWay(t *testing.T) {
	for _, h := range []hint{meshedOpaque, unmeshed} {
		w := newWorld(t, nil)
		heard := make(chan string, 1)
		w.destinations.service(w.newPod(2, votingID, func(conn net.Conn) {
			io.WriteString(conn, "all I have to say")
			closeWrite(conn)
			rest, _ := io.ReadAll(conn)
			heard <- string(rest)
		}).describe(h))
		conn := w.dial(serviceAddr)
		io.WriteString(conn, "hello, ")
		if said, err := io.ReadAll(conn); err != nil || string(said) != "all I have to say" {
			t.Fatalf("%q, %v", said, err)
		}
		io.WriteString(conn, "and good-bye")
		closeWrite(conn)
		select {
		case got := <-heard:
			if got != "hello, and good-bye" {
				t.Errorf("the application heard %q", got)
			}
		case <-time.After(patience):
			t.Error("the application did not hear the end")
		}
	}
}

func TestTCPFailuresAreResets(t *testing.T) {
	for name, set := range map[string]func(w *world){
		"refused":          func(w *world) { w.destinations.service(describe(refusing(), unmeshed, 0)) },
		"refused, meshed":  func(w *world) { w.destinations.service(describe(refusing(), meshedOpaque, 9)) },
		"another identity": func(w *world) { w.destinations.service(w.newPod(2, webID, echo).describe(meshedOpaque)) },
		"no endpoint":      func(w *world) { w.destinations.service(); w.destinations.update(noEndpoints(true)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.DiscoveryTimeout, c.ConnectTimeout = soon, soon })
			set(w)
			conn := w.dial(serviceAddr)
			io.WriteString(conn, "hello\n")
			if got, err := io.ReadAll(conn); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestAConnectionGoesToAnEndpointThatCanBeReached(t *testing.T) {
	w := newWorld(t, nil)
	up := w.newPod(2, votingID, echo)
	w.destinations.service(describe(refusing(), meshedOpaque, 9), up.describe(meshedOpaque))
	for range 10 {
		conn := w.dial(serviceAddr)
		io.WriteString(conn, "hello")
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

func TestAConnectionToTheProxyItselfIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	conn := w.dial(addrPort(w.proxy.Addr()))
	if got, err := io.ReadAll(conn); len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestRunEndsWithEverythingItStarted(t *testing.T) {
	// What is open at the end of the test is cut by Run; goleak sees the rest.
	w := newWorld(t, nil)
	p := w.newPod(2, votingID, nil)
	w.destinations.service(p.describe(meshedHTTP2))
	w.get(w.http(serviceAddr, 1), w.request("GET", "http://a/", nil))
	w.get(w.http(serviceAddr, 2), w.request("GET", "http://a/", nil))
	opened := make(chan struct{})
	handlers["hang"] = func(_ http.ResponseWriter, r *http.Request) { close(opened); <-r.Context().Done() }
	failed := make(chan error, 1)
	w.Cleanup(func() {
		if err := <-failed; err == nil {
			t.Error("a request that never ends was answered")
		}
	})
	client := w.http(serviceAddr, 2)
	go func() {
		_, err := client.Do(custom(w, "hang", "GET", "http://a/", nil))
		failed <- err
	}()
	<-opened
	w.dial(serviceAddr) // in detection
}
