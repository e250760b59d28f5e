package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/identity/identitytest"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	webID    = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local"
	votingID = "voting.emojivoto.serviceaccount.identity.linkerd.cluster.local"

	// patience bounds every wait; only a failing test uses it up.
	patience = 15 * time.Second
	// soon is a time-out of the proxy's own that tests wait for.
	soon = 200 * time.Millisecond
)

// The addresses of the test's small world. Everything is on loopback, where each
// pod has an address of its own; the Service's address is nowhere.
var (
	serviceAddr = netip.MustParseAddrPort("10.96.0.7:80")
	ownIP       = netip.MustParseAddr("127.0.0.99")
)

// world is one proxy with its destination service.
type world struct {
	*testing.T
	ca           *identitytest.CA
	proxy        *Proxy
	destinations *destinations
	registry     *prometheus.Registry
	logs         *logBuffer

	mu sync.Mutex
	// meant tells, per client address, where a connection is meant to go.
	meant map[string]chan netip.AddrPort
}

// newWorld starts a proxy as identity web; edit may change its settings.
func newWorld(t *testing.T, edit func(*Config)) *world {
	t.Helper()
	w := &world{T: t, ca: identitytest.NewCA(t, "ours"), destinations: newDestinations(t), registry: prometheus.NewRegistry(),
		logs: &logBuffer{}, meant: map[string]chan netip.AddrPort{}}
	config := Config{
		ListenAddr: "127.0.0.1:0", Destination: Destination{Addr: w.destinations.addr, Context: "a context"},
		Identity: w.ca.Client(t, webID), LocalIPs: []netip.Addr{ownIP}, Registerer: w.registry,
		Logger:       slog.New(slog.NewJSONHandler(w.logs, nil)),
		OriginalDst:  func(c net.Conn) (netip.AddrPort, error) { return <-w.meantFor(c.RemoteAddr().String()), nil },
		DrainTimeout: soon,
	}
	if edit != nil {
		edit(&config)
	}
	var err error
	if w.proxy, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.proxy.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Logf("the proxy's log:\n%s", w.logs)
		}
	})
	return w
}

func (w *world) meantFor(client string) chan netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.meant[client] == nil {
		w.meant[client] = make(chan netip.AddrPort, 1)
	}
	return w.meant[client]
}

// dial connects as an application that wants to reach dst.
func (w *world) dial(dst netip.AddrPort) net.Conn {
	conn, err := net.DialTimeout("tcp", w.proxy.Addr().String(), patience)
	if err != nil {
		w.Fatal(err)
	}
	w.meantFor(conn.LocalAddr().String()) <- dst
	conn.SetDeadline(time.Now().Add(patience))
	w.Cleanup(func() { conn.Close() })
	return conn
}

// http returns a client of the given version whose connections want to reach dst.
func (w *world) http(dst netip.AddrPort, version int) *http.Client {
	var rt interface {
		http.RoundTripper
		CloseIdleConnections()
	} = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.dial(dst), nil }, DisableCompression: true}
	if version == 2 {
		rt = &http2.Transport{AllowHTTP: true, DisableCompression: true,
			DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) { return w.dial(dst), nil }}
	}
	w.Cleanup(rt.CloseIdleConnections)
	return &http.Client{Transport: rt, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// logBuffer keeps log lines for assertions.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// destinations is a destination service whose answers the test sets.
type destinations struct {
	pb.UnimplementedDestinationServer
	addr string

	mu       sync.Mutex
	profiles map[string]*pb.DestinationProfile
	updates  map[string][]*pb.Update // replayed to each new subscriber
	changed  chan struct{}
	cut      chan struct{} // closed to end all streams
	down     bool
	asked    []*pb.GetDestination
}

func newDestinations(t *testing.T) *destinations {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &destinations{addr: listener.Addr().String(), profiles: map[string]*pb.DestinationProfile{}, updates: map[string][]*pb.Update{},
		changed: make(chan struct{}), cut: make(chan struct{})}
	server := grpc.NewServer()
	pb.RegisterDestinationServer(server, d)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return d
}

func (d *destinations) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// profile sets what is said about one address; nil says nothing at all, ever.
func (d *destinations) profile(path string, p *pb.DestinationProfile) {
	d.change(func() { d.profiles[path] = p })
}

// service makes serviceAddr a Service with these endpoints.
func (d *destinations) service(e ...*pb.WeightedAddr) {
	d.profile(serviceAddr.String(), &pb.DestinationProfile{FullyQualifiedName: "voting-svc.emojivoto.svc.cluster.local"})
	d.update(add(e...))
}

const serviceName = "voting-svc.emojivoto.svc.cluster.local:80"

func (d *destinations) update(u ...*pb.Update) {
	d.change(func() { d.updates[serviceName] = append(d.updates[serviceName], u...) })
}

// interrupt ends every stream and, while down, refuses new ones; then forgets
// the updates sent so far in favour of u.
func (d *destinations) interrupt(down bool, u ...*pb.Update) {
	d.change(func() {
		d.down = down
		d.updates[serviceName] = u
		close(d.cut)
		d.cut = make(chan struct{})
	})
}

func (d *destinations) log(r *pb.GetDestination) (down bool, cut chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r)
	return d.down, d.cut
}

