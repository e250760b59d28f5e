package inbound_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/controller/inbound"
	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
)

// These tests drive the service as linkerd2-proxy does, without any gRPC library
// on the client's side: HTTP/2 with prior knowledge, messages framed and encoded by
// hand, the workload as JSON (K-04), one stream per port.

// token is LINKERD2_PROXY_POLICY_WORKLOAD as an injector writes it.
const token = `{"ns":"emojivoto","pod":"web"}`

// proxy is one HTTP/2 connection to the controller.
type proxy struct {
	t          *testing.T
	connection *http2.ClientConn
}

func connect(t *testing.T, listener *bufconn.Listener) proxy {
	t.Helper()
	raw, err := listener.DialContext(within(t))
	if err != nil {
		t.Fatal(err)
	}
	connection, err := (&http2.Transport{AllowHTTP: true, DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) { return raw, nil }}).NewClientConn(raw)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return proxy{t, connection}
}

// portSpec encodes field 1, the workload, and field 2, the port.
func portSpec(workload string, port uint32) []byte {
	message := append([]byte{1<<3 | 2}, binary.AppendUvarint(nil, uint64(len(workload)))...)
	message = append(message, workload...)
	message = binary.AppendUvarint(append(message, 2<<3), uint64(port))
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(framed, message...)
}

// stream is one call.
type stream struct {
	t        *testing.T
	response *http.Response
	cancel   context.CancelFunc
}

func (p proxy) call(method, workload string, port uint32) stream {
	p.t.Helper()
	ctx, cancel := context.WithCancel(within(p.t))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://linkerd-policy.linkerd.svc.cluster.local:8090/io.linkerd.proxy.inbound.InboundServerPolicies/"+method, bytes.NewReader(portSpec(workload, port)))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("content-type", "application/grpc")
	request.Header.Set("te", "trailers")
	response, err := p.connection.RoundTrip(request)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cancel(); response.Body.Close() })
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("content-type"), "application/grpc") {
		p.t.Fatalf("answered with %s, %v", response.Status, response.Header)
	}
	return stream{p.t, response, cancel}
}

// next returns the name of the next policy, or io.EOF.
func (s stream) next() (string, error) {
	var head [5]byte
	if _, err := io.ReadFull(s.response.Body, head[:]); err != nil {
		return "", err
	}
	text := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(s.response.Body, text); err != nil {
		return "", err
	}
	var server inboundpb.Server
	if err := proto.Unmarshal(text, &server); err != nil {
		return "", err
	}
	return server.GetLabels()["name"], nil
}

func (s stream) expect(want string) {
	s.t.Helper()
	if got, err := s.next(); err != nil || got != want {
		s.t.Fatalf("told %q, %v, want %q", got, err, want)
	}
}

// status waits for the end of the call and returns its grpc-status.
func (s stream) status() string {
	s.t.Helper()
	if _, err := io.Copy(io.Discard, s.response.Body); err != nil {
		s.t.Fatalf("the call did not end in good order: %v", err)
	}
	if status := s.response.Header.Get("grpc-status"); status != "" {
		return status
	}
	return s.response.Trailer.Get("grpc-status")
}

// serveWire serves an index that holds pod web until the returned function ends it
// in good order.
func serveWire(t *testing.T, x *index.Index) (listener *bufconn.Listener, end func()) {
	listener = bufconn.Listen(1 << 16)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- inbound.Serve(ctx, listener, nil, &inbound.Service{Index: x, Stopping: ctx.Done()})
	}()
	end = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		listener.Close()
	})
	t.Cleanup(end)
	return listener, end
}

func mkIndex() *index.Index {
	x := index.New(index.Config{Dialect: api.Documented()})
	x.Update(func(tx *index.Tx) { tx.SetPod(ns, "web", mkPod("web")) })
	return x
}

