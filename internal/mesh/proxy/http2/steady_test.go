package http2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The client and the application of these tests do as little as can be done per
// call, and allocate nothing: what is counted is what lies between them.

// blocks are a head as first sent and as sent ever after.
func blocks(fields ...string) (first, then []byte) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, to := range []*[]byte{&first, &then} {
		b.Reset()
		for i := 0; i < len(fields); i += 2 {
			e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		*to = bytes.Clone(b.Bytes())
	}
	return first, then
}

const message = 105 // bytes of a gRPC message with its prefix

var payload = make([]byte, message)

// appendHeadAndData is a request, or an answer without its trailers.
func appendHeadAndData(b []byte, id uint32, block []byte, end bool) []byte {
	b = append(appendFrameHeader(b, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders, id), block...)
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagDataEndStream
	}
	return append(appendFrameHeader(b, message, http2.FrameData, flags, id), payload...)
}

// eachFrame hands each whole frame of buf to do and returns what is left.
func eachFrame(buf []byte, do func(kind http2.FrameType, flags http2.Flags, id uint32, length int)) []byte {
	for len(buf) >= frameHeader {
		length := int(buf[0])<<16 | int(buf[1])<<8 | int(buf[2])
		if len(buf) < frameHeader+length {
			break
		}
		do(http2.FrameType(buf[3]), http2.Flags(buf[4]), binary.BigEndian.Uint32(buf[5:]), length)
		buf = buf[frameHeader+length:]
	}
	return buf
}

// greeting: all windows open.
func greeting() []byte {
	b := appendFrameHeader(nil, 6, http2.FrameSettings, 0, 0)
	b = appendSetting(b, http2.SettingInitialWindowSize, maxWindow)
	return appendCredit(b, 0, maxWindow-defaultWindow)
}