// requests counts the look-ups of a path.
func (d *destinations) requests(path string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.asked {
		if r.GetPath() == path {
			n++
		}
	}
	return n
}

var errDown = status.Error(codes.Unavailable, "down")

func (d *destinations) GetProfile(r *pb.GetDestination, stream grpc.ServerStreamingServer[pb.DestinationProfile]) error {
	down, cut := d.log(r)
	if down {
		return errDown
	}
	var sent *pb.DestinationProfile
	for {
		d.mu.Lock()
		p, ok := d.profiles[r.GetPath()]
		changed := d.changed
		d.mu.Unlock()
		switch {
		case !ok:
			return status.Error(codes.InvalidArgument, "not an address of this cluster")
		case p != nil && p != sent:
			if err := stream.Send(p); err != nil {
				return err
			}
			sent = p
		}
		select {
		case <-changed:
		case <-cut:
			return errDown
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (d *destinations) Get(r *pb.GetDestination, stream grpc.ServerStreamingServer[pb.Update]) error {
	down, cut := d.log(r)
	if down {
		return errDown
	}
	for sent := 0; ; {
		d.mu.Lock()
		updates, changed := d.updates[r.GetPath()], d.changed
		d.mu.Unlock()
		for ; sent < len(updates); sent++ {
			if err := stream.Send(updates[sent]); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-cut:
			return errDown
		case <-stream.Context().Done():
			return nil
		}
	}
}

func add(e ...*pb.WeightedAddr) *pb.Update {
	return &pb.Update{Update: &pb.Update_Add{Add: &pb.WeightedAddrSet{Addrs: e,
		MetricLabels: map[string]string{"namespace": "emojivoto", "service": "voting-svc"}}}}
}

func remove(e ...*pb.WeightedAddr) *pb.Update {
	set := &pb.AddrSet{}
	for _, a := range e {
		set.Addrs = append(set.Addrs, a.GetAddr())
	}
	return &pb.Update{Update: &pb.Update_Remove{Remove: set}}
}

func noEndpoints(exists bool) *pb.Update {
	return &pb.Update{Update: &pb.Update_NoEndpoints{NoEndpoints: &pb.NoEndpoints{Exists: exists}}}
}

// hint is how an endpoint is described to clients.
type hint int

const (
	unmeshed hint = iota
	meshedHTTP2
	meshedOpaque
	meshedPlain // meshed, without a word about the protocol
)

// describe is the endpoint at addr; inbound is its proxy's port, 0 when the
// target port is to be dialled with TLS.
func describe(addr netip.AddrPort, h hint, inbound uint16) *pb.WeightedAddr {
	b := addr.Addr().As4()
	e := &pb.WeightedAddr{Addr: &pbnet.TcpAddress{Port: uint32(addr.Port()),
		Ip: &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv4{Ipv4: uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])}}},
		MetricLabels: map[string]string{"pod": "voting-" + addr.Addr().String()}}
	if h == unmeshed {
		return e
	}
	e.TlsIdentity = &pb.TlsIdentity{Strategy: &pb.TlsIdentity_DnsLikeIdentity_{DnsLikeIdentity: &pb.TlsIdentity_DnsLikeIdentity{Name: votingID}},
		ServerName: &pb.TlsIdentity_DnsLikeIdentity{Name: votingID}}
	e.ProtocolHint = &pb.ProtocolHint{}
	if inbound != 0 {
		e.ProtocolHint.OpaqueTransport = &pb.ProtocolHint_OpaqueTransport{InboundPort: uint32(inbound)}
	}
	switch h {
	case meshedHTTP2:
		e.ProtocolHint.Protocol = &pb.ProtocolHint_H2_{H2: &pb.ProtocolHint_H2{}}
	case meshedOpaque:
		e.ProtocolHint.Protocol = &pb.ProtocolHint_Opaque_{Opaque: &pb.ProtocolHint_Opaque{}}
	}
	return e
}

// arrival is what a pod's proxy learnt from one connection; Header is zero when
// there was none, Identity empty for plain text.
type arrival struct {
	Identity string
	Header   transport.Header
}

// pod is an application and, in front of it, a proxy that authorizes everybody.
type pod struct {
	w    *world
	ip   netip.Addr
	app  netip.AddrPort // where the application listens in the clear
	port uint16         // the proxy's
	id   *identity.Client

	mu       sync.Mutex
	arrivals []arrival
	open     map[net.Conn]bool
}

