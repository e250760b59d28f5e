package inbound

import (
	"bufio"
	"io"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

func hashOf(tb testing.TB, msg *pb.Server) string {
	tb.Helper()
	hash, err := policy.Hash(msg)
	if err != nil {
		tb.Fatal(err)
	}
	return hash
}

// whoami tells what the application saw.
func whoami() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Saw-Client", strings.Join(r.Header.Values("l5d-client-id"), "|"))
		w.Header().Set("X-Saw-Path", r.RequestURI)
		var mesh []string
		for name := range r.Header {
			if strings.HasPrefix(name, "L5d-") {
				mesh = append(mesh, strings.ToLower(name))
			}
		}
		w.Header().Set("X-Saw-Mesh", strings.Join(mesh, " "))
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw-Proto", r.Proto)
		io.WriteString(w, "hello "+string(body))
	})
}

// get1 sends one HTTP/1 request over a connection and returns status, head as sent, and body.
func get1(tb testing.TB, w *world, c client, request string) (*http.Response, string) {
	tb.Helper()
	conn, err := w.dial(c)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, request); err != nil {
		tb.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		tb.Fatalf("read the answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res, string(body)
}

func TestHTTP1IsForwardedWithTheVerifiedIdentityOnly(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), anyone(t, "all")))
	const spoofed = "GET /x?y=1 HTTP/1.1\r\nHost: app\r\nl5d-client-id: evil\r\nL5D-CLIENT-ID: evil2\r\nConnection: l5d-client-id, close\r\n\r\n"
	for _, tt := range []struct {
		client client
		saw    string
	}{
		{client{from: neighbourIP}, ""},
		{client{from: neighbourIP, tls: true}, ""},
		{client{from: neighbourIP, tls: true, identity: webName}, webName},
	} {
		res, body := get1(t, w, tt.client, spoofed)
		if res.StatusCode != 200 || body != "hello " {
			t.Errorf("%s: got %d %q", tt.client, res.StatusCode, body)
		}
		if got := res.Header.Get("X-Saw-Client"); got != tt.saw {
			t.Errorf("%s: application saw l5d-client-id %q, want %q", tt.client, got, tt.saw)
		}
		if got := res.Header.Get("X-Saw-Path"); got != "/x?y=1" {
			t.Errorf("%s: application saw %q", tt.client, got)
		}
	}
}

func TestHTTP1DenialToTheByte(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(detect(), identities(t, "web", webName)))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	read := bufio.NewReader(conn)
	for range 2 { // the connection stays usable
		io.WriteString(conn, "POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc")
		text := textproto.NewReader(read)
		line, err := text.ReadLine()
		if err != nil {
			t.Fatal(err)
		}
		head, err := text.ReadMIMEHeader()
		if err != nil {
			t.Fatal(err)
		}
		head.Del("Date")
		if line != "HTTP/1.1 403 Forbidden" || len(head) != 1 || head.Get("Content-Length") != "0" {
			t.Errorf("got %q %v", line, head)
		}
	}
}
