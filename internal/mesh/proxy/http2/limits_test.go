package http2

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// bites counts what Config.Bite is told.
type bites struct {
	mu sync.Mutex
	n  [limitCount]int
}

func (b *bites) bite(l Limit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n[l]++
}

func (b *bites) of(l Limit) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n[l]
}

// abuse is what a client does against one limit, more than once where it has
// several ways; each is to be seen by Bite.
type abuse struct {
	name   string
	limit  Limit
	limits Limits
	do     func(c *client)
}

func calmed(c *client) { c.wantGoAway(http2.ErrCodeEnhanceYourCalm) }

// flood sends a frame again and again until the connection ends.
func flood(send func(c *client, i int) error) func(*client) {
	return func(c *client) {
		for i := range 10_000 {
			if send(c, i) != nil {
				break
			}
		}
		calmed(c)
	}
}

const short = 50 * time.Millisecond

var abuses = []abuse{
	{"head bytes", LimitHeadBytes, Limits{HeadBytes: 1000}, func(c *client) {
		c.open(1, true, request("/", "x-large", strings.Repeat("a", 1000))...)
		c.want(1, "431")
		c.open(3, true, request("/", "x-large", strings.Repeat("a", 100))...)
		c.want(3, "403")
	}},
	{"head bytes from the table", LimitHeadBytes, Limits{HeadBytes: 1000}, func(c *client) { // case 52
		c.open(1, true, request("/", "x-large", strings.Repeat("a", 400))...)
		c.want(1, "403")
		block := append(c.encode(request("/")...), bytes.Repeat(c.encode("x-large", strings.Repeat("a", 400)), 900)...)
		c.must(0, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block, EndStream: true, EndHeaders: true}))
		c.want(3, "431")
	}},
	{"head fields", LimitHeadFields, Limits{HeadFields: 20}, func(c *client) {
		fields := request("/")
		for i := range 17 {
			fields = append(fields, fmt.Sprint("x-", i), "1")
		}
		c.open(1, true, fields...)
		c.want(1, "431")
		c.open(3, true, fields[:len(fields)-2]...)
		c.want(3, "403")
	}},
	{"streams", LimitStreams, Limits{Streams: 3}, func(c *client) { // case 62
		for id := uint32(1); id <= 7; id += 2 {
			c.open(id, false, request("/open")...)
		}
		c.wantReset(7, http2.ErrCodeRefusedStream)
		c.must(0, c.WriteRSTStream(1, http2.ErrCodeCancel))
		c.open(9, true, request("/")...)
		c.want(9, "403")
	}},
	{"resets by the client", LimitResets, Limits{Resets: 20}, flood(func(c *client, i int) error { // case 49
		id := uint32(2*i + 1)
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(request("/open")...), EndHeaders: true})
		return c.WriteRSTStream(id, http2.ErrCodeCancel)
	})},
	{"resets that the client causes", LimitResets, Limits{Resets: 20}, flood(func(c *client, i int) error { // case 50
		id := uint32(2*i + 1)
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.encode(request("/open")...), EndHeaders: true})
		return c.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
	})},
	{"resets of streams refused", LimitResets, Limits{Resets: 20}, flood(func(c *client, i int) error {
		return c.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: c.encode(":method", "GET"), EndHeaders: true})
	})},
	// Case 53.
	{"pings", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WritePing(false, [8]byte{}) })},
	{"answers to pings", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WritePing(true, [8]byte{}) })},
	{"settings", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WriteSettings() })},
	{"priorities", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WritePriority(1, http2.PriorityParam{}) })},
	{"small credits", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WriteWindowUpdate(0, 1) })},
	{"unknown frames", LimitControl, Limits{Control: 50}, flood(func(c *client, _ int) error { return c.WriteRawFrame(0x77, 0, 0, nil) })},
	{"empty DATA", LimitControl, Limits{Control: 50}, flood(func(c *client, i int) error {
		if i == 0 {
			c.open(1, false, request("/open")...)
		}
		return c.WriteData(1, false, nil)
	})},
	{"large header block", LimitBlock, Limits{HeadBytes: 1000}, func(c *client) { // case 51
		c.must(0, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("/")...)}))
		flood(func(c *client, _ int) error { return c.WriteContinuation(1, false, make([]byte, 100)) })(c)
	}},
	{"many fragments", LimitBlock, Limits{}, func(c *client) {
		c.must(0, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("/")...)}))
		flood(func(c *client, _ int) error { return c.WriteContinuation(1, false, nil) })(c)
	}},
	{"slow header block", LimitHeadTime, Limits{HeadTime: short}, func(c *client) { // case 63
		c.must(0, c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(request("/")...)}))
		calmed(c)
	}},
	{"slow HEADERS frame", LimitHeadTime, Limits{HeadTime: short}, func(c *client) {
		c.must(c.Write([]byte{0, 0, 9, byte(http2.FrameHeaders), 4, 0, 0, 0, 1, 0x82}))
		calmed(c)
	}},
	{"idle", LimitIdleTime, Limits{IdleTime: short}, func(c *client) { c.wantGoAway(http2.ErrCodeNo) }},
	{"idle, but for pings", LimitIdleTime, Limits{IdleTime: short}, func(c *client) {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for ticker := time.NewTicker(short / 10); ; {
				select {
				case <-ticker.C:
					c.WritePing(false, [8]byte{})
				case <-stop:
					ticker.Stop()
					return
				}
			}
		}()
		c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway })
	}},
	{"takes nothing", LimitWriteTime, Limits{WriteTime: short}, func(c *client) { // case 54
		c.must(0, c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}))
		c.must(0, c.WriteWindowUpdate(0, maxWindow-defaultWindow))
		c.open(1, true, request("/large")...)
		// Nothing is read any more until the relay has given up.
		for c.WritePing(false, [8]byte{}) == nil {
			<-time.After(short)
		}
	}},
}

