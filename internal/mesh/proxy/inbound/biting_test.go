package inbound

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	relay2 "github.com/meshproof/meshproof/internal/mesh/proxy/http2"
)

// bite is what a client does against one limit, which is to bite once or more often,
// and no other. What the client sees is checked by do.
type bite struct {
	part, limit string
	// name tells several ways from each other.
	name string
	edit func(*Config)
	// policy is applied before, if there is one; app stands behind the proxy: an echo
	// of bytes, if there is none.
	policy func(tb testing.TB) *pb.Server
	app    func(tb testing.TB) netip.AddrPort
	do     func(b *biting)
	// kind is what inbound_tcp_errors_total, or for a request inbound_http_errors_total,
	// calls it; "" for neither. Those of relays are called by their names.
	kind string
}

// biting is a client of a world.
type biting struct {
	*world
	*testing.T
}

func (b *biting) dial() net.Conn { b.Helper(); return b.dialAs(client{from: neighbourIP}) }

func (b *biting) dialAs(c client) net.Conn {
	b.Helper()
	conn, err := b.world.dial(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(soon))
	return conn
}

// says writes what may be cut off.
func (b *biting) says(text string) net.Conn {
	b.Helper()
	conn := b.dial()
	io.WriteString(conn, text)
	return conn
}

// gets fails unless a request is answered with this status; the connection's end is
// waited for when it is to end.
func (b *biting) gets(request, status string, ends bool) {
	b.Helper()
	conn := b.dial()
	go io.WriteString(conn, request)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.1 "+status+" ") {
		b.Errorf("%.60q: got %q, %v; want %s", request, line, err, status)
	}
	if _, err := io.Copy(io.Discard, conn); ends && isTimeout(err) {
		b.Errorf("%.60q: the connection was not closed", request)
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}

// frames is a client of HTTP/2 that has been told the proxy's settings.
func (b *biting) frames() *frameClient {
	b.Helper()
	return newFrameClient(b.T, b.dial())
}

// until reads frames up to one that is wanted.
func (c *frameClient) until(what string, wanted func(http2.Frame) bool) {
	c.tb.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.tb.Fatalf("waiting for %s: %v", what, err)
		}
		if wanted(frame) {
			return
		}
	}
}

func (c *frameClient) goesAway(code http2.ErrCode) {
	c.tb.Helper()
	c.until("GOAWAY "+code.String(), func(f http2.Frame) bool {
		away, ok := f.(*http2.GoAwayFrame)
		return ok && away.ErrCode == code
	})
}

func (c *frameClient) calmed() { c.tb.Helper(); c.goesAway(http2.ErrCodeEnhanceYourCalm) }

func (c *frameClient) has(stream uint32, status string) {
	c.tb.Helper()
	if got, _ := c.answer(stream); len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), ":status: "+status) {
		c.tb.Errorf("stream %d: %q, want %s", stream, got, status)
	}
}

// begin sends a head without the end of its stream.
func (c *frameClient) begin(endHeaders bool) uint32 {
	c.tb.Helper()
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "app"}, {":path", "/"}} {
		encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	stream := c.next
	c.next += 2
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: endHeaders})
	return stream
}

// tcpApp serves each connection with a function; ended is closed at the test's end.
func tcpApp(serve func(conn net.Conn, ended <-chan struct{})) func(testing.TB) netip.AddrPort {
	return func(tb testing.TB) netip.AddrPort {
		tb.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		var mu sync.Mutex
		var open []net.Conn
		var conns sync.WaitGroup
		ended := make(chan struct{})
		conns.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
				conns.Go(func() { defer conn.Close(); serve(conn, ended) })
			}
		})
		tb.Cleanup(func() {
			listener.Close()
			close(ended)
			mu.Lock()
			for _, conn := range open {
				conn.Close()
			}
			mu.Unlock()
			conns.Wait()
		})
		return listener.Addr().(*net.TCPAddr).AddrPort()
	}
}

// deaf takes everything and says nothing.
func deaf(conn net.Conn, _ <-chan struct{}) { io.Copy(io.Discard, conn) }

// answering answers the first head with a text, and keeps the connection.
func answering(text string) func(net.Conn, <-chan struct{}) {
	return func(conn net.Conn, _ <-chan struct{}) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, text)
			io.Copy(io.Discard, conn)
		}
	}
}

// unending takes one head and answers without an end.
func unending(conn net.Conn, _ <-chan struct{}) {
	if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
	for {
		if _, err := io.WriteString(conn, chunk); err != nil {
			return
		}
	}
}

func webApp(handler http.HandlerFunc) func(testing.TB) netip.AddrPort {
	return func(tb testing.TB) netip.AddrPort { return application(tb, handler) }
}

// large answers HTTP/2 with more than any window.
func large(w http.ResponseWriter, r *http.Request) {
	for part := make([]byte, 64<<10); r.URL.Path == "/large"; {
		if _, err := w.Write(part); err != nil {
			return
		}
	}
	io.Copy(io.Discard, r.Body)
}

func allowing(protocol *pb.ProxyProtocol) func(testing.TB) *pb.Server {
	return func(tb testing.TB) *pb.Server { return server(protocol, anyone(tb, "all")) }
}

// longHello begins a ClientHello of more than is looked at, in one record.
var longHello = "\x16\x03\x01\x3e\x80\x01\x00\x3e\x7c\x03\x03" + strings.Repeat("r", maxClientHello)

const (
	get     = "GET / HTTP/1.1\r\nHost: app\r\n\r\n"
	post    = "POST / HTTP/1.1\r\nHost: app\r\n"
	chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	upgrade = "GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: deaf\r\n\r\n"
)

func limits1(edit func(*http1.Limits)) func(*Config) {
	return func(c *Config) { edit(&c.fixed.http1) }
}

func limits2(l relay2.Limits) func(*Config) { return func(c *Config) { c.fixed.http2 = l } }

// flood2 sends frames until the connection ends, which it must with ENHANCE_YOUR_CALM.
func flood2(send func(c *frameClient) error) func(*biting) {
	return func(b *biting) {
		c := b.frames()
		for range 10_000 {
			if send(c) != nil {
				break
			}
		}
		c.calmed()
	}
}
