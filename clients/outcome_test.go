package clients_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meshproof/meshproof/clients"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is the time-out of calls that are to run into it, and no shorter
// than what a loaded machine needs to answer the others before theirs.
const (
	patience = 300 * time.Millisecond
	plenty   = 20 * time.Second
)

// row produces one kind of outcome for real.
type row struct {
	name    string
	kind    clients.Kind
	serve   func(t *testing.T) string
	request clients.Request
	// Further facts, checked when not zero.
	httpStatus, grpcStatus int
}

func TestEveryKindOfOutcomeIsToldByWhatHappened(t *testing.T) {
	http1 := clients.Request{Protocol: clients.HTTP1}
	http2 := clients.Request{Protocol: clients.HTTP2}
	grpc := clients.Request{Protocol: clients.GRPC, Method: "/a.B/C"}
	stream := clients.Request{Protocol: clients.GRPCStream, Method: "/a.B/C"}
	tcp := clients.Request{Protocol: clients.TCP}
	silent := clients.Request{Protocol: clients.TCPSilent}
	connect := clients.Request{Protocol: clients.Connect}
	dial := clients.Request{Protocol: clients.Dial}
	upgrade := clients.Request{Protocol: clients.HTTPUpgrade}
	dug := clients.Request{Protocol: clients.HTTPConnect}
	anonymous := clients.Request{Protocol: clients.HTTP1, TLS: clients.NoIdentity, ServerName: "a.b"}
	foreign := clients.Request{Protocol: clients.HTTP1, TLS: clients.ForeignRoot, ServerName: "a.b", ClaimedIdentity: "web"}
	foreign2 := clients.Request{Protocol: clients.GRPC, Method: "/a.B/C", TLS: clients.ForeignRoot, ServerName: "a.b", ClaimedIdentity: "web"}

	rows := []row{
		{"a status", clients.Allowed, answering(200), http1, 200, 0},
		{"a status over HTTP/2", clients.Allowed, answering(200), http2, 200, 0},
		{"an error of the application's own", clients.Allowed, answering(500), http1, 500, 0},
		{"gRPC OK", clients.Allowed, grpcAnswering(0), grpc, 200, 0},
		{"a gRPC error of the application's own", clients.Allowed, grpcAnswering(2), grpc, 200, 2},
		{"a stream that ends with OK", clients.Allowed, grpcAnswering(0), stream, 200, 0},
		{"an echo", clients.Allowed, lines(""), tcp, 0, 0},
		{"a greeting", clients.Allowed, lines("hello\n"), silent, 0, 0},
		{"a greeting and an echo", clients.Allowed, lines("hello\n"), clients.Request{Protocol: clients.TCPServerFirst}, 0, 0},
		{"a connection that stays", clients.Allowed, hanging, connect, 0, 0},
		{"TLS of a server that asks for no certificate", clients.Allowed, secure(tls.NoClientCert), anonymous, 200, 0},
		{"a foreign certificate that nobody checks", clients.Allowed, secure(tls.RequestClientCert), foreign, 200, 0},

		{"an upgrade and an echo", clients.Allowed, digging("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: meshproof-echo\r\n\r\n"), upgrade, 101, 0},
		{"a CONNECT and an echo", clients.Allowed, digging("HTTP/1.1 200 OK\r\n\r\n"), dug, 200, 0},
		{"an upgrade that was answered otherwise", clients.Allowed, answering(200), upgrade, 200, 0},

		{"403", clients.Forbidden, answering(403), http1, 403, 0},
		{"403 to an upgrade", clients.Forbidden, answering(403), upgrade, 403, 0},
		{"403 to a CONNECT", clients.Forbidden, answering(403), dug, 403, 0},
		{"403 over HTTP/2", clients.Forbidden, answering(403), http2, 403, 0},
		{"403 in answer to gRPC is not PermissionDenied", clients.Forbidden, answering(403), grpc, 403, -1},

		{"grpc-status 7", clients.PermissionDenied, grpcAnswering(7), grpc, 200, 7},
		{"grpc-status 7 in answer to a stream", clients.PermissionDenied, grpcAnswering(7), stream, 200, 7},
		{"grpc-status 7 in trailers", clients.PermissionDenied, grpcTrailing(7), grpc, 200, 7},

		{"404", clients.NotFound, answering(404), http1, 404, 0},
		{"grpc-status 5", clients.NotFound, grpcAnswering(5), grpc, 200, 5},
		{"429", clients.Limited, answering(429), http2, 429, 0},
		{"grpc-status 8", clients.Limited, grpcAnswering(8), grpc, 200, 8},

		{"nobody listens", clients.Refused, nobody, http1, 0, 0},
		{"nobody listens for HTTP/2", clients.Refused, nobody, http2, 0, 0},
		{"nobody listens for gRPC", clients.Refused, nobody, grpc, 0, 0},
		{"nobody listens for TCP", clients.Refused, nobody, tcp, 0, 0},
		{"nobody listens for TLS", clients.Refused, nobody, anonymous, 0, 0},

		{"reset before a byte", clients.Reset, resetting(""), http1, 0, 0},
		{"reset before a byte of HTTP/2", clients.Reset, resetting(""), http2, 0, 0},
		{"reset before a byte of gRPC", clients.Reset, resetting(""), grpc, 0, 0},
		{"reset before a byte of TCP", clients.Reset, resetting(""), tcp, 0, 0},
		{"reset before a byte of a handshake", clients.Reset, resetting(""), anonymous, 0, 0},
		{"reset after the client spoke", clients.Reset, resettingLater, http1, 0, 0},
		{"reset after the client spoke TCP", clients.Reset, resettingLater, tcp, 0, 0},
		{"reset after the client spoke gRPC", clients.Reset, resettingLater, grpc, 0, 0},
		{"reset before a byte of an upgrade", clients.Reset, resetting(""), upgrade, 0, 0},
		{"reset while watched", clients.Reset, resetting(""), connect, 0, 0},

		{"closed before a byte, which a dial does not see", clients.Allowed, closing(""), dial, 0, 0},
		{"closed before a byte", clients.Closed, closing(""), http1, 0, 0},
		{"closed before a byte of HTTP/2", clients.Closed, closing(""), http2, 0, 0},
		{"closed before a byte of gRPC", clients.Closed, closing(""), grpc, 0, 0},
		{"closed before a byte of TCP", clients.Closed, closing(""), tcp, 0, 0},
		{"closed before a byte of a CONNECT", clients.Closed, closing(""), dug, 0, 0},
		{"a tunnel that is closed before a byte", clients.Closed, closing("HTTP/1.1 200 OK\r\n\r\n"), dug, 200, 0},
		{"closed before a byte to a silent client", clients.Closed, closing(""), silent, 0, 0},
		{"closed before a byte of a handshake", clients.Closed, closing(""), anonymous, 0, 0},
		{"closed after the handshake", clients.Closed, secureClosing, anonymous, 0, 0},

		{"a server that speaks no TLS", clients.TLSFailure, lines("hello, this is plain text\n"), anonymous, 0, 0},
		{"a server that leaves the handshake", clients.TLSFailure, closing("\x16\x03"), anonymous, 0, 0},
		{"a server that refuses a foreign certificate", clients.TLSFailure, secure(tls.RequireAndVerifyClientCert), foreign, 0, 0},
		{"a server that refuses a foreign certificate for HTTP/2", clients.TLSFailure, secure(tls.RequireAndVerifyClientCert), foreign2, 0, 0},
		{"a server that wants a certificate and gets none", clients.TLSFailure, secure(tls.RequireAnyClientCert), anonymous, 0, 0},

		{"no answer", clients.Timeout, hanging, within(http1), 0, 0},
		{"no answer over HTTP/2", clients.Timeout, hanging, within(http2), 0, 0},
		{"no answer to gRPC", clients.Timeout, hanging, within(grpc), 0, 0},
		{"no answer to TCP", clients.Timeout, hanging, within(tcp), 0, 0},
		{"no answer to a handshake", clients.Timeout, hanging, within(anonymous), 0, 0},
		{"a silent server and a silent client", clients.Timeout, hanging, within(silent), 0, 0},

		{"502", clients.Unavailable, answering(502), http1, 502, 0},
		{"503", clients.Unavailable, answering(503), http2, 503, 0},
		{"504", clients.Unavailable, answering(504), http1, 504, 0},
		{"grpc-status 14", clients.Unavailable, grpcAnswering(14), grpc, 200, 14},
		{"grpc-status 4", clients.Unavailable, grpcAnswering(4), grpc, 200, 4},
		{"503 in answer to gRPC", clients.Unavailable, answering(503), grpc, 503, -1},

		{"301", clients.Redirected, answering(301), http1, 301, 0},
		{"302", clients.Redirected, answering(302), http2, 302, 0},
		{"307 in answer to gRPC", clients.Redirected, answering(307), grpc, 307, -1},
		{"304 is nobody's redirection", clients.Allowed, answering(304), http1, 304, 0},

		{"400", clients.BadRequest, answering(400), http1, 400, 0},
		{"400 to what is no request", clients.BadRequest, answering(200), clients.Request{Protocol: clients.HTTP1, Raw: []byte("GET / HTTP/1.1\r\nHost : a\r\n\r\n")}, 400, 0},
		{"grpc-status 3", clients.BadRequest, grpcAnswering(3), grpc, 200, 3},

		{"HTTP/2 in answer to HTTP/1", clients.ProtocolError, closing("\x00\x00\x00\x04\x00\x00\x00\x00\x00"), http1, 0, 0},
		{"a line in answer to HTTP/1", clients.ProtocolError, lines(""), http1, 0, 0},
		{"HTTP/1 in answer to HTTP/2", clients.ProtocolError, closing("HTTP/1.1 400 Bad Request\r\n\r\n"), http2, 0, 0},
		{"HTTP/1 in answer to a line", clients.ProtocolError, closing("HTTP/1.1 400 Bad Request\r\n\r\n"), tcp, 0, 0},
		{"HTTP/1 in answer to raw bytes", clients.Allowed, closing("HTTP/1.1 400 Bad Request\r\n\r\n"), clients.Request{Protocol: clients.TCP, Raw: []byte("?\n")}, 0, 0},
		{"a frame of no length in answer to HTTP/2", clients.ProtocolError, closing("\x00\x00\x00\x04\x00\x00\x00\x00\x01"), http2, 0, 0},
		{"200 in answer to gRPC", clients.Other, answering(200), grpc, 200, -1},
		{"closed after the first byte", clients.Other, closing("HTTP/1.1 2"), http1, 0, 0},
		{"reset after the first byte", clients.Other, resetting("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), http1, 200, 0},
		{"half a line", clients.Other, closing("hell"), tcp, 0, 0},
		{"an address that is no address", clients.Other, func(*testing.T) string { return "a.invalid.:1" }, http1, 0, 0},
		{"no certificate to show", clients.Other, hanging, clients.Request{Protocol: clients.HTTP1, TLS: clients.OwnIdentity, ServerName: "a.b"}, 0, 0},
	}

	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, kind := range clients.Kinds() {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.kind == kind }) {
			t.Errorf("no row produces %q", kind)
		}
	}
	for _, protocol := range clients.Protocols() {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.request.Protocol == protocol }) {
			t.Errorf("no row speaks %q", protocol)
		}
	}
	for _, row := range rows {
		t.Run(string(row.kind)+"/"+row.name, func(t *testing.T) {
			request := row.request
			request.Address = row.serve(t)
			if request.Timeout == 0 {
				request.Timeout = plenty
			}
			out := caller.Do(t.Context(), request)
			if out.Kind != row.kind {
				t.Fatalf("kind %q, want %q (%+v)", out.Kind, row.kind, out)
			}
			if row.httpStatus != 0 && out.HTTPStatus != row.httpStatus {
				t.Errorf("HTTP status %d, want %d", out.HTTPStatus, row.httpStatus)
			}
			if row.grpcStatus != 0 && out.GRPCStatus != row.grpcStatus {
				t.Errorf("gRPC status %d, want %d", out.GRPCStatus, row.grpcStatus)
			}
			if out.Start.IsZero() || out.End.Before(out.Start) || out.RequestID == "" || out.Protocol != string(request.Protocol) {
				t.Errorf("incomplete outcome %+v", out)
			}
			connected := !slices.Contains([]clients.Kind{clients.Refused, clients.Reset, clients.Other}, out.Kind)
			if connected && out.LocalAddr == "" {
				t.Errorf("no local address in %+v", out)
			}
		})
	}
}

