package inbound

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// frameClient speaks HTTP/2 frame by frame.
type frameClient struct {
	tb     testing.TB
	conn   net.Conn
	framer *http2.Framer
	next   uint32
	// away: the server said in good order that it takes no further request.
	away bool
}

func newFrameClient(tb testing.TB, conn net.Conn) *frameClient {
	tb.Helper()
	conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		tb.Fatal(err)
	}
	c := &frameClient{tb: tb, conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := c.framer.WriteSettings(); err != nil {
		tb.Fatal(err)
	}
	return c
}

// request sends a head without body.
func (c *frameClient) request(method, path string, headers ...string) (stream uint32) {
	c.tb.Helper()
	return c.head(append([]string{":method", method, ":scheme", "http", ":authority", "app", ":path", path}, headers...))
}

// head sends exactly these fields, names and values in turn, without body.
func (c *frameClient) head(fields []string) (stream uint32) {
	c.tb.Helper()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	stream, c.next = c.next, c.next+2
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
	if err != nil {
		c.tb.Fatal(err)
	}
	return stream
}

// answer reads up to the head of the stream's answer; the date is left out.
func (c *frameClient) answer(stream uint32) (fields []string, ended bool) {
	c.tb.Helper()
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.tb.Fatalf("read the answer: %v", err)
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			for _, field := range f.Fields {
				if field.Name != "date" {
					fields = append(fields, field.Name+": "+field.Value)
				}
			}
			slices.Sort(fields)
			return fields, f.StreamEnded()
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				c.tb.Fatalf("got %v", f)
			}
			c.away = true
		case *http2.RSTStreamFrame:
			c.tb.Fatalf("got %v", f)
		}
	}
}

// ends reads on, if need be, until the server says that it takes no further request.
func (c *frameClient) ends() bool {
	c.tb.Helper()
	for !c.away {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return false
		}
		f, ok := frame.(*http2.GoAwayFrame)
		c.away = ok && f.ErrCode == http2.ErrCodeNo
	}
	return true
}

// TestDenialFormPerVersionAndContentType is section 9: N-01 to N-03 and N-06, to
// the byte, for clients that may and may not be told why.
func TestDenialFormPerVersionAndContentType(t *testing.T) {
	w := newWorld(t, application(t, whoami()), nil)
	deny := map[policy.Protocol]*pb.ProxyProtocol{
		policy.Detect: detect(), policy.HTTP1: http1Protocol(), policy.HTTP2: http2Protocol(), policy.GRPC: grpcProtocol(),
		policy.Opaque: opaque(), policy.TLS: tlsProtocol(),
	}
	none := &pb.HttpRoute{Metadata: resource("HTTPRoute", "nothing")} // a route without rules matches nothing
	noneGRPC := &pb.GrpcRoute{Metadata: resource("GRPCRoute", "nothing")}
	notFound := map[policy.Protocol]*pb.ProxyProtocol{
		policy.Detect: detect(none), policy.HTTP1: http1Protocol(none), policy.HTTP2: http2Protocol(none), policy.GRPC: grpcProtocol(noneGRPC),
	}
	const grpc = "application/grpc+proto"
	type form struct {
		protocol policy.Protocol
		version  int
		content  string
	}
	for _, protocol := range policy.Protocols {
		for _, kind := range []string{"denied", "not found"} {
			msg := server(deny[protocol], identities(t, "web", otherName))
			if kind == "not found" {
				if notFound[protocol] == nil {
					continue
				}
				msg = server(notFound[protocol], anyone(t, "all"))
			}
			w.apply(msg)
			for _, f := range []form{
				{protocol, 1, ""}, {protocol, 1, grpc}, {protocol, 2, ""}, {protocol, 2, "application/json"}, {protocol, 2, grpc}, {protocol, 2, "application/grpc"},
			} {
				for _, c := range []client{{from: neighbourIP}, {from: neighbourIP, tls: true}, {from: neighbourIP, tls: true, identity: webName}} {
					t.Run(fmt.Sprintf("%s/%s/h%d %s/%s", kind, protocol, f.version, f.content, c), func(t *testing.T) {
						w.tb = t
						checkDenial(t, w, kind, f.protocol, f.version, f.content, c)
					})
				}
			}
		}
	}
	w.tb = t
}

