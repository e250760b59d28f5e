package outbound

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	pbin "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// The tests in this file put the real inbound half in front of the application,
// so that both halves are held to the same wire.

// policySource hands out one policy for every port.
type policySource struct {
	pbin.UnimplementedInboundServerPoliciesServer
	mu      sync.Mutex
	policy  *pbin.Server
	changed chan struct{}
}

func (s *policySource) set(p *pbin.Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy = p
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *policySource) WatchPort(_ *pbin.PortSpec, stream grpc.ServerStreamingServer[pbin.Server]) error {
	for {
		s.mu.Lock()
		p, changed := s.policy, s.changed
		s.mu.Unlock()
		if err := stream.Send(p); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// policyFor is a Server of one protocol that lets one identity in.
func policyFor(protocol string, allowed string) *pbin.Server {
	p := &pbin.Server{Labels: map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "voting"},
		Authorizations: []*pbin.Authz{{
			Labels:         map[string]string{"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "one"},
			Networks:       []*pbin.Network{{Net: &pbnet.IPNetwork{Ip: &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv4{}}}}},
			Authentication: &pbin.Authn{Permit: &pbin.Authn_MeshTLS{MeshTLS: &pbin.Authn_PermitMeshTLS{Clients: &pbin.Authn_PermitMeshTLS_Identities{Identities: &pbin.Authn_PermitMeshTLS_PermitClientIdentities{Identities: []*pbin.Identity{{Name: allowed}}}}}}},
		}}}
	switch protocol {
	case "detect":
		p.Protocol = &pbin.ProxyProtocol{Kind: &pbin.ProxyProtocol_Detect_{Detect: &pbin.ProxyProtocol_Detect{Timeout: durationpb.New(patience)}}}
	case "opaque":
		p.Protocol = &pbin.ProxyProtocol{Kind: &pbin.ProxyProtocol_Opaque_{Opaque: &pbin.ProxyProtocol_Opaque{}}}
	case "HTTP/1":
		p.Protocol = &pbin.ProxyProtocol{Kind: &pbin.ProxyProtocol_Http1_{Http1: &pbin.ProxyProtocol_Http1{}}}
	case "gRPC":
		p.Protocol = &pbin.ProxyProtocol{Kind: &pbin.ProxyProtocol_Grpc_{Grpc: &pbin.ProxyProtocol_Grpc{}}}
	}
	return p
}

// behindInbound puts the real inbound half in front of pod p, in place of the
// harness's, and returns where its policy comes from.
func (w *world) behindInbound(p *pod, first *pbin.Server) (apply func(*pbin.Server)) {
	w.Helper()
	source := &policySource{policy: first, changed: make(chan struct{})}
	controller, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	server := grpc.NewServer()
	pbin.RegisterInboundServerPoliciesServer(server, source)
	var running sync.WaitGroup
	running.Go(func() { server.Serve(controller) })
	conn, err := grpc.NewClient(controller.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.Fatal(err)
	}
	listeners := [2]net.Listener{}
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", netip.AddrPortFrom(p.ip, 0).String()); err != nil {
			w.Fatal(err)
		}
	}
	p.port = addrPort(listeners[0].Addr()).Port()
	in, err := inbound.New(inbound.Config{
		Identity: p.id, Policies: pbin.NewInboundServerPoliciesClient(conn), Workload: "emojivoto:voting-0",
		Ports: []uint16{p.app.Port()}, InboundPort: p.port, AdminPort: addrPort(listeners[1].Addr()).Port(),
		Admin: http.NotFoundHandler(), Metrics: inbound.NewMetrics(prometheus.NewRegistry()), Decisions: &inbound.Decisions{},
		Logger: slog.New(slog.NewJSONHandler(w.logs, nil)), Timeouts: inbound.Timeouts{Drain: soon},
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { in.Serve(ctx, listeners[0], listeners[1]) })
	w.Cleanup(func() { cancel(); conn.Close(); server.Stop(); running.Wait() })
	await := func(p *pbin.Server, port uint16) {
		w.Helper()
		hash, err := policy.Hash(p)
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if _, ok := in.Policies().Await(ctx, port, hash); !ok {
			w.Fatal("the policy does not come into force")
		}
	}
	await(first, p.app.Port())
	// Traffic from 127.0.0.1 would be let in as localhost (B-01).
	w.proxy.dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 42)}
	return func(next *pbin.Server) { source.set(next); await(next, p.app.Port()) }
}

