package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Names and addresses of the tests' world. All of 127/8 is one machine: a client
// from 127.0.0.1 is localhost, one from 127.0.0.2 is a neighbour, and 127.9.0.0/16 stands for another network.
const (
	serverName = "app.apps.serviceaccount.identity.linkerd.cluster.local"
	webName    = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
	otherName  = "other.elsewhere.serviceaccount.identity.linkerd.cluster.local"

	localhostIP = "127.0.0.1"
	neighbourIP = "127.0.0.2"
	outsideIP   = "127.9.0.1"

	// soon is far more than anything on loopback takes.
	soon = 10 * time.Second
)

// policies is a stub of the policy controller: what Set says, every watcher of the port gets.
type policies struct {
	pb.UnimplementedInboundServerPoliciesServer
	mu      sync.Mutex
	set     map[uint32]*pb.Server
	changed chan struct{}
	fail    error
}

func newPolicies() *policies {
	return &policies{set: map[uint32]*pb.Server{}, changed: make(chan struct{})}
}

func (p *policies) Set(port uint16, server *pb.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set[uint32(port)] = server
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *policies) WatchPort(spec *pb.PortSpec, stream pb.InboundServerPolicies_WatchPortServer) error {
	var sent *pb.Server
	for {
		p.mu.Lock()
		server, changed, fail := p.set[spec.Port], p.changed, p.fail
		p.mu.Unlock()
		if fail != nil {
			return fail
		}
		if server != nil && server != sent {
			if err := stream.Send(server); err != nil {
				return err
			}
			sent = server
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// world is a proxy in front of an application, with a stub controller behind it.
type world struct {
	tb       testing.TB
	ca       *identitytest.CA
	policies *policies
	server   *Server
	registry *prometheus.Registry
	inbound  string
	admin    string
	// app is the application's address, which is the original destination of every connection
	// unless dst says otherwise.
	app netip.AddrPort
	mu  sync.Mutex
	dst netip.AddrPort
	// stop asks for the end; served is closed when it has come.
	stop   context.CancelFunc
	served chan struct{}
}

// application answers HTTP/1 and cleartext HTTP/2 on one port with handler; a
// nil handler makes it an echo of bytes.
func application(tb testing.TB, handler http.Handler) netip.AddrPort {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := listener.Addr().(*net.TCPAddr).AddrPort()
	if handler != nil {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		server := &http.Server{Handler: handler, Protocols: protocols}
		var done sync.WaitGroup
		done.Go(func() { server.Serve(listener) })
		tb.Cleanup(func() { server.Close(); done.Wait() })
		return addr
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = struct{}{}
			mu.Unlock()
			conns.Go(func() { defer conn.Close(); io.Copy(conn, conn) })
		}
	})
	tb.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return addr
}

// newWorld starts everything; edit may change the configuration.
func newWorld(tb testing.TB, app netip.AddrPort, edit func(*Config)) *world {
	tb.Helper()
	w := &world{tb: tb, ca: identitytest.NewCA(tb, "mesh"), policies: newPolicies(), app: app, dst: app, registry: prometheus.NewRegistry()}

	controller, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	grpcServer := grpc.NewServer()
	pb.RegisterInboundServerPoliciesServer(grpcServer, w.policies)
	var controllers sync.WaitGroup
	controllers.Go(func() { grpcServer.Serve(controller) })
	control, err := grpc.NewClient(controller.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}

	inbound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w.inbound, w.admin = inbound.Addr().String(), admin.Addr().String()
	cfg := Config{
		Identity: w.ca.Client(tb, serverName), Policies: pb.NewInboundServerPoliciesClient(control), Workload: "apps:app-0",
		InboundPort: inbound.Addr().(*net.TCPAddr).AddrPort().Port(), AdminPort: admin.Addr().(*net.TCPAddr).AddrPort().Port(),
		Admin:     http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "admin "+r.URL.Path) }),
		Metrics:   NewMetrics(w.registry),
		Decisions: &Decisions{},
		Logger:    slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Timeouts:  Timeouts{Drain: soon},
		OriginalDst: func(*net.TCPConn) (netip.AddrPort, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.dst, nil
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	if w.server, err = New(cfg); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.served = cancel, make(chan struct{})
	go func() {
		defer close(w.served)
		if err := w.server.Serve(ctx, inbound, admin); err != nil {
			tb.Errorf("serve: %v", err)
		}
	}()
	tb.Cleanup(func() {
		cancel()
		<-w.served
		if n := w.server.inFlight.Load(); n != 0 {
			tb.Errorf("%d requests are counted as in progress after the end (H-04)", n)
		}
		control.Close()
		grpcServer.Stop()
		controllers.Wait()
	})
	return w
}

// redirectTo makes following connections come from an interception of this destination.
func (w *world) redirectTo(dst netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dst = dst
}

// apply brings a policy for the application's port into force.
func (w *world) apply(server *pb.Server) { w.tb.Helper(); w.applyTo(w.app.Port(), server) }

func (w *world) applyTo(port uint16, server *pb.Server) {
	w.tb.Helper()
	hash := hashOf(w.tb, server)
	w.policies.Set(port, server)
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if view, ok := w.server.Policies().Await(ctx, port, hash); !ok {
		w.tb.Fatalf("policy %s not in force on port %d: %+v", hash, port, view)
	}
}

// client is how somebody connects.
type client struct {
	from string // source address
	// tls: mesh TLS; identity: with this certificate, "" for none.
	tls      bool
	identity string
	alpn     []string
	sni      string // default the server's name
	ca       *identitytest.CA
	leaf     *tls.Certificate // instead of one made for identity
}

