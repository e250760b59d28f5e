package proxy

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pbid "github.com/linkerd/linkerd2-proxy-api/go/identity"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	localName = "default.apps.serviceaccount.identity.linkerd.cluster.local"
	idName    = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
	// soon is far more than anything on loopback takes.
	soon = 10 * time.Second
)

// controlPlane is one gRPC server that certifies and serves one policy for every port.
type controlPlane struct {
	pbid.UnimplementedIdentityServer
	pb.UnimplementedInboundServerPoliciesServer
	sign   identity.Signer
	policy *pb.Server
	// release lets the first policy go out.
	release chan struct{}
}

func (c *controlPlane) Certify(ctx context.Context, in *pbid.CertifyRequest) (*pbid.CertifyResponse, error) {
	chain, err := c.sign(ctx, in.CertificateSigningRequest)
	if err != nil {
		return nil, err
	}
	return &pbid.CertifyResponse{LeafCertificate: chain[0], ValidUntil: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

func (c *controlPlane) WatchPort(_ *pb.PortSpec, stream pb.InboundServerPolicies_WatchPortServer) error {
	select {
	case <-c.release:
	case <-stream.Context().Done():
		return nil
	}
	if err := stream.Send(c.policy); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func serveGRPC(t *testing.T, register func(*grpc.Server), options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	register(server)
	var done sync.WaitGroup
	done.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); done.Wait() })
	return listener.Addr().String()
}

// freeAddr is an address nothing listens on at the moment.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func ipv4(a, b, c, d byte) *pbnet.IPAddress {
	return &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv4{Ipv4: uint32(a)<<24 | uint32(b)<<16 | uint32(c)<<8 | uint32(d)}}
}

