package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/proxy/inbound"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

// says sends a line on a new connection and expects it back.
func (w *world) says(dst netip.AddrPort, line string) net.Conn {
	w.Helper()
	conn := w.dial(dst)
	io.WriteString(conn, line)
	got := make([]byte, len(line))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != line {
		w.Fatalf("echo of %q: %q, %v", line, got, err)
	}
	return conn
}

func TestATargetNobodyKnowsGetsItsTrafficUnchanged(t *testing.T) {
	for name, set := range map[string]func(w *world, dst string){
		"refused look-up": func(*world, string) {},
		"empty profile":   func(w *world, dst string) { w.destinations.profile(dst, &pb.DestinationProfile{}) },
		"no such service": func(w *world, dst string) {
			w.destinations.profile(dst, &pb.DestinationProfile{FullyQualifiedName: "gone.default.svc.cluster.local"})
			w.destinations.change(func() {
				w.destinations.updates["gone.default.svc.cluster.local:"+dst[strings.LastIndex(dst, ":")+1:]] = []*pb.Update{noEndpoints(false)}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.DiscoveryTimeout = time.Hour })
			p := w.newPod(5, "", greet)
			set(w, p.app.String())
			conn := w.dial(p.app)
			if _, err := io.ReadFull(conn, make([]byte, len("220 ready\r\n"))); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestAnAbsentDestinationServiceHoldsUpOnlyTheFirst(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DiscoveryTimeout = soon })
	p := w.newPod(5, "", echo)
	w.destinations.profile(p.app.String(), nil) // never answers
	w.says(p.app, "one\n")
	started := time.Now()
	for range 10 {
		w.says(p.app, "more\n")
	}
	if took := time.Since(started); took >= 10*soon { // what waiting anew would cost at least
		t.Errorf("ten more connections took %v, each waited anew", took)
	}
}

func TestWhatIsKnownStaysWhileTheDestinationServiceIsAway(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DiscoveryTimeout = time.Hour })
	first, second := w.newPod(2, votingID, echo), w.newPod(3, votingID, echo)
	w.destinations.service(first.describe(meshedOpaque))
	w.says(serviceAddr, "before\n")
	asked := w.destinations.requests(serviceName)
	w.destinations.interrupt(true)
	w.says(serviceAddr, "during\n")
	w.eventually("the proxy asks again", func() bool { return w.destinations.requests(serviceName) > asked })
	w.says(serviceAddr, "during\n")
	// Back, with another endpoint: what it says first replaces what was known,
	// though nobody told of a removal.
	w.destinations.interrupt(false, add(second.describe(meshedOpaque)))
	w.eventually("the new endpoint is used", func() bool {
		w.says(serviceAddr, "after\n")
		return len(second.seen()) > 0
	})
	w.proxy.resolver.services.mu.Lock()
	set, _, _ := w.proxy.resolver.services.entries[serviceName].get()
	w.proxy.resolver.services.mu.Unlock()
	if len(set.list) != 1 || set.list[0].addr != second.app {
		t.Errorf("an endpoint that is gone is still in the set of %d", len(set.list))
	}
}

func TestAChangedEndpointIsAnotherForNewConnections(t *testing.T) {
	w := newWorld(t, nil)
	p := w.newPod(2, votingID, nil)
	w.destinations.service(p.describe(meshedHTTP2))
	reused := w.http(serviceAddr, 1)
	call := func() { w.get(reused, w.request("GET", "http://a/", nil)) }
	call()
	w.destinations.update(add(p.describe(meshedOpaque))) // T-36
	w.eventually("a new connection is opaque", func() bool {
		w.get(w.http(serviceAddr, 1), w.request("GET", "http://a/", nil))
		seen := p.seen()
		return seen[len(seen)-1].Header.Protocol == transport.Opaque
	})
	call() // the old connection goes on, as HTTP to what is now opaque
	w.destinations.update(add(describe(p.app, meshedHTTP2, p.port), describe(netip.MustParseAddrPort("127.0.0.2:1"), unmeshed, 0)))
	w.destinations.update(remove(describe(netip.MustParseAddrPort("127.0.0.2:1"), unmeshed, 0)))
	other := w.newPod(3, "other.default.serviceaccount.identity.linkerd.cluster.local", nil)
	wrong := other.describe(meshedHTTP2)
	w.destinations.update(add(wrong), remove(p.describe(meshedHTTP2)))
	w.eventually("the endpoint fails under the wrong name", func() bool {
		_, answer := w.get(reused, w.request("GET", "http://a/", nil))
		return answer.StatusCode == 502
	})
	right := other.describe(meshedHTTP2)
	right.TlsIdentity.GetDnsLikeIdentity().Name = other.id.LocalName()
	right.TlsIdentity.ServerName.Name = other.id.LocalName()
	w.destinations.update(add(right))
	w.eventually("the right name is asked for", func() bool {
		_, answer := w.get(reused, w.request("GET", "http://a/", nil))
		return answer.StatusCode == 200
	})
}

