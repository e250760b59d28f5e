package clients_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
)

var discard = log.New(io.Discard, "", 0)

func TestReusedCallsShareAConnectionAndFreshOnesDoNot(t *testing.T) {
	for _, row := range []struct {
		name    string
		request clients.Request
	}{
		{"HTTP/1", clients.Request{Protocol: clients.HTTP1, Address: answering(403)(t)}},
		{"HTTP/2", clients.Request{Protocol: clients.HTTP2, Address: answering(200)(t)}},
		{"gRPC", clients.Request{Protocol: clients.GRPC, Method: "/a.B/C", Address: grpcAnswering(7)(t)}},
		{"TCP", clients.Request{Protocol: clients.TCP, Address: lines("")(t)}},
		{"server-first TCP", clients.Request{Protocol: clients.TCPServerFirst, Address: lines("hello\n")(t)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			caller := clients.New(clients.Options{})
			defer caller.Close()
			row.request.Timeout = plenty
			call := func(connection clients.Connection) clients.Outcome {
				request := row.request
				request.Connection = connection
				return caller.Do(t.Context(), request)
			}
			first, second := call(clients.Reused), call(clients.Reused)
			if first.Reused || !second.Reused || first.LocalAddr != second.LocalAddr {
				t.Errorf("two reused calls came from %q (reused %v) and %q (reused %v)", first.LocalAddr, first.Reused, second.LocalAddr, second.Reused)
			}
			if first.Kind != second.Kind {
				t.Errorf("kinds %q and %q", first.Kind, second.Kind)
			}
			if row.request.Protocol != clients.TCP && row.request.Protocol != clients.TCPServerFirst {
				fresh := call(clients.Fresh)
				if fresh.Reused || fresh.LocalAddr == first.LocalAddr {
					t.Errorf("a fresh call reused %q", fresh.LocalAddr)
				}
			}
		})
	}
}

func TestAConnectionThatThePeerEndedWhileIdleIsNotReused(t *testing.T) {
	var server http.Server
	server.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	closed := make(chan struct{}, 8)
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			conn.Close()
			closed <- struct{}{}
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	defer server.Close()
	wait.Go(func() { server.Serve(listener) })
	caller := clients.New(clients.Options{})
	defer caller.Close()
	request := clients.Request{Protocol: clients.HTTP1, Address: listener.Addr().String(), Connection: clients.Reused}
	for range 3 {
		out := caller.Do(t.Context(), request)
		if out.Kind != clients.Allowed || out.Reused {
			t.Fatalf("got %+v, want an answer on a new connection", out)
		}
		<-closed
	}
}

func TestManyCallsOnOneHTTP2ConnectionOutliveItsStreamLimit(t *testing.T) {
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	caller := clients.New(clients.Options{})
	defer caller.Close()
	var calls sync.WaitGroup
	var bad atomic.Int64
	for range 600 {
		calls.Go(func() {
			out := caller.Do(t.Context(), clients.Request{Protocol: clients.HTTP2, Address: address, Connection: clients.Reused, Timeout: plenty})
			if out.Kind != clients.Allowed {
				bad.Add(1)
				t.Logf("%+v", out)
			}
		})
	}
	calls.Wait()
	if bad.Load() != 0 {
		t.Errorf("%d of 600 calls failed", bad.Load())
	}
}

func TestALateSpeakerIsSilentFirst(t *testing.T) {
	for _, request := range []clients.Request{
		{Protocol: clients.TCP}, {Protocol: clients.HTTP1}, {Protocol: clients.HTTP2}, {Protocol: clients.GRPC, Method: "/a.B/C"},
	} {
		t.Run(string(request.Protocol), func(t *testing.T) {
			silence := make(chan time.Duration, 1)
			request.Address = listen(t, func(conn net.Conn) {
				start := time.Now()
				conn.Read(make([]byte, 1))
				silence <- time.Since(start)
			})
			request.SpeakAfter = patience
			caller := clients.New(clients.Options{})
			defer caller.Close()
			caller.Do(t.Context(), request)
			// Accepting may lag behind connecting, hence the half.
			if got := <-silence; got < patience/2 {
				t.Errorf("spoke after %v, want about %v", got, patience)
			}
		})
	}
}

func TestTheRequestArrivesAsItWasGiven(t *testing.T) {
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2} {
		for _, path := range []string{"/", "/a?b=c", "/a//b/../c%2Fd", "//a/b?c", "/a%zz"} {
			if protocol == clients.HTTP2 && path == "/a%zz" {
				continue // a Go server refuses it before any handler
			}
			t.Run(string(protocol)+path, func(t *testing.T) {
				type seen struct{ method, target, host, id, header, body string }
				var got seen
				address := rawHTTP(t, func(r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					got = seen{r.Method, r.RequestURI, r.Host, r.Header.Get(clients.HeaderID), r.Header.Get("L5d-Client-Id"), string(body)}
				})
				caller := clients.New(clients.Options{})
				defer caller.Close()
				out := caller.Do(t.Context(), clients.Request{Protocol: protocol, Address: address, Method: "PUT", Path: path, Host: "web.example",
					ID: "id-1", Body: []byte("body"), Headers: map[string]string{"l5d-client-id": "forged"}})
				want := seen{"PUT", path, "web.example", "id-1", "forged", "body"}
				if path == "/a%zz" {
					if out.HTTPStatus != http.StatusBadRequest {
						t.Errorf("got %+v, want the server's 400", out)
					}
					return
				}
				if got != want {
					t.Errorf("arrived as %+v, want %+v (%+v)", got, want, out)
				}
			})
		}
	}
}

