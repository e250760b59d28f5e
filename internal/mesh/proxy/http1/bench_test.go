package http1

import (
	"io"
	"log"
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
)

const (
	benchRequest = "GET /api/v1/items?limit=10 HTTP/1.1\r\nHost: app.apps.svc.cluster.local:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nX-Request-Id: 0123456789abcdef\r\n\r\n"
	echoAnswer   = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nhello"
)

// echoApp answers whatever comes in one piece with the same answer, and
// allocates nothing.
func echoApp(conn net.Conn) {
	b := make([]byte, 4096)
	answer := []byte(echoAnswer)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func BenchmarkParseRequestHead(b *testing.B) {
	head := []byte(benchRequest)
	x := getExchange()
	defer x.put()
	b.ReportAllocs()
	b.SetBytes(int64(len(head)))
	for b.Loop() {
		size, _ := headEnd(head, 0)
		if x.request.parse(head[:size], testLimits) != nil {
			b.Fatal("refused")
		}
		x.writeRequest("")
	}
}

func BenchmarkChunks(b *testing.B) {
	var body []byte
	for range 16 {
		body = append(body, "400\r\n"...)
		body = append(body, make([]byte, 0x400)...)
		body = append(body, "\r\n"...)
	}
	body = append(body, "0\r\n\r\n"...)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		var f framing
		f.begin(Chunked, 0, testLimits)
		if _, used, refused := f.next(body); refused != nil || used != len(body) {
			b.Fatal("refused")
		}
	}
}

// BenchmarkRequest is a request on a kept connection, with its client and its
// application in the same process.
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b, echoApp, func(w *world) { w.handler = &lets{} })
	ask := asker(b, w.accept.Addr().String())
	ask()
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}

// asker returns a client that costs as little as one can.
func asker(tb testing.TB, address string) func() {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	request, answer := []byte(benchRequest), make([]byte, 4096)
	return func() {
		if _, err := conn.Write(request); err != nil {
			tb.Fatal(err)
		}
		n := 0
		for n < 5 || string(answer[n-5:n]) != "hello" {
			m, err := conn.Read(answer[n:])
			if n += m; err != nil {
				tb.Fatal(err)
			}
		}
	}
}

// costs are medians over rounds of the processor time that a request costs
// beyond what it costs its client and application alone.
type costs struct {
	relay, reverse time.Duration
	// ratio is the median of the rounds' ratios.
	ratio float64
}

// compare measures the relay and a tuned httputil.ReverseProxy by turns, each
// with the same client and application, and both against those alone.
func compare(tb testing.TB, rounds, requests int) costs {
	w := newWorld(tb, echoApp, func(w *world) { w.handler = &lets{} })
	targets := []func(){asker(tb, w.app.Addr().String()), asker(tb, w.accept.Addr().String()), asker(tb, reverseProxy(tb, w.app.Addr().String()))}
	measure := func(ask func()) time.Duration {
		before := processorTime()
		for range requests {
			ask()
		}
		return (processorTime() - before) / time.Duration(requests)
	}
	for _, ask := range targets {
		measure(ask)
	}
	var relay, reverse []time.Duration
	var ratios []float64
	for range rounds {
		direct, ours, theirs := measure(targets[0]), measure(targets[1]), measure(targets[2])
		relay, reverse = append(relay, ours-direct), append(reverse, theirs-direct)
		ratios = append(ratios, float64(ours-direct)/float64(theirs-direct))
	}
	return costs{median(relay), median(reverse), median(ratios)}
}

func median[T time.Duration | float64](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reverseProxy serves what the standard library has, set up to be fast.
func reverseProxy(tb testing.TB, app string) string {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: app})
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, ReadBufferSize: bufferSize, WriteBufferSize: bufferSize}
	proxy.Transport = transport
	proxy.BufferPool = new(pool)
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	l := listen(tb)
	server := &http.Server{Handler: proxy}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	tb.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
		serving.Wait()
	})
	return l.Addr().String()
}

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, bufferSize)
}
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

// BenchmarkAgainstReverseProxy: each iteration is a round of both, by turns.
func BenchmarkAgainstReverseProxy(b *testing.B) {
	c := compare(b, b.N, 500)
	b.ReportMetric(float64(c.relay.Nanoseconds()), "relay-cpu-ns/request")
	b.ReportMetric(float64(c.reverse.Nanoseconds()), "reverse-cpu-ns/request")
	b.ReportMetric(c.ratio, "ratio")
}

// BenchmarkIdle is what a connection takes up in the relay while it waits for its
// next request, heap and stack: beyond what its client and application take up.
func BenchmarkIdle(b *testing.B) {
	const connections = 500
	for range b.N {
		w := newWorld(b, echoApp, func(w *world) { w.handler = &lets{} })
		each := func(address string) float64 {
			before := inUse()
			conns := make([]net.Conn, connections)
			for i := range conns {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				io.WriteString(conn, benchRequest)
				io.ReadFull(conn, make([]byte, len(echoAnswer)))
				conns[i] = conn
			}
			used := float64(inUse()-before) / connections / 1024
			for _, c := range conns {
				c.Close()
			}
			return used
		}
		direct := each(w.app.Addr().String())
		b.ReportMetric(each(w.accept.Addr().String())-direct, "KiB/connection")
	}
}

// inUse is heap and stack after pools have forgotten what they held.
func inUse() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
