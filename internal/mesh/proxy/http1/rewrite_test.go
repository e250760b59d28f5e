package http1

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// passing is a request that is let through, and what the application sees of it.
type passing struct {
	name, request, seen string
	change              func(*Head, *Action)
}

// sawFields tells the application what a request is judged by.
func sawFields(h *Head, a *Action) {
	saw := "host"
	for _, f := range h.Fields {
		if name := strings.ToLower(string(f.Name)); name != "host" {
			saw += " " + name + "=" + string(f.Value)
		}
	}
	a.Append = append(a.Append, Header{Name: "Saw", Value: saw})
}

func letThrough() []passing {
	const host = "Host: a\r\n"
	return []passing{
		{"9: absolute form", "GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://A/x?y HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"9: absolute form without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"9: asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"16: two slashes are a path", "GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"15: the query is passed on as it is", "GET /?a=%zz;&b?=+ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?a=%zz;&b?=+ HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"an empty query", "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"17: an address", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", nil},
		{"an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		{"white space around values", "GET / HTTP/1.1\r\nHost:a\r\nX: \t y z\t \r\nE:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX: y z\r\nE: \r\n\r\n", nil},
		{"a length of nothing", "GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", nil},
		{"19: an identity that the client says", "GET / HTTP/1.1\r\n" + host + "l5d-client-id: evil\r\nL5D-CLIENT-ID: evil\r\nL5d_Client_Id: evil\r\nl5d-client_id: evil\r\nX: y\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "X: y\r\n\r\n", nil},
		{"19: the verified identity", "GET / HTTP/1.1\r\n" + host + "l5d-client-id: evil\r\nConnection: l5d-client-id\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "l5d-client-id: web\r\n\r\n", func(_ *Head, a *Action) {
			a.Append = append(a.Append, Header{"l5d-client-id", "web"})
		}},
		{"H-01: what HTTP/2 would carry", "GET / HTTP/1.1\r\n" + host + "l5d-orig-proto: HTTP/1.1\r\nL5d_Orig_Proto: x\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"46: hop-by-hop fields", "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, x-hop\r\nConnection: ,X_Other\r\nX-Hop: 1\r\nX-OTHER: 2\r\nKeep-Alive: timeout=1\r\nProxy-Connection: x\r\nX: y\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "X: y\r\n\r\n", nil},
		{"46: what an application decides by stays", "GET / HTTP/1.1\r\nConnection: authorization, cookie, host, content-type, forwarded, x-forwarded-for, l5d-x, content-length\r\n" + host + "Authorization: t\r\nCookie: c\r\nContent-Type: d\r\nForwarded: e\r\nX-Forwarded-For: f\r\nL5d-X: g\r\nContent-Length: 0\r\n\r\n",
			"GET / HTTP/1.1\r\n" + host + "Authorization: t\r\nCookie: c\r\nContent-Type: d\r\nForwarded: e\r\nX-Forwarded-For: f\r\nL5d-X: g\r\nContent-Length: 0\r\n\r\n", nil},
		{"TE", "GET / HTTP/1.1\r\n" + host + "TE: gzip, trailers\r\nConnection: TE\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "TE: trailers\r\n\r\n", nil},
		{"TE without trailers", "GET / HTTP/1.1\r\n" + host + "TE: gzip\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"31: h2c", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"31: h2c behind another", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"31: HTTP/2.0", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"31: TLS", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"32: websocket", "GET / HTTP/1.1\r\n" + host + "connection: keep-alive, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "Sec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", nil},
		{"32: an upgrade is something to judge by", "GET / HTTP/1.1\r\n" + host + "Connection: upgrade, x\r\nUpgrade: websocket\r\nX: y\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSaw: host upgrade=websocket\r\n\r\n", sawFields},
		{"32: one that does not pass is not", "GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\nX: y\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "X: y\r\nSaw: host x=y\r\n\r\n", sawFields},
		{"32: two upgrades", "GET / HTTP/1.1\r\n" + host + "connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"32: an upgrade that Connection does not name", "GET / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"32: an upgrade with a body", "POST / HTTP/1.1\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx", "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx", nil},
		{"32: an upgrade in 1.0", "GET / HTTP/1.0\r\n" + host + "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"1.0", "GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "\r\n", nil},
		{"42: chunks pass as they are", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n", nil},
		{"42: extensions do not", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n1 ; c=\"\\\"\";d\r\nd\r\n0;e\r\n\r\n", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", nil},
		{"45: trailers", "POST / HTTP/1.1\r\n" + host + "Trailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\nHost: b\r\nSum: 1\r\nContent-Length: 5\r\nContent_Length: 6\r\nTransfer-Encoding: chunked\r\nl5d-client-id: evil\r\nl5d_client_id: evil\r\nL5d-Any: x\r\nAuthorization: x\r\nCookie: x\r\nX_Forwarded-For: y\r\nTE: x\r\nExpect: y\r\nLast: 2\r\n\r\n",
			"POST / HTTP/1.1\r\n" + host + "Trailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nSum: 1\r\nLast: 2\r\n\r\n", nil},
		{"filters", "GET /x/../y?q HTTP/1.1\r\n" + host + "A: 1\r\nB: 2\r\nB_: 0\r\nb: 3\r\nC: 4\r\n\r\n", "GET /y?q HTTP/1.1\r\n" + host + "B_: 0\r\nC: 4\r\nB: 5\r\nC: 6\r\n\r\n", func(_ *Head, a *Action) {
			a.Path = []byte("/y")
			a.Remove = append(a.Remove, "a")
			a.Set = append(a.Set, Header{"B", "5"})
			a.Append = append(a.Append, Header{"C", "6"})
		}},
		{"filters do not frame the message", "GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", func(_ *Head, a *Action) {
			a.Remove = append(a.Remove, "Host", "content-length")
			a.Set = append(a.Set, Header{"Host", "b"}, Header{"Transfer-Encoding", "chunked"})
			a.Append = append(a.Append, Header{"Content_Length", "5"}, Header{"Connection", "x"})
		}},
	}
}

// What the application sees of a request that is let through, to the byte.
func TestTheApplicationSeesTheRequestWithoutWhatIsNotItsOwn(t *testing.T) {
	for _, row := range letThrough() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got := observe(t, row.request, row.change)
			if got != row.seen {
				t.Errorf("the application saw\n%q, want\n%q", got, row.seen)
			}
		})
	}
}

// observe lets one request through and returns all that the application sees of it.
func observe(t *testing.T, request string, change func(*Head, *Action)) string {
	t.Helper()
	seen := make(chan string, 1)
	w := newWorld(t, func(c net.Conn) {
		b, _ := io.ReadAll(c)
		seen <- string(b)
	}, func(w *world) {
		w.relay.Limits.Watch = time.Millisecond
		w.judge.decide = func(h *Head, a *Action) {
			a.Verdict = Forward
			if change != nil {
				change(h, a)
			}
		}
	})
	conn := w.dial()
	for i := 0; i < len(request); i += 7 { // in small pieces
		if _, err := io.WriteString(conn, request[i:min(i+7, len(request))]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the application is reached", func() bool { return w.dials.Load() == 1 })
	conn.(*net.TCPConn).CloseWrite() // the application's connection ends with the client's
	select {
	case got := <-seen:
		return got
	case <-time.After(soon):
		t.Fatal("the application was not hung up on")
		return ""
	}
}

// An application that speaks 1.1 is told a host also when an old client is not.
func TestAnOldClientsRequestNamesTheApplicationsAddress(t *testing.T) {
	saw := make(chan string, 1)
	w := newWorld(t, scripted(saw, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n3;x\r\nabc\r\n1\r\nd\r\n0\r\nSum: 1\r\n\r\n"))
	got := w.say("GET / HTTP/1.0\r\n\r\n")
	if want := "HTTP/1.1 200 OK\r\nTrailer: Sum\r\nConnection: close\r\n\r\nabcd"; got != want {
		t.Errorf("answer %q, want %q: it knows no chunks", got, want)
	}
	if head, want := <-saw, "GET / HTTP/1.1\r\nHost: "+w.app.Addr().String()+"\r\n\r\n"; head != want {
		t.Errorf("the application saw %q", head)
	}
}

// What the handler is shown is what the application will see.
func TestNothingIsJudgedByAFieldThatDoesNotPass(t *testing.T) {
	shown := make(chan string, 1)
	observe(t, "POST http://a:80/p%20q?x=1?y HTTP/1.1\r\nHost: A:80\r\nConnection: x-role\r\nX-Role: admin\r\nl5d-client-id: evil\r\nX: y\r\nContent-Length: 3\r\n\r\nabc", func(h *Head, _ *Action) {
		var names []string
		for _, f := range h.Fields {
			names = append(names, string(f.Name)+"="+string(f.Value))
		}
		shown <- strings.Join([]string{string(h.Method), string(h.Scheme), string(h.Authority), string(h.Path), string(h.Query), strings.Join(names, ",")}, " ")
		if h.Form != Absolute || !h.HasQuery || h.Minor != 1 || h.Body != Length || h.Length != 3 || h.Received.IsZero() {
			t.Errorf("shown %+v", h)
		}
	})
	if got, want := <-shown, "POST http A:80 /p%20q x=1?y Host=A:80,X=y,Content-Length=3"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}