// W-01, W-02, W-04, W-05, X-62: the state at once, one message per effective change
// and none without, on as many streams as there are ports.
func TestAProxyIsToldEachEffectiveChangeOnce(t *testing.T) {
	x := mkIndex()
	listener, _ := serveWire(t, x)
	p := connect(t, listener)
	http, undeclared := p.call("WatchPort", token, 8080), p.call("WatchPort", token, 9999)
	http.expect("all-unauthenticated")
	undeclared.expect("all-unauthenticated")
	write := func(change func(tx *index.Tx)) { x.Update(change) }
	write(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	http.expect("a")
	// Nothing of this concerns the port: a message of it would come before the next.
	write(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	write(func(tx *index.Tx) { tx.SetServer(ns, "b", mkServer(api.ProtocolHTTP2)) })
	write(func(tx *index.Tx) { tx.SetPod(ns, "other", mkPod("other")) })
	if err := p.connection.Ping(within(t)); err != nil {
		t.Errorf("a ping between: %v", err)
	}
	write(func(tx *index.Tx) { tx.DeleteServer(ns, "a") })
	http.expect("b")
	write(func(tx *index.Tx) { tx.DeleteServer(ns, "b") })
	http.expect("all-unauthenticated")
	// The other port's stream has been silent all the while, and ends with the pod.
	write(func(tx *index.Tx) { tx.DeletePod(ns, "web") })
	for _, s := range []stream{http, undeclared} {
		if name, err := s.next(); err != io.EOF {
			t.Errorf("told %q, %v of a pod that is gone", name, err)
		}
		if got := s.status(); got != "0" {
			t.Errorf("ended with status %s", got)
		}
	}
}

// W-03: as grpc-status, which is what decides whether a proxy asks again (L-07).
func TestAProxyIsToldWhyItIsNotAnswered(t *testing.T) {
	listener, _ := serveWire(t, mkIndex())
	p := connect(t, listener)
	for _, row := range []struct {
		workload string
		port     uint32
		want     string
	}{
		{token, 8080, "0"},
		{"emojivoto:web", 8080, "0"},
		{`{"ns":"emojivoto","pod":"gone"}`, 8080, "5"},
		{`{"ns":"gone","pod":"web"}`, 8080, "5"},
		{`{"ns":"emojivoto","external_workload":"vm"}`, 8080, "5"},
		{`{"ns":"emojivoto"}`, 8080, "3"},
		{`{"pod":"web"}`, 8080, "3"},
		{`{"ns":"emojivoto","pod":1}`, 8080, "3"},
		{`{"ns":"emojivoto","pod":"web"`, 8080, "3"},
		{"web", 8080, "3"},
		{"", 8080, "3"},
		{token, 0, "3"},
		{token, 65536, "3"},
		{token, 1<<32 - 1, "3"},
	} {
		if got := p.call("GetPort", row.workload, row.port).status(); got != row.want {
			t.Errorf("GetPort %s %d: status %s, want %s", row.workload, row.port, got, row.want)
		}
		watch := p.call("WatchPort", row.workload, row.port)
		if row.want == "0" {
			watch.expect("all-unauthenticated")
			watch.cancel()
		} else if got := watch.status(); got != row.want {
			t.Errorf("WatchPort %s %d: status %s, want %s", row.workload, row.port, got, row.want)
		}
	}
	if got := p.call("Nonsense", token, 8080).status(); got != "12" {
		t.Errorf("an unknown method: status %s", got)
	}
}

// W-05, L-05, L-06: a stream that is given up and begun again, on the same
// connection or on that of the next controller, starts with the present state.
func TestAProxyThatComesBackFindsThePresentState(t *testing.T) {
	x := mkIndex()
	listener, end := serveWire(t, x)
	p := connect(t, listener)
	first := p.call("WatchPort", token, 8080)
	first.expect("all-unauthenticated")
	first.cancel()
	x.Update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
	second := p.call("WatchPort", token, 8080)
	second.expect("a")
	end()
	if got := second.status(); got != "0" {
		t.Errorf("the controller's end: status %s", got)
	}
	x.Update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolOpaque)); tx.DeleteServer(ns, "a") })
	next, _ := serveWire(t, x)
	connect(t, next).call("WatchPort", token, 8080).expect("all-unauthenticated")
	if _, watchers := x.Watched(); watchers != 1 {
		t.Errorf("%d streams are watching", watchers)
	}
}

// A proxy keeps its connection alive with pings, and its streams for up to an hour
// (L-05); both are silent when nothing changes. A proxy that has vanished without a
// word leaves no watch behind.
func TestConnectionsAreKeptAliveAndVanishedProxiesNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := mkIndex()
		listener, end := serveWire(t, x)
		defer end()
		var raw silenced
		client, err := grpc.NewClient("passthrough:policy", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second, PermitWithoutStream: true}),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				if raw.Conn != nil {
					return nil, fmt.Errorf("the test lets it connect once")
				}
				connection, err := listener.DialContext(ctx)
				raw.Conn = connection
				return &raw, err
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		watch, err := inboundpb.NewInboundServerPoliciesClient(client).WatchPort(t.Context(), &inboundpb.PortSpec{Workload: token, Port: 8080})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{receive(t, watch)}
		time.Sleep(time.Hour)
		x.Update(func(tx *index.Tx) { tx.SetServer(ns, "a", mkServer(api.ProtocolHTTP1)) })
		names = append(names, receive(t, watch))
		if diff := cmp.Diff([]string{"all-unauthenticated", "a"}, names); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
		raw.silence()
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if _, watchers := x.Watched(); watchers != 0 {
			t.Errorf("%d streams of a vanished proxy are watching", watchers)
		}
	})
}

// silenced is a connection whose peer, once silenced, hears nothing more.
type silenced struct {
	net.Conn
	mu     sync.Mutex
	silent bool
}

func (s *silenced) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func (s *silenced) Write(p []byte) (int, error) {
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// Close of a silenced connection is not heard either; the test's end closes it.
func (s *silenced) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil
	}
	return s.Conn.Close()
}