func (c *client) want(id uint32, status string) {
	c.t.Helper()
	if got := c.answer(id)[":status"]; got != status {
		c.t.Fatalf("stream %d: status %s, not %s", id, got, status)
	}
}

func TestEveryLimitBites(t *testing.T) {
	large := make([]byte, 32<<20)
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Write(large)
			return
		}
		io.Copy(io.Discard, r.Body)
	})
	h := &asked{decide: func(head *Head, a *Action) {
		if text(head.Path) == "/" {
			a.Verdict, a.Status = Answer, 403
		}
	}}
	covered := map[Limit]bool{}
	for _, row := range abuses {
		covered[row.limit] = true
		t.Run(row.name, func(t *testing.T) {
			var b bites
			c := dialRaw(t, startRelay(t, app, h, row.limits, b.bite).addr)
			row.do(c)
			for l := range limitCount {
				if n := b.of(l); (n > 0) != (l == row.limit) {
					t.Errorf("%s has bitten %d times", l, n)
				}
			}
		})
	}
	for l := range limitCount {
		if !covered[l] {
			t.Errorf("no row for %s", l)
		}
	}
}

func TestAPrefaceThatDoesNotComeEndsTheConnection(t *testing.T) {
	var b bites
	r := startRelay(t, "127.0.0.1:1", &asked{}, Limits{HeadTime: short}, b.bite)
	for _, sent := range []string{"", "PRI * HTTP/2.0\r\n", http2.ClientPreface} {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, sent)
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Errorf("after %q: %v", sent, err)
		}
	}
	if n := b.of(LimitHeadTime); n != 3 {
		t.Errorf("it has bitten %d times, not 3", n)
	}
}

// A client that never opens its windows costs no more memory than it was advertised
// (invariant 5).
func TestWhatAClientDoesNotTakeIsBounded(t *testing.T) { // case 54
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		for part := make([]byte, 64<<10); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	r := startRelay(t, app, &asked{}, Limits{}, nil)
	c := dialRaw(t, r.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for id := uint32(1); id < 2*connWindow/streamWindow+20; id += 2 {
		c.open(id, true, request("/")...)
	}
	conn := r.conns()[0]
	held := func() (most, sum int) {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		for _, s := range conn.streams {
			most, sum = max(most, s.toClient.queued()), sum+s.toClient.queued()
		}
		return most, sum
	}
	waitFor(t, "as much is held as the application was allowed", func() bool {
		most, sum := held()
		if most > streamWindow || sum > connWindow {
			t.Fatalf("%d bytes are held, %d of them of one stream", sum, most)
		}
		return sum >= connWindow-maxFrame
	})
	// Frames that it sends beyond that would be seen by now.
	c.must(0, c.WritePing(false, [8]byte{}))
	c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	if most, sum := held(); most > streamWindow || sum > connWindow {
		t.Errorf("%d bytes are held, %d of them of one stream", sum, most)
	}
}

func TestAClientGetsNoMoreThanItsWindows(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 200<<10)) })
	for name, row := range map[string]struct {
		initial uint32
		want    int
	}{
		"of a stream":       {100, 100},
		"of the connection": {1 << 20, defaultWindow},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, startRelay(t, app, &asked{}, Limits{}, nil).addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: row.initial})
			c.open(1, true, request("/")...)
			got := 0
			read := func(until http2.FrameType) {
				for {
					switch f := c.next().(type) {
					case *http2.DataFrame:
						if got += len(f.Data()); until == http2.FrameData && got >= row.want {
							return
						}
					default:
						if f.Header().Type == until {
							return
						}
					}
				}
			}
			read(http2.FrameData)
			c.must(0, c.WritePing(false, [8]byte{}))
			read(http2.FramePing)
			if got != row.want {
				t.Errorf("%d bytes came, not %d", got, row.want)
			}
		})
	}
}