func TestMixedEndpointsAreEachSpokenToInTheirWay(t *testing.T) {
	w := newWorld(t, nil)
	p, opaque, plain := w.newPod(2, votingID, nil), w.newPod(3, votingID, nil), w.newPod(4, "", nil)
	w.destinations.service(p.describe(meshedHTTP2), opaque.describe(meshedOpaque), plain.describe(unmeshed))
	for _, version := range []int{1, 2} {
		client := w.http(serviceAddr, version)
		w.eventually("all three have served", func() bool {
			_, answer := w.get(client, w.request("GET", "http://a/", nil))
			if answer.Header.Get("L5d-Orig-Proto") != "" || answer.StatusCode != 200 {
				t.Fatalf("%d %v", answer.StatusCode, answer.Header)
			}
			return len(p.seen()) >= 1 && len(opaque.seen()) >= version && len(plain.seen()) >= version
		})
	}
	if got := opaque.seen()[0]; got.Header != (transport.Header{Port: opaque.app.Port()}) || got.Identity != webID {
		t.Errorf("opaque: %+v", got)
	}
	if got := plain.seen()[0]; got != (arrival{}) {
		t.Errorf("unmeshed: %+v", got)
	}
}

func TestOneWatchServesAllConnectionsAndIsDroppedWhenIdle(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.IdleTimeout = soon })
	w.destinations.service(w.newPod(2, votingID, echo).describe(meshedOpaque))
	var all sync.WaitGroup
	open := make([]net.Conn, 20)
	for i := range open {
		all.Go(func() { open[i] = w.says(serviceAddr, "hello\n") })
	}
	all.Wait()
	if p, s := w.destinations.requests(serviceAddr.String()), w.destinations.requests(serviceName); p != 1 || s != 1 {
		t.Errorf("asked %d times for the profile and %d times for the endpoints", p, s)
	}
	time.Sleep(2 * soon) // in use, it must not be dropped
	w.says(serviceAddr, "hello\n").Close()
	if n := w.destinations.requests(serviceAddr.String()); n != 1 {
		t.Errorf("asked %d times although in use", n)
	}
	for _, conn := range open {
		conn.Close()
	}
	w.eventually("the watches are gone", func() bool {
		profiles, services := 0, 0
		w.proxy.resolver.profiles.mu.Lock()
		profiles = len(w.proxy.resolver.profiles.entries)
		w.proxy.resolver.profiles.mu.Unlock()
		w.proxy.resolver.services.mu.Lock()
		services = len(w.proxy.resolver.services.entries)
		w.proxy.resolver.services.mu.Unlock()
		return profiles+services == 0
	})
	w.says(serviceAddr, "hello\n")
	if n := w.destinations.requests(serviceAddr.String()); n != 2 {
		t.Errorf("asked %d times, want again after the drop", n)
	}
	w.destinations.mu.Lock()
	defer w.destinations.mu.Unlock()
	for _, r := range w.destinations.asked {
		if r.GetContextToken() != "a context" {
			t.Errorf("asked with %v", r)
		}
	}
}

