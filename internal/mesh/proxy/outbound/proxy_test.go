package outbound

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// handlers are further applications, chosen by the header X-Handler.
var handlers = map[string]http.HandlerFunc{}

// echo is a client-first TCP application.
func echo(conn net.Conn) { io.Copy(conn, conn); closeWrite(conn) }

// greet is a server-first TCP application.
func greet(conn net.Conn) {
	io.WriteString(conn, "220 ready\r\n")
	echo(conn)
}

func TestHTTPReachesEachKindOfEndpointInItsOwnWay(t *testing.T) {
	carried := "HTTP/1.1"
	for name, row := range map[string]struct {
		hint    hint
		version int
		// what the endpoint's side must have seen
		proto, origProto string
		session          transport.SessionProtocol
	}{
		"HTTP/1 to meshed is carried over HTTP/2": {meshedHTTP2, 1, "HTTP/2.0", carried, transport.HTTP2},
		"HTTP/2 to meshed":                        {meshedHTTP2, 2, "HTTP/2.0", "", transport.HTTP2},
		"HTTP/1 to meshed without a hint":         {meshedPlain, 1, "HTTP/1.1", "", transport.HTTP1},
		"HTTP/2 to meshed without a hint":         {meshedPlain, 2, "HTTP/2.0", "", transport.HTTP2},
		"HTTP/1 to an opaque one":                 {meshedOpaque, 1, "HTTP/1.1", "", transport.Opaque},
		"HTTP/2 to an opaque one":                 {meshedOpaque, 2, "HTTP/2.0", "", transport.Opaque},
		"HTTP/1 to unmeshed":                      {unmeshed, 1, "HTTP/1.1", "", transport.Opaque},
		"HTTP/2 to unmeshed":                      {unmeshed, 2, "HTTP/2.0", "", transport.Opaque},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			p := w.newPod(2, votingID, nil)
			w.destinations.service(p.describe(row.hint))
			client := w.http(serviceAddr, row.version)
			for range 2 { // the second request finds everything open
				seen, answer := w.get(client, w.request("POST", "http://voting-svc:80/a//b/../c%2f?q=1", strings.NewReader("hello")))
				want := seenRequest{Pod: "127.0.0.2", Method: "POST", URI: "/a//b/../c%2f?q=1", Host: "voting-svc:80", Proto: row.proto, OrigProto: row.origProto, Body: "hello"}
				seen.Header, seen.Trailer = nil, nil
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Error(diff)
				}
				// Nobody looks into what is opaque, so nothing is taken from it.
				if stripped := answer.Header.Get("L5d-Orig-Proto") == ""; answer.ProtoMajor != row.version || stripped == (row.hint == meshedOpaque) {
					t.Errorf("answered in %s with header %v", answer.Proto, answer.Header)
				}
			}
			want := []arrival{{Identity: webID, Header: transport.Header{Port: p.app.Port(), Protocol: row.session}}}
			if row.hint == unmeshed {
				want = []arrival{{}}
			}
			if diff := cmp.Diff(want, p.seen()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTCPReachesEachKindOfEndpoint(t *testing.T) {
	for name, row := range map[string]struct {
		hint hint
		app  func(net.Conn)
		want string
	}{
		"client first, meshed":   {meshedHTTP2, echo, "ping\nping again"},
		"client first, opaque":   {meshedOpaque, echo, "ping\nping again"},
		"client first, unmeshed": {unmeshed, echo, "ping\nping again"},
		"server first, opaque":   {meshedOpaque, greet, "220 ready\r\nping\nping again"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			p := w.newPod(2, votingID, row.app)
			w.destinations.service(p.describe(row.hint))
			conn := w.dial(serviceAddr)
			got := ""
			read := func(n int) {
				t.Helper()
				b := make([]byte, n)
				if _, err := io.ReadFull(conn, b); err != nil {
					t.Fatal(err)
				}
				got += string(b)
			}
			read(len(row.want) - len("ping\nping again"))
			io.WriteString(conn, "ping\n")
			read(len("ping\n"))
			io.WriteString(conn, "ping again")
			closeWrite(conn)
			rest, err := io.ReadAll(conn)
			if got += string(rest); err != nil || got != row.want {
				t.Errorf("read %q, %v, want %q", got, err, row.want)
			}
			want := []arrival{{Identity: webID, Header: transport.Header{Port: p.app.Port()}}}
			if row.hint == unmeshed {
				want = []arrival{{}}
			}
			if diff := cmp.Diff(want, p.seen()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