// A client that always leaves some of an answer has the relay hold a window's worth,
// however much has passed (invariant 5).
func TestAStreamThatIsNeverEmptyDoesNotGrow(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		for part := make([]byte, 64<<10); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	r := startRelay(t, app, &asked{}, Limits{}, nil)
	c := dialRaw(t, r.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.open(1, true, request("/")...)
	conn := r.conns()[0]
	for passed := 0; passed < 20*streamWindow; {
		c.must(0, c.WriteWindowUpdate(0, 10_000))
		c.must(0, c.WriteWindowUpdate(1, 10_000))
		for got := 0; got < 10_000; {
			if f, ok := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameData }).(*http2.DataFrame); ok {
				got += len(f.Data())
			}
		}
		passed += 10_000
		conn.mu.Lock()
		held := cap(conn.streams[1].toClient.queue)
		conn.mu.Unlock()
		if held > 2*streamWindow {
			t.Fatalf("after %d bytes %d are held", passed, held)
		}
	}
}

func TestBodiesBeyondTheWindowsAreRefused(t *testing.T) { // invariant 5
	// An application with the windows that all begin with, which it never widens.
	app := scripted(t, func(_ int, f *http2.Framer, _ net.Conn) {
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	})
	r := startRelay(t, app, &asked{}, Limits{}, nil)
	fill := func(c *client, id uint32, n int) {
		c.open(id, false, request("/")...)
		for ; n > 0; n -= maxFrame {
			c.must(0, c.WriteData(id, false, make([]byte, min(n, maxFrame))))
		}
	}
	t.Run("of a stream", func(t *testing.T) {
		// What the application has not opened a window for is held; one byte more is not.
		c := dialRaw(t, r.addr)
		fill(c, 1, streamWindow+defaultWindow+maxFrame*20)
		c.wantReset(1, http2.ErrCodeFlowControl)
	})
	t.Run("of the connection", func(t *testing.T) {
		c := dialRaw(t, r.addr)
		c.SetWriteDeadline(time.Now().Add(patience))
		for id := uint32(1); id < 2*connWindow/streamWindow+20; id += 2 {
			c.open(id, false, request("/")...)
			for range streamWindow / maxFrame {
				if c.WriteData(id, false, make([]byte, maxFrame)) != nil {
					break
				}
			}
		}
		c.until(func(f http2.Frame) bool {
			g, ok := f.(*http2.GoAwayFrame)
			return ok && g.ErrCode == http2.ErrCodeFlowControl
		})
	})
}

// A client may credit every DATA frame, however small, and ping with it; what it says
// beyond that is counted (case 57).
func TestAClientMayAnswerEachDataFrame(t *testing.T) {
	const parts, control = 200, 20
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		for range parts {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
	})
	var b bites
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{Control: control}, b.bite).addr)
	c.open(1, true, request("/")...)
	c.want(1, "200")
	for ended := false; !ended; {
		f, ok := c.next().(*http2.DataFrame)
		if !ok {
			continue
		}
		if len(f.Data()) > 0 {
			c.must(0, c.WriteWindowUpdate(0, 1))
			c.must(0, c.WriteWindowUpdate(1, 1))
			c.must(0, c.WritePing(false, [8]byte{}))
		}
		ended = f.StreamEnded()
	}
	c.open(3, true, request("/")...)
	c.want(3, "200")
	if n := b.of(LimitControl); n != 0 {
		t.Fatalf("the limit has bitten %d times", n)
	}
	for range answersPerData*2*(parts+1) + control + 1 {
		if c.WriteWindowUpdate(0, 1) != nil {
			break
		}
	}
	c.wantGoAway(http2.ErrCodeEnhanceYourCalm)
}
