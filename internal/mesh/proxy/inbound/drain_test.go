package inbound

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// open is a connection in some state when the end is asked for.
type open struct {
	name string
	// tls: over mesh TLS.
	tls bool
	// begin brings the connection into the state; next, if it is not nil, is what it does
	// while the proxy drains, before the time is over. A connection without next ends at
	// once.
	begin func(t *testing.T, conn net.Conn) *bufio.Reader
	next  func(conn net.Conn, read *bufio.Reader) error
	// told: the client is told that no other request is taken, before anything is cut.
	told func(conn net.Conn, read *bufio.Reader) error
}

// drained is an application for all of them: /wait is not answered, an upgrade is an
// echo, and so is CONNECT; anything else is answered at once.
func drained(conn net.Conn, ended <-chan struct{}) {
	read := bufio.NewReader(conn)
	if first, _ := read.Peek(3); string(first) == "PRI" {
		(&http2.Server{}).ServeConn(bufferedConn{conn, read}, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.Copy(flushing{w}, r.Body)
		})})
		return
	}
	for {
		r, err := http.ReadRequest(read)
		if err != nil {
			return
		}
		switch {
		case r.URL.Path == "/wait":
			io.Copy(io.Discard, read)
			return
		case r.Method == http.MethodConnect:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(conn, read)
			return
		case r.Header.Get("Upgrade") != "":
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(conn, read)
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}

type bufferedConn struct {
	net.Conn
	read *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.read.Read(p) }

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

// echoLine is a round trip of bytes.
func echoLine(conn net.Conn, read *bufio.Reader) error {
	if _, err := io.WriteString(conn, "line\n"); err != nil {
		return err
	}
	if got, err := read.ReadString('\n'); got != "line\n" {
		return fmt.Errorf("got %q, %v", got, err)
	}
	return nil
}

// asks sends a request and reads the answer's head, if there is to be one.
func asks(request string, status int) func(*testing.T, net.Conn) *bufio.Reader {
	return func(t *testing.T, conn net.Conn) *bufio.Reader {
		t.Helper()
		io.WriteString(conn, request)
		read := bufio.NewReader(conn)
		if status == 0 {
			return read
		}
		method, _, _ := strings.Cut(request, " ")
		if res, err := http.ReadResponse(read, &http.Request{Method: method}); err != nil || res.StatusCode != status {
			t.Fatalf("%.20q: %v, %v", request, res, err)
		}
		return read
	}
}

// streams opens a stream of HTTP/2, whose head is answered unless it is carried.
func streams(carried bool) func(*testing.T, net.Conn) *bufio.Reader {
	return func(t *testing.T, conn net.Conn) *bufio.Reader {
		t.Helper()
		c := newFrameClient(t, conn)
		if carried {
			c.request("GET", "/wait", "l5d-orig-proto", "HTTP/1.1")
		} else {
			c.begin(true)
			c.has(1, "200")
		}
		return bufio.NewReader(conn)
	}
}

// goAway reads frames up to a GOAWAY without an error.
func goAway(_ net.Conn, read *bufio.Reader) error {
	framer := http2.NewFramer(io.Discard, read)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if f, ok := frame.(*http2.GoAwayFrame); ok {
			if f.ErrCode != http2.ErrCodeNo {
				return fmt.Errorf("got %v", f)
			}
			return nil
		}
	}
}

// dataComes sends DATA on stream 1 and reads it again.
func dataComes(conn net.Conn, read *bufio.Reader) error {
	if err := http2.NewFramer(conn, nil).WriteData(1, false, []byte("still")); err != nil {
		return err
	}
	framer := http2.NewFramer(io.Discard, read)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		if f, ok := frame.(*http2.DataFrame); ok && len(f.Data()) > 0 {
			return nil
		}
	}
}

// goOn is a next for who only waits.
func goOn(net.Conn, *bufio.Reader) error { return nil }

