package http2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// asked is a Handler made of functions; nil ones have the plainest behaviour.
type asked struct {
	decide func(*Head, *Action)
	failed func(any, error, *Action)
	serve  func(*Stream)

	mu    sync.Mutex
	ended []ending
}

type ending struct {
	token        any
	status, grpc int
	err          error
}

func (h *asked) Decide(head *Head, a *Action) {
	a.Verdict = Forward
	if h.decide != nil {
		h.decide(head, a)
	}
}

func (h *asked) Failed(token any, err error, a *Action) {
	if h.failed != nil {
		h.failed(token, err, a)
		return
	}
	a.Status = 502
	a.Fields = append(a.Fields, Header{"content-length", "0"})
}

func (h *asked) Responded(token any, status, grpc int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, ending{token, status, grpc, err})
}

func (h *asked) Serve(s *Stream) {
	if h.serve != nil {
		h.serve(s)
	}
}

func (h *asked) endings() []ending {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]ending(nil), h.ended...)
}

// relay serves connections on a loopback address until the test ends, when it
// waits for all of them.
type relay struct {
	addr string
	mu   sync.Mutex
	all  []*Conn
	errs []error
}

func startRelay(t testing.TB, app string, h Handler, limits Limits, bite func(Limit)) *relay {
	t.Helper()
	return startRelayWith(t, h, &Config{Limits: limits, Bite: bite, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", app)
	}})
}

func startRelayWith(t testing.TB, h Handler, cfg *Config) *relay {
	t.Helper()
	l := listen(t)
	r := &relay{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := New(conn, nil, h, cfg)
			r.mu.Lock()
			r.all = append(r.all, c)
			r.mu.Unlock()
			wg.Go(func() {
				err := c.Serve()
				r.mu.Lock()
				defer r.mu.Unlock()
				r.errs = append(r.errs, err)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.all {
			c.Cut()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

func (r *relay) conns() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Conn(nil), r.all...)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startEcho is a gRPC application that has every method: each sends back every
// message it gets.
func startEcho(t testing.TB) string {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			var m wrapperspb.BytesValue
			if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}), grpc.MaxRecvMsgSize(64<<20))
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func dialGRPC(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// client speaks frames to a relay, as a test wants them.
type client struct {
	*http2.Framer
	net.Conn
	t     testing.TB
	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder
}

// dialRaw greets and waits for the greeting.
func dialRaw(t testing.TB, addr string, settings ...http2.Setting) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{Framer: http2.NewFramer(conn, conn), Conn: conn, t: t, dec: hpack.NewDecoder(4096, nil)}
	c.enc = hpack.NewEncoder(&c.block)
	c.AllowIllegalWrites = true
	c.must(io.WriteString(conn, http2.ClientPreface))
	c.must(0, c.WriteSettings(settings...))
	if f := c.next(); f.Header().Type != http2.FrameSettings {
		t.Fatalf("the relay greets with %v", f)
	}
	c.must(0, c.WriteSettingsAck())
	return c
}

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func (c *client) must(_ int, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) next() http2.Frame {
	c.t.Helper()
	f, err := c.ReadFrame()
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	return f
}

// until reads frames until one is wanted.
func (c *client) until(want func(http2.Frame) bool) http2.Frame {
	c.t.Helper()
	for {
		f := c.next()
		if want(f) {
			return f
		}
		if f, ok := f.(*http2.HeadersFrame); ok { // keep the table in step
			if _, err := c.dec.DecodeFull(f.HeaderBlockFragment()); err != nil {
				c.t.Fatalf("decode a head: %v", err)
			}
		}
	}
}

// encode makes a header block of names and values in turn.
func (c *client) encode(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

func request(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "http", ":authority", "web", ":path", path}, more...)
}

// open sends a request head.
func (c *client) open(id uint32, end bool, fields ...string) {
	c.t.Helper()
	c.must(0, c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(fields...), EndStream: end, EndHeaders: true}))
}

// answer waits for a stream's next head.
func (c *client) answer(id uint32) map[string]string {
	c.t.Helper()
	f := c.until(func(f http2.Frame) bool {
		if r, ok := f.(*http2.RSTStreamFrame); ok && r.StreamID == id {
			c.t.Fatalf("stream %d was reset: %v", id, r.ErrCode)
		}
		return f.Header().Type == http2.FrameHeaders && f.Header().StreamID == id
	})
	fields, err := c.dec.DecodeFull(f.(*http2.HeadersFrame).HeaderBlockFragment())
	if err != nil {
		c.t.Fatalf("decode the answer on stream %d: %v", id, err)
	}
	m := map[string]string{}
	for _, f := range fields {
		m[f.Name] = f.Value
	}
	return m
}

func (c *client) wantReset(id uint32, code ErrCode) {
	c.t.Helper()
	f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream && f.Header().StreamID == id })
	if got := f.(*http2.RSTStreamFrame).ErrCode; got != code {
		c.t.Fatalf("stream %d was reset with %v, not %v", id, got, code)
	}
}

// wantGoAway waits for it, and for the end of the connection.
func (c *client) wantGoAway(code ErrCode) {
	c.t.Helper()
	f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway })
	if got := f.(*http2.GoAwayFrame).ErrCode; got != code {
		c.t.Fatalf("the relay goes with %v, not %v", got, code)
	}
	for {
		if _, err := c.ReadFrame(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			c.t.Fatalf("after GOAWAY: %v", err)
		}
	}
}

// startHTTP2 is an application of net/http's handlers without TLS.
func startHTTP2(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	l := listen(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	srv := &http2.Server{MaxConcurrentStreams: 1000}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			wg.Go(func() { srv.ServeConn(conn, &http2.ServeConnOpts{Handler: h}) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// dialPlain is for an http2.Transport.
func dialPlain(addr string) func(context.Context, string, string, *tls.Config) (net.Conn, error) {
	return func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}
