package inbound

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	relay2 "github.com/meshproof/meshproof/internal/mesh/proxy/http2"
	"github.com/meshproof/meshproof/internal/mesh/proxy/transport"
)

var biters = []bite{
	{part: "inbound", limit: "connections", kind: errLoadShed, policy: allowing(opaque()), edit: func(c *Config) { c.MaxConnections = 1 }, do: func(b *biting) {
		first := b.dial()
		if err := echoed(first, "x"); err != nil {
			b.Fatal(err)
		}
		refusal(b, b.dial())
		if err := echoed(first, "still"); err != nil {
			b.Error(err)
		}
		b.applyTo(b.server.cfg.AdminPort, server(detect(), anyone(b, "all")))
		admin, err := b.dialTo(b.world.admin, client{from: neighbourIP})
		if err != nil {
			b.Fatal(err)
		}
		defer admin.Close()
		io.WriteString(admin, "GET /live HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
		if got, err := io.ReadAll(admin); !strings.HasSuffix(string(got), "admin /live") {
			b.Errorf("the admin port: %q, %v", got, err)
		}
		first.Close()
		eventually(b, "its place is free", func() bool { b.server.mu.Lock(); defer b.server.mu.Unlock(); return b.server.clients.open == 0 })
		if err := echoed(b.dial(), "y"); err != nil {
			b.Error(err)
		}
	}},
	{part: "inbound", limit: "admin connections", kind: errLoadShed, policy: allowing(opaque()), do: func(b *biting) {
		b.applyTo(b.server.cfg.AdminPort, server(detect(), anyone(b, "all")))
		dial := func() net.Conn {
			conn, err := b.dialTo(b.world.admin, client{from: neighbourIP})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { conn.Close() })
			return conn
		}
		for range maxAdminConnections {
			dial()
		}
		eventually(b, "all places are taken", func() bool {
			b.server.mu.Lock()
			defer b.server.mu.Unlock()
			return b.server.admins.open == maxAdminConnections
		})
		refusal(b, dial())
		if err := echoed(b.dial(), "x"); err != nil {
			b.Errorf("a client beside them: %v", err)
		}
	}},
	{part: "inbound", limit: "ports", kind: errLoadShed, policy: allowing(opaque()), do: func(b *biting) {
		for port := uint16(1000); ; port++ {
			c, err := b.server.store.acquire(port)
			if err != nil {
				break
			}
			b.Cleanup(func() { b.server.store.release(c) })
		}
		b.redirectTo(netip.AddrPortFrom(b.app.Addr(), 999))
		refusal(b, b.dial())
		b.redirectTo(b.app)
		if err := echoed(b.dial(), "x"); err != nil {
			b.Errorf("a port that is watched: %v", err)
		}
	}},
	{part: "inbound", limit: "in flight", kind: errLoadShed, policy: allowing(detect()), edit: func(c *Config) { c.MaxInFlight = 1 }, app: tcpApp(deaf), do: func(b *biting) {
		b.says(get)
		eventually(b, "a request is in progress", func() bool { return b.server.inFlight.Load() == 1 })
		b.gets(get, "503", true)
	}},
	{part: "inbound", limit: "client hello", do: func(b *biting) { // its client is not known any more
		b.apply(server(detect(), identities(b, "web", webName)))
		refusal(b, b.says(longHello))
	}},
	{part: "inbound", limit: "detect time", name: "half a hello", kind: errTLSTimeout, policy: allowing(detect()), edit: detectsShortly, do: func(b *biting) {
		refusal(b, b.says("\x16\x03\x01"))
	}},
	{part: "inbound", limit: "detect time", name: "half a handshake", kind: errUnexpected, policy: allowing(detect()), edit: detectsShortly, do: func(b *biting) {
		conn := b.says(string(helloBytes(b, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})))
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			b.Error("the connection was not closed")
		}
	}},
	{part: "inbound", limit: "detect time", name: "a direct connection without a hello", kind: errTLSTimeout, edit: detectsShortly, do: func(b *biting) {
		b.redirectTo(netip.MustParseAddrPort(b.inbound))
		refusal(b, b.dial())
	}},
	{part: "inbound", limit: "detect time", name: "a direct connection without a header", kind: errIO, edit: func(c *Config) { c.Timeouts.Detect = 10 * short }, // for the handshake too
		do: func(b *biting) {
			b.redirectTo(netip.MustParseAddrPort(b.inbound))
			refusal(b, b.dialAs(client{from: neighbourIP, tls: true, identity: webName, alpn: []string{transport.ALPN}}))
		}},
	{part: "inbound", limit: "detect time", name: "at the admin port", kind: errTLSTimeout, edit: func(c *Config) { c.Timeouts.AdminDetect = short }, do: func(b *biting) {
		b.applyTo(b.server.cfg.AdminPort, server(detect(), anyone(b, "all")))
		conn, err := b.dialTo(b.world.admin, client{from: neighbourIP})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		refusal(b, conn)
	}},
	{part: "inbound", limit: "http detect time", kind: errHTTPTimeout, do: func(b *biting) {
		b.apply(server(detectWithin(short, httpRoute("only", []string{"/open"})), anyone(b, "all")))
		refusal(b, b.says("GET /clo"))
	}},
	{part: "inbound", limit: "discovery time", kind: errNoPolicy, edit: func(c *Config) { c.Timeouts.Discovery = short }, do: func(b *biting) {
		refusal(b, b.dial())
	}},
	{part: "inbound", limit: "connect time", name: "of a request", kind: "failfast", edit: connectsShortly, do: func(b *biting) {
		b.unreachable()
		b.apply(server(detect(), anyone(b, "all")))
		b.gets(get, "504", true)
	}},
	{part: "inbound", limit: "connect time", name: "of bytes", kind: errIO, edit: connectsShortly, do: func(b *biting) {
		b.unreachable()
		b.apply(server(opaque(), anyone(b, "all")))
		refusal(b, b.dial())
	}},
	{part: "inbound", limit: "idle", policy: allowing(http1Protocol()), edit: func(c *Config) { c.fixed.idle = short }, do: func(b *biting) {
		refusal(b, b.dial())
	}},
	{part: "inbound", limit: "half open", policy: allowing(opaque()), edit: func(c *Config) { c.fixed.halfOpen = short }, app: tcpApp(func(conn net.Conn, ended <-chan struct{}) {
		io.WriteString(conn, "hello")
		io.Copy(io.Discard, conn)
		conn.Write([]byte(" again"))
		<-ended
	}), do: func(b *biting) {
		conn := b.dial()
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "hello again" || isTimeout(err) {
			b.Errorf("got %q, %v", got, err)
		}
	}},
	{part: "inbound", limit: "drain time", policy: allowing(opaque()), edit: func(c *Config) { c.Timeouts.Drain = short }, do: func(b *biting) {
		conn := b.dial()
		if err := echoed(conn, "x"); err != nil {
			b.Fatal(err)
		}
		b.stop()
		if err := closed(conn); err != nil {
			b.Error(err)
		}
	}},

	{part: "http1", limit: "head", policy: allowing(detect()), do: func(b *biting) {
		b.gets("GET / HTTP/1.1\r\nHost: app\r\nX: "+strings.Repeat("x", http1.DefaultHead)+"\r\n\r\n", "431", true)
	}},
	{part: "http1", limit: "fields", policy: allowing(detect()), do: func(b *biting) {
		b.gets("GET / HTTP/1.1\r\nHost: app\r\n"+strings.Repeat("x: y\r\n", http1.DefaultFields)+"\r\n", "431", true)
	}},
	{part: "http1", limit: "trailer", policy: allowing(detect()), app: tcpApp(deaf), do: func(b *biting) {
		b.gets(chunked+"0\r\n"+strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 9)+"\r\n", "400", true)
	}},
	{part: "http1", limit: "extension", policy: allowing(detect()), app: tcpApp(deaf), do: func(b *biting) {
		b.gets(chunked+strings.Repeat("1;"+strings.Repeat("b", 100)+"\r\nx\r\n", 11)+"0\r\n\r\n", "400", true)
	}},
	{part: "http1", limit: "informational", policy: allowing(detect()), edit: limits1(func(l *http1.Limits) { l.Informational = 1 }), app: tcpApp(answering("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), do: func(b *biting) {
		conn := b.says(get)
		if got, err := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.1 102 ") || !strings.Contains(string(got), "HTTP/1.1 502 ") || isTimeout(err) {
			b.Errorf("got %q, %v", got, err)
		}
	}},
	{part: "http1", limit: "discard", do: func(b *biting) {
		b.apply(server(detect(), identities(b, "web", webName)))
		b.gets(fmt.Sprint(post, "Content-Length: ", http1.DefaultDiscard+1, "\r\n\r\n"), "403", true)
	}},
	{part: "http1", limit: "head time", policy: allowing(http1Protocol()), edit: limits1(func(l *http1.Limits) { l.HeadTime = short }), do: func(b *biting) {
		b.gets("GET / HTTP/1.1\r\nHost: ", "408", true)
	}},
	{part: "http1", limit: "idle", policy: allowing(detect()), edit: limits1(func(l *http1.Limits) { l.Idle = short }), app: webApp(large), do: func(b *biting) {
		b.gets(get, "200", true)
	}},
	{part: "http1", limit: "stall", name: "a body", policy: allowing(detect()), edit: limits1(func(l *http1.Limits) { l.Stall = short }), app: tcpApp(deaf), do: func(b *biting) {
		refusal(b, b.says(post+"Content-Length: 2\r\n\r\nx"))
	}},
	{part: "http1", limit: "stall", name: "an answer that is not taken", policy: allowing(detect()), edit: limits1(func(l *http1.Limits) { l.Stall = short }), app: tcpApp(unending), do: func(b *biting) {
		b.says(get)
	}},
	{part: "http1", limit: "half open", policy: allowing(detect()), edit: limits1(func(l *http1.Limits) { l.HalfOpen = short }), app: tcpApp(func(conn net.Conn, ended <-chan struct{}) {
		http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: deaf\r\n\r\n")
		<-ended
	}), do: func(b *biting) {
		conn := b.says(upgrade)
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.1 101 ") || isTimeout(err) {
			b.Errorf("got %q, %v", got, err)
		}
	}},

	{part: "http2", limit: "head bytes", policy: allowing(detect()), do: func(b *biting) {
		c := b.frames()
		block := append(encoded("x-large", strings.Repeat("a", 1000)), encoded(":method", "GET")...) // not read as far as that
		for range 70 {
			block = append(block, 0x80|62)
		}
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true})
		c.has(1, "431")
	}},
	{part: "http2", limit: "head fields", policy: allowing(detect()), do: func(b *biting) {
		c := b.frames()
		var many []string
		for i := range relay2.DefaultHeadFields {
			many = append(many, fmt.Sprint("x-", i), "y")
		}
		c.has(c.request("GET", "/", many...), "431")
	}},
	{part: "http2", limit: "streams", policy: allowing(detect()), app: webApp(large), do: func(b *biting) {
		c := b.frames()
		for range relay2.DefaultStreams + 1 {
			c.begin(true)
		}
		c.until("REFUSED_STREAM", func(f http2.Frame) bool {
			reset, ok := f.(*http2.RSTStreamFrame)
			return ok && reset.ErrCode == http2.ErrCodeRefusedStream && reset.StreamID == 2*relay2.DefaultStreams+1
		})
	}},
	{part: "http2", limit: "resets", policy: allowing(detect()), edit: limits2(relay2.Limits{Resets: 20}), app: webApp(large), do: flood2(func(c *frameClient) error {
		return c.framer.WriteRSTStream(c.begin(true), http2.ErrCodeCancel)
	})},
	{part: "http2", limit: "control frames", name: "pings", policy: allowing(detect()), edit: limits2(relay2.Limits{Control: 50}), do: flood2(func(c *frameClient) error {
		return c.framer.WritePing(false, [8]byte{})
	})},
	{part: "http2", limit: "control frames", name: "settings", policy: allowing(detect()), edit: limits2(relay2.Limits{Control: 50}), do: flood2(func(c *frameClient) error {
		return c.framer.WriteSettings()
	})},
	{part: "http2", limit: "head time", policy: allowing(http2Protocol()), edit: limits2(relay2.Limits{HeadTime: short}), do: func(b *biting) {
		c := b.frames()
		c.begin(false)
		c.calmed()
	}},
	{part: "http2", limit: "idle time", policy: allowing(http2Protocol()), edit: limits2(relay2.Limits{IdleTime: short}), do: func(b *biting) {
		c := b.frames()
		c.goesAway(http2.ErrCodeNo)
		if _, err := io.Copy(io.Discard, c.conn); isTimeout(err) {
			b.Error("the connection was not closed")
		}
	}},
	{part: "http2", limit: "write time", policy: allowing(http2Protocol()), edit: limits2(relay2.Limits{WriteTime: short}), app: webApp(large), do: func(b *biting) {
		c := b.frames()
		c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		c.framer.WriteWindowUpdate(0, 1<<31-1-65535)
		c.request("GET", "/large")
	}},
	{part: "http2", limit: "header block", policy: allowing(detect()), do: func(b *biting) {
		c := b.frames()
		stream := c.begin(false)
		for range 1000 {
			if c.framer.WriteContinuation(stream, false, nil) != nil {
				break
			}
		}
		c.calmed()
	}},
}