// listen accepts connections for the test and hands each to handle, which is
// waited for.
func listen(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			handle(conn)
			stop()
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		cancel()
		<-done
	})
	return listener.Addr().String()
}

func nobody(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func hanging(t *testing.T) string {
	return listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
}

// closing says first and closes in order, reading what comes so that no reset
// follows.
func closing(first string) func(*testing.T) string {
	return func(t *testing.T) string {
		return listen(t, func(conn net.Conn) {
			io.WriteString(conn, first)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		})
	}
}

// resetting resets at once, or says first and resets when the client has had the
// time to read it.
func resetting(first string) func(*testing.T) string {
	return func(t *testing.T) string {
		return listen(t, func(conn net.Conn) {
			if first != "" {
				io.WriteString(conn, first)
				// The reset must not overtake what was said.
				conn.Read(make([]byte, 1))
				time.Sleep(patience / 3)
			}
			conn.(*net.TCPConn).SetLinger(0)
		})
	}
}

// resettingLater hears the client's first byte and leaves the rest unread.
func resettingLater(t *testing.T) string {
	return listen(t, func(conn net.Conn) {
		conn.Read(make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
	})
}

func lines(greeting string) func(*testing.T) string {
	return func(t *testing.T) string {
		return listen(t, func(conn net.Conn) {
			io.WriteString(conn, greeting)
			reader := bufio.NewReader(conn)
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				io.WriteString(conn, line)
			}
		})
	}
}

// serveHTTP serves HTTP/1 and HTTP/2 with prior knowledge.
func serveHTTP(t *testing.T, handler http.HandlerFunc) string {
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func answering(status int) func(*testing.T) string {
	return func(t *testing.T) string {
		return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(status)
		})
	}
}

