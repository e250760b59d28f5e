package inbound

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

func (p *policies) failWith(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
	close(p.changed)
	p.changed = make(chan struct{})
}

func TestAdminPortIsPolicedLikeAnyPort(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	adminPort := w.server.cfg.AdminPort
	ask := func(c client, path string) (int, string) {
		t.Helper()
		conn, err := w.dialTo(w.admin, c)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(soon))
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: proxy\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	w.applyTo(adminPort, server(detect(httpRoute("probes", []string{"=/live"}, anyone(t, "probe")), httpRoute("rest", []string{"/"})), identities(t, "scraper", webName)))
	neighbour, scraper := client{from: neighbourIP}, client{from: neighbourIP, tls: true, identity: webName}
	for _, tt := range []struct {
		client client
		path   string
		status int
		body   string
	}{
		{neighbour, "/live", 200, "admin /live"}, {neighbour, "/metrics", 403, ""}, {scraper, "/metrics", 200, "admin /metrics"},
		{client{from: localhostIP}, "/metrics", 200, "admin /metrics"},
	} {
		if code, body := ask(tt.client, tt.path); code != tt.status || body != tt.body {
			t.Errorf("%s %s: %d %q", tt.client, tt.path, code, body)
		}
	}
	// What is not HTTP is closed, also when the list covers it.
	w.applyTo(adminPort, server(detect(), anyone(t, "all")))
	conn, err := w.dialTo(w.admin, neighbour)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "hello\n")
	refusal(t, conn)
	conn.Close()
}

func TestDestinationsThatAreNotThePods(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) {
		c.IPs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		c.OwnPorts = []uint16{4140}
	})
	w.apply(server(opaque(), anyone(t, "all")))
	for _, dst := range []string{
		fmt.Sprintf("127.0.0.5:%d", w.app.Port()), "127.0.0.1:4140", fmt.Sprintf("127.0.0.1:%d", w.server.cfg.AdminPort),
	} {
		w.redirectTo(netip.MustParseAddrPort(dst))
		conn, err := w.dial(client{from: localhostIP})
		if err != nil {
			t.Fatal(err)
		}
		refusal(t, conn)
		conn.Close()
	}
	for kind, want := range map[string]float64{errLoop: 2, errUnexpected: 1} {
		if got := w.counter("inbound_tcp_errors_total", map[string]string{"error": kind}); got != want {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
	w.redirectTo(netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), w.app.Port()))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "mapped"); err != nil {
		t.Error(err)
	}
}

func TestPolicyOutlivesItsController(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(opaque(), anyone(t, "all")))
	open := func() error {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			return err
		}
		defer conn.Close()
		return echoed(conn, "x")
	}
	w.policies.failWith(status.Error(codes.Unavailable, "gone"))
	for range 3 {
		if err := open(); err != nil {
			t.Errorf("controller gone: %v", err)
		}
	}
	// It comes back with another policy, which is then in force.
	w.policies.failWith(nil)
	w.apply(server(opaque()))
	if err := open(); err == nil {
		t.Error("the returned controller's policy is not in force")
	}
}

func TestNotFoundIsRetriedAndRefusalsAreFinal(t *testing.T) {
	for _, tt := range []struct {
		code  codes.Code
		final bool
	}{{codes.NotFound, false}, {codes.Internal, false}, {codes.InvalidArgument, true}, {codes.FailedPrecondition, true}} {
		t.Run(tt.code.String(), func(t *testing.T) {
			w := newWorld(t, application(t, nil), nil)
			w.policies.failWith(status.Error(tt.code, "no"))
			port := w.app.Port()
			c, err := w.server.store.acquire(port)
			if err != nil {
				t.Fatal(err)
			}
			defer w.server.store.release(c)
			// The watch is known to have failed when the stub has been asked.
			ctx, cancel := context.WithTimeout(context.Background(), short)
			defer cancel()
			if _, ok := w.server.Policies().Await(ctx, port); ok {
				t.Fatal("policy from a failing controller")
			}
			w.policies.failWith(nil)
			msg := server(opaque(), anyone(t, "all"))
			w.policies.Set(port, msg)
			wait := soon
			if tt.final {
				wait = 5 * defaultWatchLimits.retryMin
			}
			ctx, cancel = context.WithTimeout(context.Background(), wait)
			defer cancel()
			if _, ok := w.server.Policies().Await(ctx, port, hashOf(t, msg)); ok == tt.final {
				t.Errorf("watched again: %v", ok)
			}
		})
	}
}