// uncertified is an identity whose certificate comes when release is closed.
func uncertified(w *world, release <-chan struct{}) *identity.Client {
	sign := w.ca.Sign(nil)
	client, err := identity.NewLocalClient(identity.ClientConfig{LocalName: webID, TrustAnchors: w.ca.PEM()},
		func(ctx context.Context, csr []byte) ([][]byte, error) {
			select {
			case <-release:
				return sign(ctx, csr)
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); client.Run(ctx) }()
	w.Cleanup(func() { cancel(); <-done })
	return client
}

func TestWithoutACertificateAMeshedEndpointIsNotReachedAtAll(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DiscoveryTimeout = soon })
	p, q := w.newPod(2, votingID, echo), w.newPod(3, votingID, nil)
	release := make(chan struct{})
	w.proxy.config.Identity = uncertified(w, release)
	pod := netip.AddrPortFrom(q.app.Addr(), q.app.Port())
	w.destinations.profile(pod.String(), &pb.DestinationProfile{Endpoint: q.describe(meshedHTTP2)})
	w.destinations.service(p.describe(meshedOpaque))
	conn := w.dial(serviceAddr)
	io.WriteString(conn, "hello\n")
	if got, err := io.ReadAll(conn); len(got) > 0 || err == nil {
		t.Errorf("TCP: %q, %v", got, err)
	}
	if _, answer := w.get(w.http(pod, 1), w.request("GET", "http://a/", nil)); answer.StatusCode != 504 {
		t.Errorf("HTTP: %d", answer.StatusCode)
	}
	if n := len(p.seen()) + len(q.seen()); n != 0 {
		t.Errorf("%d connections reached the pods", n)
	}
	w.proxy.config.DiscoveryTimeout = patience
	time.AfterFunc(soon, func() { close(release) })
	w.says(serviceAddr, "held until there is one\n")
}

func TestAPodItselfIsATarget(t *testing.T) {
	w := newWorld(t, nil)
	p := w.newPod(2, votingID, nil)
	w.destinations.profile(p.app.String(), &pb.DestinationProfile{Endpoint: p.describe(meshedHTTP2)})
	for _, version := range []int{1, 2} {
		if seen, _ := w.get(w.http(p.app, version), w.request("GET", "http://a/", nil)); seen.Proto != "HTTP/2.0" {
			t.Errorf("HTTP/%d: %+v", version, seen)
		}
	}
	q := w.newPod(3, votingID, greet)
	w.destinations.profile(q.app.String(), &pb.DestinationProfile{Endpoint: q.describe(meshedOpaque)})
	if _, err := io.ReadFull(w.dial(q.app), make([]byte, len("220 ready\r\n"))); err != nil {
		t.Errorf("server first: %v", err)
	}
}

func TestPortsOfTheProxyItselfAreDialledDirectly(t *testing.T) {
	for _, port := range []string{"4190", "4191"} {
		w := newWorld(t, nil)
		p := w.newPod(2, votingID, nil)
		listener, err := net.Listen("tcp", "127.0.0.91:"+port)
		if err != nil {
			t.Skipf("port %s is taken on this machine: %v", port, err)
		}
		done := make(chan struct{})
		serve := serveHTTP(w, p)
		go func() {
			defer close(done)
			if conn, err := listener.Accept(); err == nil {
				defer conn.Close()
				p.mu.Lock()
				p.open[conn] = true
				p.mu.Unlock()
				p.inbound(conn, serve, "")
			}
		}()
		w.Cleanup(func() { listener.Close(); p.cut(); <-done })
		addr := addrPort(listener.Addr())
		w.destinations.profile(addr.String(), &pb.DestinationProfile{Endpoint: describe(addr, meshedHTTP2, 9)})
		seen, answer := w.get(w.http(addr, 1), w.request("GET", "http://a/metrics", nil))
		if answer.StatusCode != 200 || seen.OrigProto != "HTTP/1.1" {
			t.Errorf("%d %+v", answer.StatusCode, seen)
		}
		if diff := cmp.Diff([]arrival{{Identity: webID}}, p.seen()); diff != "" {
			t.Error(diff)
		}
		w.http(addr, 1).CloseIdleConnections()
	}
}

// B-02: without mesh TLS, and by way of the inbound half where that stands
// before the port.
func TestThePodsOwnAddressIsReachedInTheClear(t *testing.T) {
	for _, row := range []struct {
		name    string
		service bool
		// seen: the pod's proxy stands before the port.
		seen bool
	}{{"through its Service", true, true}, {"through its Service, past its proxy", true, false}, {"by its address", false, true}} {
		t.Run(row.name, func(t *testing.T) {
			var judged atomic.Int64
			w := newWorld(t, func(c *Config) {
				c.DialOwn = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
					judged.Add(1)
					return new(net.Dialer).DialContext(ctx, "tcp", dst.String())
				}
			})
			own := w.newPod(99, webID, nil)
			dst, at := own.app, own.describe(meshedHTTP2)
			if !row.seen {
				at.TlsIdentity, at.ProtocolHint = nil, nil
			}
			if row.service {
				dst = serviceAddr
				w.destinations.service(at)
			}
			seen, _ := w.get(w.http(dst, 1), w.request("GET", "http://a/", nil))
			if seen.Pod != ownIP.String() || seen.Proto != "HTTP/1.1" || seen.OrigProto != "" {
				t.Errorf("the application saw %+v", seen)
			}
			if (judged.Load() > 0) != row.seen {
				t.Errorf("by way of the inbound half: %d", judged.Load())
			}
			for _, a := range own.seen() {
				if a != (arrival{}) {
					t.Errorf("arrived as %+v", a)
				}
			}
		})
	}
}