// digging answers a request's head with another and echoes lines from there on.
func digging(head string) func(*testing.T) string {
	return func(t *testing.T) string {
		return listen(t, func(conn net.Conn) {
			reader := bufio.NewReader(conn)
			if _, err := http.ReadRequest(reader); err != nil {
				return
			}
			io.WriteString(conn, head)
			io.Copy(conn, reader)
		})
	}
}

// grpcAnswering answers with headers only, as a proxy does.
func grpcAnswering(status int) func(*testing.T) string {
	return func(t *testing.T) string {
		return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", fmt.Sprint(status))
		})
	}
}

// grpcTrailing answers as an application does: a message, then the status.
func grpcTrailing(status int) func(*testing.T) string {
	return func(t *testing.T) string {
		return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write([]byte{0, 0, 0, 0, 2, 'o', 'k'})
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", fmt.Sprint(status))
		})
	}
}

func secure(clientAuth tls.ClientAuthType) func(*testing.T) string {
	return func(t *testing.T) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.TLS = &tls.Config{ClientAuth: clientAuth, MinVersion: tls.VersionTLS13}
		server.EnableHTTP2 = true
		server.Config.ErrorLog = discard
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
}

// secureClosing ends each connection once the handshake is over.
func secureClosing(t *testing.T) string {
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	config := server.TLS.Clone()
	config.NextProtos = nil
	return listen(t, func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.HandshakeContext(t.Context()) == nil {
			secure.CloseWrite()
			io.Copy(io.Discard, secure)
		}
	})
}