// newPod starts a pod on 127.0.0.n. The application is serve, given the
// connections as they come, or after the proxy has taken TLS off; when nil it
// is the HTTP application below. A pod without identity runs no proxy.
func (w *world) newPod(n byte, id string, serve func(net.Conn)) *pod {
	w.Helper()
	p := &pod{w: w, ip: netip.AddrFrom4([4]byte{127, 0, 0, n}), open: map[net.Conn]bool{}}
	if serve == nil {
		serve = serveHTTP(w, p)
	}
	p.app = p.listen(func(conn net.Conn) {
		p.arrived(arrival{})
		serve(conn)
	})
	if id != "" {
		p.id = w.ca.Client(w.T, id)
		p.port = p.listen(func(conn net.Conn) { p.inbound(conn, serve, transport.ALPN) }).Port()
	}
	return p
}

func (p *pod) listen(serve func(net.Conn)) netip.AddrPort {
	p.w.Helper()
	listener, err := net.Listen("tcp", netip.AddrPortFrom(p.ip, 0).String())
	if err != nil {
		p.w.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.open[conn] = true
			p.mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				serve(conn)
				p.mu.Lock()
				delete(p.open, conn)
				p.mu.Unlock()
			})
		}
	})
	p.w.Cleanup(func() { listener.Close(); p.cut(); running.Wait() })
	return addrPort(listener.Addr())
}

// cut closes every connection of the pod, as a proxy does on revocation.
func (p *pod) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		conn.Close()
	}
}

// inbound is the pod's proxy: it demands what T-31 does. An empty alpn stands for
// a port that is dialled directly.
func (p *pod) inbound(raw net.Conn, serve func(net.Conn), alpn string) {
	config := p.id.ServerConfig()
	if alpn != "" {
		config.NextProtos = []string{alpn}
	}
	conn := tls.Server(raw, config)
	if err := conn.Handshake(); err != nil {
		return
	}
	defer conn.Close()
	a := arrival{Identity: identity.PeerIdentity(conn.ConnectionState())}
	if conn.ConnectionState().ServerName != p.id.LocalName() {
		return
	}
	if alpn != "" {
		var err error
		if a.Header, err = transport.Read(conn); err != nil {
			return
		}
	}
	p.arrived(a)
	serve(conn)
}

func (p *pod) arrived(a arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrivals = append(p.arrivals, a)
}

func (p *pod) seen() []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]arrival(nil), p.arrivals...)
}

// describe is the pod as the destination service tells of it.
func (p *pod) describe(h hint) *pb.WeightedAddr { return describe(p.app, h, p.port) }

// seenRequest is what the HTTP application answers with.
type seenRequest struct {
	Pod, Method, URI, Host, Proto, OrigProto, Body string
	Header, Trailer                                http.Header
}

// serveHTTP is an application that speaks both versions of HTTP, as a proxy does
// that knows of HTTP/1 inside HTTP/2.
func serveHTTP(w *world, p *pod) func(net.Conn) {
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if custom := r.Header.Get("X-Handler"); custom != "" {
			handlers[custom](rw, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		rw.Header().Set("L5d-Orig-Proto", "HTTP/1.1")
		rw.Header().Set("Content-Type", "application/json")
		json.NewEncoder(rw).Encode(seenRequest{Pod: p.ip.String(), Method: r.Method, URI: r.RequestURI, Host: r.Host, Proto: r.Proto,
			OrigProto: r.Header.Get(headerOrigProto), Body: string(body), Header: r.Header, Trailer: r.Trailer})
	})
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	h2 := &http2.Server{}
	return func(conn net.Conn) {
		first := make([]byte, 3)
		if _, err := io.ReadFull(conn, first); err != nil {
			return
		}
		replay := &peekedConn{Conn: conn, metrics: w.proxy.metrics.source, peeked: first, closed: make(chan struct{})}
		if string(first) == "PRI" {
			h2.ServeConn(replay, &http2.ServeConnOpts{Handler: handler})
			return
		}
		one := &feed{conns: make(chan *peekedConn, 1), done: make(chan struct{}), addr: conn.LocalAddr()}
		one.conns <- replay
		go server.Serve(one)
		<-replay.closed
		one.Close()
	}
}

// get calls url and reads what the application saw.
func (w *world) get(client *http.Client, r *http.Request) (seenRequest, *http.Response) {
	w.Helper()
	answer, err := client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.Fatal(err)
	}
	var seen seenRequest
	if answer.StatusCode == 200 && strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(body, &seen); err != nil {
			w.Fatalf("%v: %q", err, body)
		}
	}
	return seen, answer
}

func (w *world) request(method, url string, body io.Reader) *http.Request {
	w.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// eventually waits for a fact.
func (w *world) eventually(what string, fact func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !fact(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %v: %s", patience, what)
		}
	}
}