func TestAServiceWithoutEndpointsGetsThemInTime(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DiscoveryTimeout = patience })
	p := w.newPod(2, votingID, nil)
	w.destinations.service()
	w.destinations.update(noEndpoints(true))
	time.AfterFunc(soon, func() { w.destinations.update(add(p.describe(meshedHTTP2))) })
	if _, answer := w.get(w.http(serviceAddr, 1), w.request("GET", "http://a/", nil)); answer.StatusCode != 200 {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestTheDestinationServiceMustProveItsIdentity(t *testing.T) {
	w := newWorld(t, nil)
	for addr, want := range map[string]bool{"127.0.0.1:1": false, "localhost:1": false, "[::1]:1": false, "10.0.0.1:1": true, "dst.linkerd.svc:8086": true} {
		if got := w.proxy.secured(addr); got != want {
			t.Errorf("%s: TLS %v", addr, got)
		}
	}
}

func TestMetricsCountWhatWasSent(t *testing.T) {
	w := newWorld(t, nil)
	p := w.newPod(2, votingID, nil)
	w.destinations.service(p.describe(meshedHTTP2))
	client := w.http(serviceAddr, 1)
	for range 3 {
		w.get(client, w.request("GET", "http://a/", nil))
	}
	w.get(client, custom(w, "deny", "GET", "http://a/", nil))
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			key := family.GetName()
			for _, label := range m.GetLabel() {
				if v := label.GetValue(); v != "" {
					key += " " + label.GetName() + "=" + v
				}
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	addr, target := p.app.String(), " direction=outbound dst_namespace=emojivoto dst_pod=voting-127.0.0.2 dst_service=voting-svc"
	rest := " server_id=" + votingID + "%s target_addr=" + addr + " target_ip=127.0.0.2 target_port=" + addr[len("127.0.0.2:"):] + " tls=true"
	for key, want := range map[string]float64{
		"request_total" + target + fmt.Sprintf(rest, ""):                                         4,
		"response_total classification=success" + target + fmt.Sprintf(rest, " status_code=200"): 3,
		"response_total classification=success" + target + fmt.Sprintf(rest, " status_code=403"): 1,
		"tcp_open_total" + target + " peer=dst" + fmt.Sprintf(rest, ""):                          1,
		"tcp_open_connections" + target + " peer=dst" + fmt.Sprintf(rest, ""):                    1,
		"tcp_open_total direction=outbound peer=src":                                             1,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// describing keeps what is registered, to read its descriptions.
type describing struct {
	prometheus.Registerer
	help map[string]string
}

func (d describing) read(c prometheus.Collector) {
	descs := make(chan *prometheus.Desc, 16)
	if u, ok := c.(unchecked); ok {
		c = u.Collector
	}
	c.Describe(descs)
	close(descs)
	for desc := range descs {
		name, rest, _ := strings.Cut(strings.TrimPrefix(desc.String(), `Desc{fqName: "`), `", help: "`)
		help, _, _ := strings.Cut(rest, `", constLabels`)
		d.help[name] = help
	}
}

func (d describing) Register(c prometheus.Collector) error {
	d.read(c)
	return d.Registerer.Register(c)
}

func (d describing) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		d.read(c)
	}
	d.Registerer.MustRegister(cs...)
}

func TestBothHalvesOfTheProxyFitIntoOneRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	in, out := describing{registry, map[string]string{}}, describing{registry, map[string]string{}}
	inbound.NewMetrics(in)
	if _, err := newMetrics(out); err != nil {
		t.Fatal(err)
	}
	if in.help["request_total"] == "" {
		t.Fatal("the inbound half has no request_total; is this test still reading it right?")
	}
	for name, help := range out.help {
		if other, ok := in.help[name]; ok && other != help {
			t.Errorf("%s: help %q here, %q there; a registry with both cannot be read", name, help, other)
		}
	}
}

func TestIncompleteSettingsAreRefused(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("no identity and no destination service were accepted")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w := newWorld(t, nil)
	_, err = New(Config{Identity: w.proxy.config.Identity, Destination: w.proxy.config.Destination, ListenAddr: taken.Addr().String()})
	if err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("a taken port: %v", err)
	}
}