func TestLazyPortsAreDroppedWhenIdleAndBounded(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) {
		c.Timeouts.PortIdle, c.Timeouts.Discovery = short, short
		c.Ports = []uint16{7}
	})
	w.apply(server(opaque(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	if err := echoed(conn, "x"); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprint(w.app.Port())
	time.Sleep(2 * short)
	if _, ok := w.server.Policies().All()[name]; !ok {
		t.Error("a port in use was dropped")
	}
	conn.Close()
	eventually(t, "idle port dropped", func() bool { _, ok := w.server.Policies().All()[name]; return !ok })
	if _, ok := w.server.Policies().All()["7"]; !ok {
		t.Error("a listed port was dropped")
	}

	var held []*cell
	for i := range maxLazyPorts {
		c, err := w.server.store.acquire(uint16(1000 + i))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if _, err := w.server.store.acquire(30000); err == nil {
		t.Error("ports without bound")
	}
	for _, c := range held {
		w.server.store.release(c)
	}
}

func TestTheEndDrains(t *testing.T) {
	app := &service{}
	appAddr := grpcApplication(t, app)
	w := newWorld(t, appAddr, nil)
	w.apply(server(grpcProtocol(), anyone(t, "all")))
	web := grpcClient(t, w, client{from: neighbourIP})
	stream, err := web.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() error {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload("x")}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	w.stop() // asks for the end; served is closed when it has come
	eventually(t, "no new connections", func() bool {
		conn, err := net.Dial("tcp", w.inbound)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if err := exchange(); err != nil {
		t.Errorf("open stream while draining: %v", err)
	}
	select {
	case <-w.served:
		t.Fatal("ended with an open stream")
	default:
	}
	stream.CloseSend()
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("end of the stream: %v", err)
	}
	select {
	case <-w.served:
	case <-time.After(soon):
		t.Error("did not end after the last stream")
	}
}

func TestTheEndWaitsOnlyForWhatIsServed(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(detect(), anyone(t, "all")))
	served, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := echoed(served, "x"); err != nil {
		t.Fatal(err)
	}
	undecided, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer undecided.Close()
	eventually(t, "both connections known", func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.live) == 2
	})
	w.stop()
	if err := closed(undecided); err != nil {
		t.Error(err)
	}
	if err := echoed(served, "still"); err != nil {
		t.Error(err)
	}
}

func TestTheEndHasALimit(t *testing.T) {
	w := newWorld(t, application(t, nil), func(c *Config) { c.Timeouts.Drain = short })
	w.apply(server(opaque(), anyone(t, "all")))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := echoed(conn, "x"); err != nil {
		t.Fatal(err)
	}
	undecided, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer undecided.Close()
	w.stop()
	for _, c := range []net.Conn{conn, undecided} {
		if err := closed(c); err != nil {
			t.Error(err)
		}
	}
	<-w.served
}

func TestAuditGrantsAreMarked(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	audit := anyone(t, "")
	audit.Metadata = nil
	audit.Labels = map[string]string{"group": "", "kind": "default", "name": "audit"}
	w.apply(server(detect(), audit))
	if res, _ := get1(t, w, client{from: neighbourIP}, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	if got := w.counter("inbound_http_authz_allow_total", map[string]string{"authz_kind": "default", "authz_name": "audit"}); got != 1 {
		t.Errorf("audit: %v", got)
	}
}

func TestDecisionsRememberTheLastAndSayWhatTheyForgot(t *testing.T) {
	var d Decisions
	for i := range ringSize + 10 {
		d.add(&note{client: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:1", i%2)), port: uint16(i % 3)})
	}
	list := d.List(DecisionFilter{})
	if list.Last != ringSize+10 || list.Dropped != 10 || len(list.Decisions) != ringSize || list.Decisions[0].Seq != 11 {
		t.Errorf("all: last %d dropped %d, %d from %d", list.Last, list.Dropped, len(list.Decisions), list.Decisions[0].Seq)
	}
	list = d.List(DecisionFilter{Since: ringSize + 8})
	if len(list.Decisions) != 2 || list.Dropped != 0 {
		t.Errorf("newest: %+v", list)
	}
	list = d.List(DecisionFilter{Since: ringSize + 4, Port: 1, Client: "10.0.0.1"})
	for _, record := range list.Decisions {
		if record.TargetPort != 1 || record.Client != "10.0.0.1:1" {
			t.Errorf("filtered: %+v", record)
		}
	}
	if list := d.List(DecisionFilter{Since: list.Last + 5}); len(list.Decisions) != 0 || list.Dropped != 0 {
		t.Errorf("from the future: %+v", list)
	}
	if list := new(Decisions).List(DecisionFilter{}); list.Decisions == nil || list.Last != 0 || list.Dropped != 0 {
		t.Errorf("empty: %+v", list)
	}
}

func TestEveryVerdictHasAWordOfItsOwn(t *testing.T) {
	words := map[string]bool{}
	for _, v := range policy.Verdicts {
		word := v.String()
		if word == "invalid" || words[word] {
			t.Errorf("verdict %d: word %q", v, word)
		}
		words[word] = true
	}
}