func checkDenial(t *testing.T, w *world, kind string, protocol policy.Protocol, version int, content string, c client) {
	if protocol == policy.Opaque && c.tls {
		if conn, err := w.dial(c); err == nil { // no TLS is terminated there (T-10)
			conn.Close()
			t.Error("handshake with an opaque port")
		}
		return
	}
	conn, err := w.dial(c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	http2Only := protocol == policy.HTTP2 || protocol == policy.GRPC
	wantsHTTP1 := protocol == policy.HTTP1 && !c.tls
	switch {
	case protocol == policy.Opaque || protocol == policy.TLS:
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
		refusal(t, conn)
		return
	case http2Only && version == 1:
		// An HTTP/2 connection error, not a 403 (T-19).
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
		b, _ := io.ReadAll(conn)
		if bytes.Contains(b, []byte("HTTP/1")) {
			t.Errorf("answered in HTTP/1: %q", b)
		}
		return
	case wantsHTTP1 && version == 2:
		io.WriteString(conn, http2.ClientPreface)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 400") {
			t.Errorf("HTTP/2 to an HTTP/1 port: got %q, %v", line, err)
		}
		return
	}
	told := ""
	tail := map[string]string{"denied": "unauthorized request on route", "not found": "no route found for request"}[kind]
	if c.identity != "" {
		told = fmt.Sprintf("client %s: server: %s: %s", conn.LocalAddr(), w.app, tail)
	}
	status := map[string]string{"denied": "403", "not found": "404"}[kind]
	if version == 1 {
		request := "POST /a.B/C HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n"
		if content != "" {
			request += "Content-Type: " + content + "\r\n"
		}
		io.WriteString(conn, request+"\r\n")
		want := []string{"Content-Length: 0"}
		if told != "" {
			want = append(want, "L5d-Proxy-Error: "+told)
		}
		line, head := rawHead(t, conn)
		if !strings.HasPrefix(line, "HTTP/1.1 "+status+" ") || !slices.Equal(head, want) {
			t.Errorf("got %q %q, want %s %q", line, head, status, want)
		}
		return
	}
	h2 := newFrameClient(t, conn)
	var headers []string
	if content != "" {
		headers = []string{"content-type", content}
	}
	got, ended := h2.answer(h2.request("POST", "/a.B/C", headers...))
	want := []string{":status: " + status, "content-length: 0"}
	if strings.HasPrefix(content, "application/grpc") {
		code := map[string]string{"denied": "7", "not found": "5"}[kind]
		want = []string{":status: 200", "content-length: 0", "content-type: application/grpc", "grpc-status: " + code}
		if told != "" {
			want = append(want, "grpc-message: "+told)
		}
	}
	if told != "" {
		want = append(want, "l5d-proxy-error: "+told)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) || !ended {
		t.Errorf("got %q (ended %v), want %q", got, ended, want)
	}
}

// rawHead reads an HTTP/1 head: the status line, and the header lines sorted without the date.
func rawHead(tb testing.TB, conn net.Conn) (line string, head []string) {
	tb.Helper()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	for err == nil {
		var h string
		h, err = r.ReadString('\n')
		h = strings.TrimRight(h, "\r\n")
		if h == "" {
			break
		}
		if !strings.HasPrefix(h, "Date:") {
			head = append(head, h)
		}
	}
	if err != nil {
		tb.Fatalf("read the head: %v", err)
	}
	slices.Sort(head)
	return strings.TrimRight(line, "\r\n"), head
}