func TestBothHalvesTogetherLetInAndRefuse(t *testing.T) {
	const stranger = "stranger.default.serviceaccount.identity.linkerd.cluster.local"
	t.Run("HTTP", func(t *testing.T) {
		for _, protocol := range []string{"detect", "HTTP/1"} {
			w := newWorld(t, nil)
			p := w.newPod(2, votingID, nil)
			apply := w.behindInbound(p, policyFor(protocol, webID))
			w.destinations.service(p.describe(meshedHTTP2))
			for version := 1; version <= 2; version++ {
				if version == 2 && protocol == "HTTP/1" {
					continue
				}
				client := w.http(serviceAddr, version)
				apply(policyFor(protocol, webID))
				seen, answer := w.get(client, w.request("POST", "http://a/x", strings.NewReader("hello")))
				if answer.StatusCode != 200 || seen.Body != "hello" || seen.OrigProto != "" || seen.Header.Get("L5d-Client-Id") != webID {
					t.Errorf("%s, HTTP/%d: %d %+v", protocol, version, answer.StatusCode, seen)
				}
				apply(policyFor(protocol, stranger)) // the same connections, the next request (H-11)
				_, answer = w.get(client, w.request("GET", "http://a/x", nil))
				if answer.StatusCode != 403 || answer.ContentLength != 0 || answer.Header.Get("L5d-Proxy-Error") != "" {
					t.Errorf("%s, HTTP/%d: denied with %d %v", protocol, version, answer.StatusCode, answer.Header)
				}
			}
			if !strings.Contains(w.logs.String(), "remote proxy error") {
				t.Errorf("%s: the refusal's reason is not logged", protocol)
			}
		}
	})
	t.Run("gRPC", func(t *testing.T) {
		w := newWorld(t, nil)
		server := grpc.NewServer()
		server.RegisterService(&chat, make(chan struct{}, 1))
		defer server.Stop()
		p := w.newPod(2, votingID, func(conn net.Conn) {
			ended := make(chan struct{})
			one := &oneConn{conn: &endingConn{Conn: conn, ended: ended}, closed: make(chan struct{})}
			go server.Serve(one)
			<-ended
			one.Close()
		})
		apply := w.behindInbound(p, policyFor("gRPC", webID))
		w.destinations.service(p.describe(meshedHTTP2))
		client, err := grpc.NewClient("passthrough:///voting-svc:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return w.dial(serviceAddr), nil }))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out := new(wrapperspb.StringValue)
		if err := client.Invoke(ctx, "/test.Chat/Say", wrapperspb.String("hello"), out); err != nil || out.Value != "heard hello" {
			t.Errorf("%q, %v", out.Value, err)
		}
		if err := client.Invoke(ctx, "/test.Chat/Say", wrapperspb.String("fail"), out); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("the application's own failure: %v", err)
		}
		apply(policyFor("gRPC", stranger))
		err = client.Invoke(ctx, "/test.Chat/Say", wrapperspb.String("hello"), out)
		if s := status.Convert(err); s.Code() != codes.PermissionDenied || s.Message() == "" {
			t.Errorf("denied: %v; a meshed client is told why (N-06)", err)
		}
	})
	t.Run("TCP", func(t *testing.T) {
		for _, protocol := range []string{"opaque", "detect"} {
			w := newWorld(t, nil)
			p := w.newPod(2, votingID, echo)
			apply := w.behindInbound(p, policyFor(protocol, webID))
			w.destinations.service(p.describe(meshedOpaque))
			held := w.says(serviceAddr, "hello\n")
			apply(policyFor(protocol, webID))
			io.WriteString(held, "still there\n")
			if _, err := io.ReadFull(held, make([]byte, len("still there\n"))); err != nil {
				t.Errorf("%s: a connection that is still covered: %v", protocol, err)
			}
			apply(policyFor(protocol, stranger)) // L-09
			if rest, err := io.ReadAll(held); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: a revoked connection ends with %q, %v", protocol, rest, err)
			}
			before := len(p.seen())
			conn := w.dial(serviceAddr)
			io.WriteString(conn, "hello\n")
			if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: denied with %q, %v", protocol, got, err)
			}
			if len(p.seen()) != before {
				t.Errorf("%s: the application saw a connection that was denied", protocol)
			}
		}
	})
}