func TestWhatArrivedIsCounted(t *testing.T) {
	caller := clients.New(clients.Options{})
	defer caller.Close()
	echo := caller.Do(t.Context(), clients.Request{Protocol: clients.TCP, Address: lines("")(t), ID: "four"})
	if echo.Bytes != int64(len("four\n")) {
		t.Errorf("an echo of %d bytes, want %d", echo.Bytes, len("four\n"))
	}
	trailed := caller.Do(t.Context(), clients.Request{Protocol: clients.GRPC, Method: "/a.B/C", Address: grpcTrailing(0)(t), Keep: true})
	if trailed.Bytes != 2 || string(trailed.Body) != "ok" || trailed.Header["grpc-status"] != "0" {
		t.Errorf("got %d bytes, %q and %v, want ok and grpc-status 0", trailed.Bytes, trailed.Body, trailed.Header)
	}
	long := strings.Repeat("x", 2*clients.KeepLimit)
	kept := caller.Do(t.Context(), clients.Request{Protocol: clients.HTTP1, Keep: true, Address: serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("l5d-proxy-error", "why")
		io.WriteString(w, long)
	})})
	if kept.Bytes != int64(len(long)) || string(kept.Body) != long[:clients.KeepLimit] || kept.ProxyError != "why" {
		t.Errorf("got %d bytes, kept %d, proxy error %q", kept.Bytes, len(kept.Body), kept.ProxyError)
	}
}

func within(request clients.Request) clients.Request {
	request.Timeout = patience
	return request
}