func (c client) String() string {
	s := c.from
	if c.tls {
		s += " tls " + c.identity
	}
	return s
}

// dial connects through the proxy's inbound listener.
func (w *world) dial(c client) (net.Conn, error) {
	return w.dialTo(w.inbound, c)
}

func (w *world) dialTo(address string, c client) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}, Timeout: soon}
	conn, err := d.Dial("tcp", address)
	if err != nil || !c.tls {
		return conn, err
	}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: c.sni, NextProtos: c.alpn, MinVersion: tls.VersionTLS12}
	if config.ServerName == "" {
		config.ServerName = serverName
	}
	switch {
	case c.leaf != nil:
		config.Certificates = []tls.Certificate{*c.leaf}
	case c.identity != "":
		ca := c.ca
		if ca == nil {
			ca = w.ca
		}
		config.Certificates = []tls.Certificate{ca.Leaf(w.tb, c.identity, nil)}
	}
	session := tls.Client(conn, config)
	session.SetDeadline(time.Now().Add(soon))
	if err := session.Handshake(); err != nil {
		conn.Close()
		return nil, err
	}
	session.SetDeadline(time.Time{})
	return session, nil
}

// counter returns the sum of a metric's series whose labels include all of want.
func (w *world) counter(name string, want map[string]string) float64 {
	w.tb.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.tb.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, want) {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, want map[string]string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}

// eventually waits for a fact that follows what the test has seen, such as a counter behind an answer.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(soon)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// refusal reads a connection to its end and fails when a byte came.
func refusal(tb testing.TB, conn net.Conn) {
	tb.Helper()
	conn.SetDeadline(time.Now().Add(soon))
	b, err := io.ReadAll(conn)
	if len(b) > 0 {
		tb.Errorf("refused connection carried %q", b)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		tb.Errorf("connection was not closed")
	}
}

// Builders of messages, with only what tests vary.

func server(protocol *pb.ProxyProtocol, authzs ...*pb.Authz) *pb.Server {
	return &pb.Server{
		Protocol: protocol, Authorizations: authzs,
		Labels: map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "srv"},
	}
}

func detect(routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return detectWithin(soon, routes...)
}

func detectWithin(d time.Duration, routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{Timeout: durationpb.New(d), HttpRoutes: routes}}}
}

func opaque() *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Opaque_{Opaque: &pb.ProxyProtocol_Opaque{}}}
}

func tlsProtocol() *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Tls_{Tls: &pb.ProxyProtocol_Tls{}}}
}

func http1Protocol(routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{Routes: routes}}}
}

func http2Protocol(routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{Routes: routes}}}
}

func grpcProtocol(routes ...*pb.GrpcRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{Routes: routes}}}
}

func network(tb testing.TB, net string, except ...string) *pb.Network {
	n := &pb.Network{Net: ipNetwork(tb, net)}
	for _, e := range except {
		n.Except = append(n.Except, ipNetwork(tb, e))
	}
	return n
}

func ipNetwork(tb testing.TB, text string) *pbnet.IPNetwork {
	tb.Helper()
	p, err := netip.ParsePrefix(text)
	if err != nil {
		tb.Fatal(err)
	}
	a := p.Addr().As4()
	return &pbnet.IPNetwork{
		Ip:        &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv4{Ipv4: uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])}},
		PrefixLen: uint32(p.Bits()),
	}
}

func resource(kind, name string) *meta.Metadata {
	return &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: kind, Name: name}}}
}

// anyone, anyIdentity, identities, anyTLS are authorizations from all networks.
func anyone(tb testing.TB, name string) *pb.Authz {
	return &pb.Authz{
		Networks: []*pb.Network{network(tb, "0.0.0.0/0")}, Metadata: resource("serverauthorization", name),
		Authentication: &pb.Authn{Permit: &pb.Authn_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}},
	}
}

func anyTLS(tb testing.TB, name string) *pb.Authz {
	a := anyone(tb, name)
	a.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{
		Clients: &pb.Authn_PermitMeshTLS_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}},
	}}}
	return a
}

func identities(tb testing.TB, name string, ids ...string) *pb.Authz {
	a := anyone(tb, name)
	permit := &pb.Authn_PermitMeshTLS_PermitClientIdentities{}
	for _, id := range ids {
		if suffix, ok := strings.CutPrefix(id, "*"); ok {
			s := &pb.IdentitySuffix{}
			if suffix != "" {
				s.Parts = strings.Split(suffix[1:], ".")
			}
			permit.Suffixes = append(permit.Suffixes, s)
			continue
		}
		permit.Identities = append(permit.Identities, &pb.Identity{Name: id})
	}
	a.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{
		Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: permit},
	}}}
	return a
}

// httpRoute is a named route with matches of paths: "=/exact", "/prefix", "~regex".
func httpRoute(name string, paths []string, authzs ...*pb.Authz) *pb.HttpRoute {
	rule := &pb.HttpRoute_Rule{}
	for _, path := range paths {
		m := &http_route.PathMatch{}
		switch {
		case strings.HasPrefix(path, "="):
			m.Kind = &http_route.PathMatch_Exact{Exact: path[1:]}
		case strings.HasPrefix(path, "~"):
			m.Kind = &http_route.PathMatch_Regex{Regex: path[1:]}
		default:
			m.Kind = &http_route.PathMatch_Prefix{Prefix: path}
		}
		rule.Matches = append(rule.Matches, &http_route.HttpRouteMatch{Path: m})
	}
	return &pb.HttpRoute{Metadata: resource("HTTPRoute", name), Rules: []*pb.HttpRoute_Rule{rule}, Authorizations: authzs}
}
