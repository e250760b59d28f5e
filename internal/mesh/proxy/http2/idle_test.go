package http2

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// converse answers the requests on one connection with a buffer of its caller's.
func converse(conn net.Conn, in []byte) {
	have := 0
	for {
		n, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		rest := eachFrame(in[:have+n], func(kind http2.FrameType, flags http2.Flags, id uint32, _ int) {
			if kind == http2.FrameHeaders && flags&http2.FlagHeadersEndStream != 0 {
				conn.Write(append(appendFrameHeader(nil, 1, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id), ok200...))
			}
		})
		have = copy(in, rest)
	}
}

// What a connection pair costs after it has had a request, with both goroutines'
// stacks, is far from a read buffer each.
func TestIdleConnectionsHoldNoBuffers(t *testing.T) { // P11
	if raced {
		t.Skip("pools keep nothing under the race detector")
	}
	const pairs, limit = 200, 24 << 10
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				in := make([]byte, 512)
				defer conn.Close()
				if _, err := io.ReadFull(conn, in[:len(http2.ClientPreface)]); err == nil {
					conn.Write(appendFrameHeader(nil, 0, http2.FrameSettings, 0, 0))
					converse(conn, in)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	r := startRelay(t, l.Addr().String(), &plain{}, Limits{}, nil)
	block, _ := blocks(request(method, "content-type", "application/grpc", "te", "trailers", "user-agent", "grpc-go/1.83.2")...)
	hello := append([]byte(http2.ClientPreface), appendFrameHeader(nil, 0, http2.FrameSettings, 0, 0)...)
	hello = append(appendFrameHeader(hello, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1), block...)
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first moves what pools hold to where the second takes it
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := held()
	var conns []net.Conn
	in := make([]byte, 512)
	for range pairs {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		for answered, have := false, 0; !answered; {
			n, err := conn.Read(in[have:])
			if err != nil {
				t.Fatal(err)
			}
			have = copy(in, eachFrame(in[:have+n], func(kind http2.FrameType, _ http2.Flags, _ uint32, _ int) {
				answered = answered || kind == http2.FrameHeaders
			}))
		}
	}
	each := (held() - before) / pairs
	t.Logf("%d bytes for each pair of connections, the test's own ends included", each)
	if each > limit {
		t.Errorf("that is above %d", limit)
	}
	runtime.KeepAlive(conns)
}