func rawHTTP(t *testing.T, see func(*http.Request)) string {
	return serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) { see(r) })
}

func TestAStreamIsReadAsFarAsAsked(t *testing.T) {
	address := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		for range 3 {
			w.Write([]byte{0, 0, 0, 0, 1, 'x'})
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	caller := clients.New(clients.Options{})
	defer caller.Close()
	out := caller.Do(t.Context(), clients.Request{Protocol: clients.GRPCStream, Method: "/a.B/C", Address: address, Messages: 3, Timeout: plenty})
	if out.Kind != clients.Allowed || out.Bytes != 3 {
		t.Errorf("got %+v, want three bytes of an open stream", out)
	}
}

func TestACallThatIsCancelledSaysNothingAboutItsTarget(t *testing.T) {
	caller := clients.New(clients.Options{})
	defer caller.Close()
	for _, protocol := range []clients.Protocol{clients.HTTP1, clients.HTTP2, clients.TCP} {
		ctx, cancel := context.WithCancel(t.Context())
		address := listen(t, func(conn net.Conn) {
			conn.Read(make([]byte, 1))
			cancel()
			io.Copy(io.Discard, conn)
		})
		if out := caller.Do(ctx, clients.Request{Protocol: protocol, Address: address, Timeout: plenty}); out.Kind != clients.Other {
			t.Errorf("%s: kind %q, want %q", protocol, out.Kind, clients.Other)
		}
		cancel()
	}
}

func TestARequestThatMakesNoSenseIsSaidToBeOne(t *testing.T) {
	good := clients.Request{Protocol: clients.HTTP1, Address: "a:1"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*clients.Request){
		"unknown protocol":        func(r *clients.Request) { r.Protocol = "gopher" },
		"no port":                 func(r *clients.Request) { r.Address = "a" },
		"unknown TLS mode":        func(r *clients.Request) { r.TLS = "some" },
		"unknown connection":      func(r *clients.Request) { r.Connection = "old" },
		"gRPC without a method":   func(r *clients.Request) { r.Protocol = clients.GRPC },
		"a method that is none":   func(r *clients.Request) { r.Method = "/a.B/C" },
		"gRPC with half a method": func(r *clients.Request) { r.Protocol, r.Method = clients.GRPC, "/a.B" },
		"transport header without TLS": func(r *clients.Request) {
			r.Transport = &clients.TransportHeader{Port: 80}
		},
		"transport header with a strange session": func(r *clients.Request) {
			r.TLS, r.Transport = clients.NoIdentity, &clients.TransportHeader{Port: 80, Session: clients.GRPC}
		},
		"server name without TLS":               func(r *clients.Request) { r.ServerName = "a" },
		"own identity and nobody to expect":     func(r *clients.Request) { r.TLS = clients.OwnIdentity },
		"silence that outlasts the time-out":    func(r *clients.Request) { r.Timeout, r.SpeakAfter = time.Second, time.Minute },
		"id that would break the line protocol": func(r *clients.Request) { r.ID = "a b" },
	} {
		t.Run(name, func(t *testing.T) {
			request := good
			spoil(&request)
			if err := request.Validate(); !errors.Is(err, clients.ErrRequest) {
				t.Errorf("error %v, want one that wraps ErrRequest", err)
			}
			caller := clients.New(clients.Options{})
			defer caller.Close()
			if out := caller.Do(t.Context(), request); out.Kind != clients.Other || out.Message == "" {
				t.Errorf("outcome %+v, want other with a message", out)
			}
		})
	}
}

func TestDenialsAreTheFormsInWhichAMeshRefuses(t *testing.T) {
	var denials []clients.Kind
	for _, kind := range clients.Kinds() {
		if kind.Denial() {
			denials = append(denials, kind)
		}
	}
	want := []clients.Kind{clients.Forbidden, clients.PermissionDenied, clients.Refused, clients.Reset, clients.Closed}
	if !reflect.DeepEqual(denials, want) {
		t.Errorf("denials %v, want %v", denials, want)
	}
}

func TestCallsComeFromTheAddressThatIsAskedFor(t *testing.T) {
	caller := clients.New(clients.Options{LocalAddress: netip.MustParseAddr("127.0.0.9")})
	defer caller.Close()
	out := caller.Do(t.Context(), clients.Request{Protocol: clients.HTTP1, Address: answering(200)(t), Timeout: plenty})
	if from, _, _ := net.SplitHostPort(out.LocalAddr); from != "127.0.0.9" || out.Kind != clients.Allowed {
		t.Errorf("%s from %s: %s", out.Kind, out.LocalAddr, out.Message)
	}
}