var opens = []open{
	{name: "HTTP/1, idle", begin: asks(get, 200)},
	{name: "HTTP/1 over TLS, idle", tls: true, begin: asks(get, 200)},
	{name: "undecided", begin: func(*testing.T, net.Conn) *bufio.Reader { return nil }},
	{name: "HTTP/1, in progress", begin: asks("GET /wait HTTP/1.1\r\nHost: app\r\n\r\n", 0), next: goOn},
	{name: "HTTP/1, a body under way", begin: asks("POST /wait HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n\r\nxx", 0), next: goOn},
	{name: "HTTP/2, a stream open", begin: streams(false), next: dataComes, told: goAway},
	{name: "HTTP/2 over TLS, a stream open", tls: true, begin: streams(false), next: dataComes, told: goAway},
	{name: "HTTP/2, HTTP/1 carried", begin: streams(true), next: goOn, told: goAway},
	{name: "upgrade", begin: asks("GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", 101), next: echoLine},
	{name: "CONNECT", begin: asks("CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n\r\n", 200), next: echoLine},
}

// At the end HTTP clients are told, what is in progress goes on, tunnels too, until the
// time for it is over; then everything is cut and counted, and nothing is left.
func TestTheEndLetsFinishWhatIsInProgressAndCutsItInTheEnd(t *testing.T) {
	for _, row := range opens {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tcpApp(drained)(t), func(c *Config) { c.Timeouts.Drain = 4 * short })
			w.apply(server(detect(), anyone(t, "all")))
			conn, err := w.dial(client{from: neighbourIP, tls: row.tls, identity: webName})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(soon))
			read := row.begin(t, conn)
			requests := int64(0)
			if row.next != nil && row.name != "upgrade" && row.name != "CONNECT" {
				requests = 1 // a tunnel is a connection, and no request any more
			}
			eventually(t, "the connection is known", func() bool {
				w.server.mu.Lock()
				defer w.server.mu.Unlock()
				return len(w.server.live) == 1 && w.server.inFlight.Load() == requests
			})
			w.stop()
			if row.told != nil {
				if err := row.told(conn, read); err != nil {
					t.Errorf("the client is not told: %v", err)
				}
			}
			if row.next == nil {
				if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
					t.Error("the connection was not closed")
				}
			} else if err := row.next(conn, read); err != nil {
				t.Errorf("while the proxy drains: %v", err)
			}
			if row.next != nil {
				if _, err := io.Copy(io.Discard, read); isTimeout(err) {
					t.Error("the connection was not cut")
				}
			}
			select {
			case <-w.served:
			case <-time.After(soon):
				t.Fatal("it does not end")
			}
			want := 0.0
			if row.next != nil {
				want = 1
			}
			if got := w.counter("inbound_limits_total", map[string]string{"part": "inbound", "limit": "drain time"}); got != want {
				t.Errorf("%v connections are counted as cut, want %v", got, want)
			}
		})
	}
}

// Connections of bytes go on too: TestTheEndWaitsOnlyForWhatIsServed and
// TestTheEndHasALimit. One that is held for the first policy of its port is not waited
// for: the proxy will never serve it.
func TestTheEndDoesNotWaitForConnectionsThatAreHeld(t *testing.T) {
	const long = 2 * soon
	w := newWorld(t, application(t, nil), func(c *Config) { c.Timeouts.Discovery, c.Timeouts.Drain = long, long })
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the connection is held", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.live) == 1
	})
	w.stop()
	refusal(t, conn)
	select {
	case <-w.served:
	case <-time.After(soon):
		t.Fatal("it does not end")
	}
	if got := w.counter("inbound_tcp_authz_deny_total", nil); got != 0 {
		t.Errorf("%v connections are counted as denied, which nobody has", got)
	}
}

// H-04 counts what HTTP/2 carries like any other request.
func TestCarriedRequestsAreInFlight(t *testing.T) {
	w := newWorld(t, tcpApp(drained)(t), func(c *Config) { c.MaxInFlight = 1 })
	w.apply(server(detect(), anyone(t, "all")))
	dial := func() *frameClient {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return newFrameClient(t, conn)
	}
	first := dial()
	first.request("GET", "/wait", "l5d-orig-proto", "HTTP/1.1")
	eventually(t, "it is in progress", func() bool { return w.server.inFlight.Load() == 1 })
	c := dial()
	c.has(c.request("GET", "/", "l5d-orig-proto", "HTTP/1.1"), "503")
	first.conn.Close()
	eventually(t, "it is none any more", func() bool { return w.server.inFlight.Load() == 0 })
	c = dial()
	c.has(c.request("GET", "/", "l5d-orig-proto", "HTTP/1.1"), "200")
}