func detectsShortly(c *Config) { c.Timeouts.Detect = short }

func connectsShortly(c *Config) { c.Timeouts.Connect = 10 * time.Millisecond }

// unreachable makes the application one that no connection reaches in time.
func (b *biting) unreachable() {
	b.server.dial.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// encoded is one field, put into the table by any decoder.
func encoded(name, value string) []byte {
	var block strings.Builder
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: name, Value: value})
	return []byte(block.String())
}

// Every limit bites over a real connection: the client is answered, or cut off, and
// inbound_limits_total tells which it was, and of no other.
func TestEveryLimitBitesAndIsCounted(t *testing.T) {
	for _, row := range biters {
		t.Run(strings.Join([]string{row.part, row.limit, row.name}, "/"), func(t *testing.T) {
			t.Parallel()
			app := netip.AddrPort{}
			if row.app != nil {
				app = row.app(t)
			} else {
				app = application(t, nil)
			}
			b := &biting{newWorld(t, app, row.edit), t}
			if row.policy != nil {
				b.apply(row.policy(t))
			}
			row.do(b)
			counted := func(part, limit string) float64 {
				return b.counter("inbound_limits_total", map[string]string{"part": part, "limit": limit})
			}
			eventually(t, "it is counted", func() bool { return counted(row.part, row.limit) > 0 })
			for part, limit := range everyLimit {
				if part == row.part && limit == row.limit {
					continue
				}
				if n := counted(part, limit); n != 0 {
					t.Errorf("%s, %s has bitten %v times", part, limit, n)
				}
			}
			kind := row.kind
			if row.part != "inbound" {
				kind = errLimit + row.limit
			}
			errors := b.counter("inbound_tcp_errors_total", map[string]string{"error": kind}) + b.counter("inbound_http_errors_total", map[string]string{"error": kind})
			if none := kind == "" || strings.HasPrefix(row.limit, "idle"); (errors > 0) == none {
				t.Errorf("%v errors of kind %q are counted", errors, kind)
			}
		})
	}
	known := map[string]bool{}
	for _, row := range biters {
		known[row.part+row.limit] = true
	}
	for part, limit := range everyLimit {
		if !known[part+limit] {
			t.Errorf("no row for %s, %s", part, limit)
		}
	}
}