// startFrames is a gRPC application that answers every call alike.
func startFrames(t testing.TB) string {
	t.Helper()
	l := listen(t)
	var head1, head, tail1, tail []byte // one table for all
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, to := range []*[]byte{&head1, &tail1, &head, &tail} {
		b.Reset()
		fields := [][2]string{{":status", "200"}, {"content-type", "application/grpc"}}
		if to == &tail1 || to == &tail {
			fields = [][2]string{{"grpc-status", "0"}, {"grpc-message", ""}}
		}
		for _, f := range fields {
			e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		*to = bytes.Clone(b.Bytes())
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	serve := func(conn net.Conn) {
		in, out := make([]byte, 256<<10), make([]byte, 0, 256<<10)
		if _, err := io.ReadFull(conn, in[:len(http2.ClientPreface)]); err != nil {
			return
		}
		conn.Write(greeting())
		h, tr := head1, tail1
		have := 0
		for {
			n, err := conn.Read(in[have:])
			if err != nil {
				return
			}
			out = out[:0]
			rest := eachFrame(in[:have+n], func(kind http2.FrameType, flags http2.Flags, id uint32, _ int) {
				switch {
				case kind == http2.FrameSettings && flags == 0:
					out = appendFrameHeader(out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
				case (kind == http2.FrameData || kind == http2.FrameHeaders) && flags&http2.FlagDataEndStream != 0:
					out = appendHeadAndData(out, id, h, false)
					out = append(appendFrameHeader(out, len(tr), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id), tr...)
					h, tr = head, tail
				}
			})
			have = copy(in, rest)
			if len(out) > 0 {
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		}
	}
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			wg.Go(func() { serve(conn) })
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

// caller makes calls of one connection.
type caller struct {
	t       testing.TB
	conn    net.Conn
	in, out []byte
	have    int
	next    uint32
	block   []byte
	then    []byte
	ended   int
	count   func(http2.FrameType, http2.Flags, uint32, int)
}

func newCaller(t testing.TB, addr string) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	c := &caller{t: t, conn: conn, in: make([]byte, 256<<10), next: 1}
	c.block, c.then = blocks(":method", "POST", ":scheme", "http", ":path", method, ":authority", "web.default:80",
		"content-type", "application/grpc", "user-agent", "grpc-go/1.83.2", "te", "trailers", "grpc-timeout", "4999m")
	c.out = append([]byte(http2.ClientPreface), greeting()...)
	c.count = func(kind http2.FrameType, flags http2.Flags, _ uint32, _ int) {
		switch {
		case kind == http2.FrameSettings && flags == 0:
			c.out = appendFrameHeader(c.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
		case kind == http2.FramePing && flags == 0:
			c.t.Error("an unexpected ping")
		case kind == http2.FrameHeaders && flags&http2.FlagHeadersEndStream != 0:
			c.ended++
		case kind == http2.FrameGoAway:
			c.t.Fatal("the relay goes away")
		}
	}
	return c
}

// calls makes n calls at a time and waits for their ends.
func (c *caller) calls(n int) {
	for range n {
		c.out = appendHeadAndData(c.out, c.next, c.block, true)
		c.block = c.then
		c.next += 2
	}
	if _, err := c.conn.Write(c.out); err != nil {
		c.t.Fatal(err)
	}
	c.out = c.out[:0]
	for c.ended = 0; c.ended < n; {
		m, err := c.conn.Read(c.in[c.have:])
		if err != nil {
			c.t.Fatal(err)
		}
		c.have = copy(c.in, eachFrame(c.in[:c.have+m], c.count))
	}
}

// plain permits everything and allocates nothing.
type plain struct{ denyAll bool }

func (p *plain) Decide(_ *Head, a *Action) {
	a.Verdict, a.Token = Forward, p
	a.Append = append(a.Append, Header{"l5d-client-id", "web.default.serviceaccount.identity.linkerd.cluster.local"})
	if p.denyAll {
		deny(a)
	}
}
func (*plain) Failed(any, error, *Action)     {}
func (*plain) Responded(any, int, int, error) {}
func (*plain) Serve(*Stream)                  {}

func TestSteadyRequestsCostNoAllocation(t *testing.T) { // P14
	if raced {
		t.Skip("pools keep nothing under the race detector")
	}
	for name, row := range map[string]struct {
		handler *plain
		at      int
	}{
		"one call at a time":   {&plain{}, 1},
		"32 calls at a time":   {&plain{}, 32},
		"one denial at a time": {&plain{denyAll: true}, 1},
		"32 denials at a time": {&plain{denyAll: true}, 32},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaller(t, startRelay(t, startFrames(t), row.handler, Limits{}, nil).addr)
			for range 2000 / row.at {
				c.calls(row.at)
			}
			if n := testing.AllocsPerRun(2000/row.at, func() { c.calls(row.at) }) / float64(row.at); n >= 0.05 {
				t.Errorf("%v allocations per call", n)
			}
		})
	}
}

// startReverse is the reverse proxy of the standard library, tuned: HTTP/2 both
// ways, one connection to the application, pooled buffers, no limits.
func startReverse(t testing.TB, app string) string {
	t.Helper()
	transport := &http2.Transport{AllowHTTP: true, DisableCompression: true, DialTLSContext: dialPlain(app)}
	target, _ := url.Parse("http://" + app)
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    bytesPool{},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return startHTTP2(t, proxy.ServeHTTP)
}

type bytesPool struct{}

var pooled = sync.Pool{New: func() any { return make([]byte, 16<<10) }}

func (bytesPool) Get() []byte  { return pooled.Get().([]byte) }
func (bytesPool) Put(b []byte) { pooled.Put(b) }

// cpu is what this process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestACallCostsAFractionOfTheStandardReverseProxys(t *testing.T) { // P5, release gate
	const gate, rounds, calls, at = 0.2, 5, 1600, 32
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	app := startFrames(t)
	targets := []*caller{
		newCaller(t, app),
		newCaller(t, startRelay(t, app, &plain{}, Limits{}, nil).addr),
		newCaller(t, startReverse(t, app)),
	}
	var ratios []float64
	for round := range rounds + 1 {
		var used [3]time.Duration
		for i, c := range targets {
			before := cpu(t)
			for range calls / at {
				c.calls(at)
			}
			used[i] = cpu(t) - before
		}
		if round > 0 { // the first warms
			ratios = append(ratios, float64(used[1]-used[0])/float64(used[2]-used[0]))
		}
	}
	slices.Sort(ratios)
	t.Logf("CPU per call, to the reverse proxy's: %.3f", ratios)
	if median := ratios[rounds/2]; median > gate {
		t.Errorf("the median is %.3f, above %v", median, gate)
	}
}

func benchmarkCalls(b *testing.B, addr string, at int) {
	c := newCaller(b, addr)
	c.conn.SetDeadline(time.Time{})
	c.calls(at)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for n := 0; n < b.N; n += at {
		c.calls(at)
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

func BenchmarkCalls(b *testing.B) {
	for _, at := range []int{1, 32} {
		name := map[int]string{1: "one at a time", 32: "32 at a time"}[at]
		b.Run("direct, "+name, func(b *testing.B) { benchmarkCalls(b, startFrames(b), at) })
		b.Run("relay, "+name, func(b *testing.B) {
			benchmarkCalls(b, startRelay(b, startFrames(b), &plain{}, Limits{}, nil).addr, at)
		})
		b.Run("reverse proxy, "+name, func(b *testing.B) { benchmarkCalls(b, startReverse(b, startFrames(b)), at) })
	}
}

// BenchmarkBody carries one long answer.
func BenchmarkBody(b *testing.B) {
	part := make([]byte, 64<<10)
	app := startHTTP2(b, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	for name, addr := range map[string]string{"direct": app, "relay": startRelay(b, app, &plain{}, Limits{}, nil).addr} {
		b.Run(name, func(b *testing.B) {
			transport := &http2.Transport{AllowHTTP: true, DialTLSContext: dialPlain(addr)}
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://web/", nil)
			res, err := transport.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			defer res.Body.Close()
			b.SetBytes(int64(len(part)))
			b.ResetTimer()
			buf := make([]byte, len(part))
			for range b.N {
				if _, err := io.ReadFull(res.Body, buf); err != nil && !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}
		})
	}
}