// TestTheWholeProxy starts a proxy as the agent does and asks it over all its ports.
func TestTheWholeProxy(t *testing.T) {
	ca := identitytest.NewCA(t, "mesh")
	leaf := ca.Leaf(t, idName, nil)
	plane := &controlPlane{sign: ca.Sign(nil), release: make(chan struct{}), policy: &pb.Server{
		Protocol: &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{Timeout: durationpb.New(soon)}}},
		Authorizations: []*pb.Authz{{
			Networks:       []*pb.Network{{Net: &pbnet.IPNetwork{Ip: ipv4(127, 0, 0, 2), PrefixLen: 32}}},
			Authentication: &pb.Authn{Permit: &pb.Authn_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}},
			Labels:         map[string]string{"kind": "default", "name": "all-unauthenticated"},
		}},
		Labels: map[string]string{"kind": "default", "name": "all-unauthenticated"},
	}}
	identityAddr := serveGRPC(t, func(s *grpc.Server) { pbid.RegisterIdentityServer(s, plane) },
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{leaf}})))
	policyAddr := serveGRPC(t, func(s *grpc.Server) { pb.RegisterInboundServerPoliciesServer(s, plane) })
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"LINKERD2_PROXY_INBOUND_LISTEN_ADDR": freeAddr(t).String(), "LINKERD2_PROXY_ADMIN_LISTEN_ADDR": freeAddr(t).String(),
		"LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR": freeAddr(t).String(), "MESHPROOF_PROXY_OBSERVE_ADDR": freeAddr(t).String(),
		"LINKERD2_PROXY_POLICY_SVC_ADDR": policyAddr, "LINKERD2_PROXY_POLICY_WORKLOAD": "apps:app-0",
		"LINKERD2_PROXY_IDENTITY_SVC_ADDR": identityAddr, "LINKERD2_PROXY_IDENTITY_SVC_NAME": idName,
		"LINKERD2_PROXY_IDENTITY_TOKEN_FILE": token, "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": localName, "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS": string(ca.PEM()),
	}
	cfg, err := read(env)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, NewLog(t.Output())) }()
	defer cancel()

	// The proxy is awaited, held back by its policy.
	awaited := make(chan error, 1)
	ready := "http://" + cfg.Admin.String() + "/ready"
	go func() { awaited <- AwaitMain(ctx, []string{"--timeout", soon.String(), "--url", ready}) }()
	observe := "http://" + cfg.Observe.String()
	waitFor(t, "control port", func() bool { res, _ := fetch("127.0.0.1", observe+"/policy"); return res != nil })
	close(plane.release)
	if err := <-awaited; err != nil {
		t.Fatal(err)
	}

	hash, err := policy.Hash(plane.policy)
	if err != nil {
		t.Fatal(err)
	}
	admin := "http://" + cfg.Admin.String()
	for _, tt := range []struct {
		from, url string
		status    int
		body      string // a part of it
	}{
		{"127.0.0.2", admin + "/live", 200, "live"},
		{"127.0.0.2", admin + "/ready", 200, "ready"},
		{"127.0.0.2", admin + "/metrics", 200, `inbound_http_authz_allow_total{authz_group="",authz_kind="default",authz_name="all-unauthenticated"`},
		{"127.0.0.2", admin + "/metrics", 200, "identity_cert_expiration_timestamp_seconds 1."},
		{"127.0.0.2", admin + "/metrics", 200, "process_resident_memory_bytes"},
		{"127.0.0.2", admin + "/env.json", 200, "{"},
		{"127.0.0.1", admin + "/proxy-log-level", 200, "info"},
		{"127.0.0.1", admin + "/shutdown", 405, "POST"},
		{"127.0.0.3", admin + "/metrics", 403, ""},
		{"127.0.0.1", observe + "/policy", 200, `"source":"controller"`},
		{"127.0.0.1", observe + fmt.Sprintf("/policy?port=%d&hash=%s&timeout=5s", cfg.Admin.Port(), hash), 200, `"server":"default/all-unauthenticated","version":1`},
		{"127.0.0.1", observe + fmt.Sprintf("/policy?port=%d&hash=%s&timeout=1ms", cfg.Admin.Port(), "00"), 504, hash},
		{"127.0.0.1", observe + "/policy?port=0", 400, "port"},
		{"127.0.0.1", observe + "/policy?port=80&timeout=x", 400, "timeout"},
		{"127.0.0.1", observe + "/decisions?since=x", 400, "since"},
	} {
		res, body := fetch(tt.from, tt.url)
		if res == nil || res.StatusCode != tt.status || !strings.Contains(body, tt.body) || tt.body == "" && body != "" {
			t.Errorf("%s from %s: %v\n%s", tt.url, tt.from, res, body)
		}
	}
	// A reader of the log gets the lines that are written while it reads.
	stream, err := http.Get(admin + "/logs.json")
	if err != nil {
		t.Fatal(err)
	}
	fetch("127.0.0.4", admin+"/metrics")
	var line struct {
		Message string `json:"msg"`
		Client  string `json:"client.ip"`
	}
	for lines := json.NewDecoder(stream.Body); line.Client != "127.0.0.4"; {
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
	}
	if line.Message != "Request denied" {
		t.Errorf("the log says %+v", line)
	}
	stream.Body.Close()

	_, body := fetch("127.0.0.1", observe+fmt.Sprintf("/decisions?since=0&port=%d&client=127.0.0.3", cfg.Admin.Port()))
	var list inbound.DecisionList
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Decisions) != 1 || list.Decisions[0].Verdict != "deny" ||
		list.Decisions[0].Hash != hash || list.Decisions[0].Path != "/metrics" || list.Decisions[0].Protocol != "http1" {
		t.Errorf("decisions: %v %s", err, body)
	}

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * soon):
		t.Error("the proxy does not end")
	}
}

// fetch asks from a source address; nil when nothing answers.
func fetch(from, url string) (*http.Response, string) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: soon}
	client := &http.Client{Timeout: soon, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return nil, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(soon)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// B-06
func TestWhatChangesTheProxyIsForLocalhostOnly(t *testing.T) {
	stopped := 0
	ended := make(chan struct{})
	close(ended) // so that the stream of log lines has an end
	handler := (&admin{registry: prometheus.NewRegistry(), shutdown: func() { stopped++ }, log: NewLog(io.Discard), ending: ended}).handler()
	for _, path := range []string{"/shutdown", "/proxy-log-level", "/logs.json"} {
		for peer, want := range map[string]bool{"127.0.0.1:5": true, "[::1]:5": true, "10.0.0.1:5": false, "nonsense": false} {
			method := http.MethodGet
			if path == "/shutdown" {
				method = http.MethodPost
			}
			request := httptest.NewRequest(method, path, nil)
			request.RemoteAddr = peer
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			// The body tells it from a policy's 403, which has none (B-06).
			if allowed := answer.Code == http.StatusOK; allowed != want || !allowed && (answer.Code != http.StatusForbidden || answer.Body.Len() == 0) {
				t.Errorf("%s from %s: %d %q", path, peer, answer.Code, answer.Body)
			}
		}
	}
	if stopped != 2 {
		t.Errorf("stopped %d times", stopped)
	}
}

func TestAwaitGivesUp(t *testing.T) {
	err := AwaitMain(t.Context(), []string{"--timeout", "10ms", "--url", "http://" + freeAddr(t).String()})
	if err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("got %v", err)
	}
}