func TestOpaqueDenialIsAClosedConnection(t *testing.T) {
	w := newWorld(t, application(t, nil), nil)
	w.apply(server(opaque(), identities(t, "web", webName)))
	for _, first := range []string{"", "hello\n", "\x16\x03\x01"} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, first)
		refusal(t, conn)
		conn.Close()
	}
	labels := map[string]string{"srv_kind": "server", "srv_name": "srv", "tls": "no_identity", "no_tls_reason": "port_skipped"}
	if got := w.counter("inbound_tcp_authz_deny_total", labels); got != 3 {
		t.Errorf("deny counter: %v", got)
	}
	list := w.server.cfg.Decisions.List(DecisionFilter{Port: w.app.Port()})
	if len(list.Decisions) != 3 || list.Decisions[0].Verdict != "deny" || list.Decisions[0].Protocol != "opaque" ||
		list.Decisions[0].Server != "server/srv" || list.Decisions[0].Authorization != "" {
		t.Errorf("decisions: %+v", list)
	}
}

// TestAnUnreachableApplicationProvesThatTheRequestWasAllowed is N-10: 502 when
// nobody listens, 504 when the connection takes too long, the connection's end
// announced, and the reason for identified peers only.
func TestAnUnreachableApplicationProvesThatTheRequestWasAllowed(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := gone.Addr().(*net.TCPAddr).AddrPort()
	gone.Close()
	for _, failure := range []struct {
		name, http, grpc string
		slow             bool
	}{{"refused", "502", "14", false}, {"too slow", "504", "4", true}} {
		t.Run(failure.name, func(t *testing.T) {
			w := newWorld(t, dead, func(c *Config) {
				if failure.slow {
					c.Timeouts.Connect = 10 * time.Millisecond
				}
			})
			if failure.slow {
				w.server.dial.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
					<-ctx.Done()
					return ctx.Err()
				}
			}
			w.apply(server(detect(), anyone(t, "all")))

			conn, err := w.dial(client{from: neighbourIP})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(soon))
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
			line, head := rawHead(t, conn)
			if !strings.HasPrefix(line, "HTTP/1.1 "+failure.http) || !slices.Equal(head, []string{"Connection: close", "Content-Length: 0"}) {
				t.Errorf("unidentified HTTP/1: got %q %q", line, head)
			}
			refusal(t, conn)

			told := func(text string) bool {
				return strings.Contains(text, "l5d-proxy-connection: close") && strings.Contains(text, "l5d-proxy-error: client ")
			}
			for _, c := range []client{{from: neighbourIP}, {from: neighbourIP, tls: true}, {from: neighbourIP, tls: true, identity: webName}} {
				for _, want := range []struct{ method, content, carried, status, grpc string }{
					{"GET", "text/plain", "", failure.http, ""},
					{"GET", "text/plain", "HTTP/1.1", failure.http, ""},
					{"POST", "application/grpc", "", "200", failure.grpc},
				} {
					conn, err := w.dial(c)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					h2 := newFrameClient(t, conn)
					headers := []string{"content-type", want.content}
					if want.carried != "" {
						headers = append(headers, "l5d-orig-proto", want.carried)
					}
					got, ended := h2.answer(h2.request(want.method, "/a.B/C", headers...))
					text := strings.Join(got, "\n")
					if !strings.Contains(text, ":status: "+want.status) || !ended || told(text) != (c.identity != "") || strings.Contains(text, "connection: close") != (c.identity != "") {
						t.Errorf("%v %v: got %q", c, want, got)
					}
					if want.grpc != "" && !strings.Contains(text, "grpc-status: "+want.grpc) {
						t.Errorf("%v %v: got %q", c, want, got)
					}
					if !h2.ends() {
						t.Errorf("%v %v: the connection's end is not announced", c, want)
					}
				}
			}
			if got := w.counter("inbound_http_authz_allow_total", map[string]string{"authz_name": "all"}); got != 10 {
				t.Errorf("allow counter: %v", got)
			}
			eventually(t, "all answers are counted, each after it was sent", func() bool {
				return w.counter("response_total", map[string]string{"classification": "failure", "status_code": failure.http}) == 10
			})
		})
	}
}