// everyLimit ranges over the parts' limits by their names.
func everyLimit(yield func(part, limit string) bool) {
	for l := range limits {
		if !yield("inbound", l.String()) {
			return
		}
	}
	for l := range http1.EachLimit {
		if !yield("http1", l.String()) {
			return
		}
	}
	for l := range relay2.EachLimit {
		if !yield("http2", l.String()) {
			return
		}
	}
}

// Clients' connections leave descriptors for everything else, whatever the limit.
func TestConnectionsLeaveDescriptors(t *testing.T) {
	for files, want := range map[uint64]int{
		0: 1, filesReserve: 1, 256: 64, 1024: 448, 20_000: 8750, 1 << 20: DefaultMaxConnections, 1<<64 - 1: DefaultMaxConnections,
	} {
		got := connectionsFor(files)
		if got != want {
			t.Errorf("%d descriptors: %d connections, want %d", files, got, want)
		}
		if left := int64(min(files, 1<<30)) - 2*int64(got); files >= 256 && left < maxAdminConnections {
			t.Errorf("%d descriptors: %d are left", files, left)
		}
	}
}

// scarce is a listener that cannot accept for a while.
type scarce struct {
	net.Listener
	failures int
}

func (l *scarce) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// Without descriptors accepting is tried again, and each failure counted.
func TestAcceptingGoesOnWhenItCould(t *testing.T) {
	const failures = 4
	w := newWorld(t, application(t, nil), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		w.server.accept(t.Context(), t.Context(), &scarce{listener, failures}, func(_ context.Context, conn *net.TCPConn) {
			served <- conn.Close()
		})
	})
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	select {
	case <-served:
	case <-time.After(soon):
		t.Error("nothing is accepted any more")
	}
	if got := w.counter("inbound_tcp_errors_total", map[string]string{"error": errIO}); got != failures {
		t.Errorf("%v failures are counted, want %d", got, failures)
	}
	listener.Close()
	accepting.Wait()
}

// What every bite of the metric may be called is there from the start, and no more.
func TestTheSeriesOfLimitsAreBounded(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	n := 0
	for range everyLimit {
		n++
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "inbound_limits_total" && len(f.GetMetric()) != n {
			t.Errorf("%d series, want %d", len(f.GetMetric()), n)
		}
	}
}
