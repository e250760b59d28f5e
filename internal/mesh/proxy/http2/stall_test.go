package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Streams that nobody takes must not keep the others of their connection waiting.

// heldOf is what waits of a stream in one direction.
func (c *Conn) heldOf(id uint32, half func(*stream) *half) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		return half(s).queued()
	}
	return 0
}

func toApp(s *stream) *half    { return &s.toApp }
func toClient(s *stream) *half { return &s.toClient }

// stalled is how many streams of a test are not taken; what the others move is more
// than one window of a connection.
const (
	stalled = 20
	moved   = connWindow + connWindow/2
)

func TestAnswersThatAreNotTakenDoNotStopOthers(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		for part := make([]byte, 64<<10); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	})
	r := startRelay(t, app, &asked{}, Limits{}, nil)
	c := dialRaw(t, r.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for id := uint32(1); id < 2*stalled; id += 2 {
		c.open(id, true, request("/")...)
	}
	conn := r.conns()[0]
	for id := uint32(1); id < 2*stalled; id += 2 {
		waitFor(t, "a stream's window is used", func() bool { return conn.heldOf(id, toClient) == streamWindow })
	}
	const other = 2*stalled + 1
	c.open(other, true, request("/")...)
	c.must(0, c.WriteWindowUpdate(0, moved))
	c.must(0, c.WriteWindowUpdate(other, moved))
	for got := 0; got < moved; {
		f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
		if f.Header().StreamID != other {
			t.Fatalf("DATA on stream %d", f.Header().StreamID)
		}
		got += len(f.(*http2.DataFrame).Data())
	}
}

func TestBodiesThatAreNotTakenDoNotStopOthers(t *testing.T) {
	const other = 2*stalled + 1
	got := make(chan int, 1)
	// An application that takes the body of one stream only.
	app := scripted(t, func(_ int, f *http2.Framer, _ net.Conn) {
		for sum := 0; ; {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			d, ok := fr.(*http2.DataFrame)
			if !ok || len(d.Data()) == 0 {
				continue
			}
			f.WriteWindowUpdate(0, uint32(len(d.Data())))
			if d.StreamID == other {
				f.WriteWindowUpdate(other, uint32(len(d.Data())))
				if sum += len(d.Data()); sum == moved {
					got <- sum
				}
			}
		}
	})
	r := startRelay(t, app, &asked{}, Limits{}, nil)
	c := dialRaw(t, r.addr)
	credit := map[uint32]int{}
	window := connWindow
	send := func(id uint32, n int) {
		for n > 0 {
			part := min(n, maxFrame, window, credit[id])
			if part == 0 {
				f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameWindowUpdate }).(*http2.WindowUpdateFrame)
				if f.StreamID == 0 {
					window += int(f.Increment)
				} else {
					credit[f.StreamID] += int(f.Increment)
				}
				continue
			}
			c.must(0, c.WriteData(id, false, make([]byte, part)))
			n, window, credit[id] = n-part, window-part, credit[id]-part
		}
	}
	for id := uint32(1); id <= other; id += 2 {
		c.open(id, false, request("/")...)
		credit[id] = streamWindow
		if id != other {
			send(id, streamWindow+defaultWindow/2)
		}
	}
	send(other, moved)
	if n := <-got; n != moved {
		t.Errorf("%d bytes came", n)
	}
}

// When so many streams wait that nothing is left for others, those that hold most
// are broken after the time that a peer has to take something.
func TestStreamsThatLeaveNoWindowAreBroken(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		for part := make([]byte, 64<<10); r.URL.Path == "/large"; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
		w.Write(make([]byte, streamWindow))
	})
	var b bites
	r := startRelay(t, app, &asked{}, Limits{WriteTime: short}, b.bite)
	c := dialRaw(t, r.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const last = 2*connWindow/streamWindow + 21
	for id := uint32(1); id < last; id += 2 {
		c.open(id, true, request("/large")...)
	}
	f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream }).(*http2.RSTStreamFrame)
	if f.ErrCode != http2.ErrCodeCancel || f.StreamID >= last {
		t.Fatalf("broken: %v", f)
	}
	if b.of(LimitWriteTime) == 0 {
		t.Error("the limit has not bitten")
	}
	// The last one is not asked to wait until the others have what they want.
	c.open(last, true, request("/")...)
	c.must(0, c.WriteWindowUpdate(0, streamWindow))
	c.must(0, c.WriteWindowUpdate(last, streamWindow))
	for got := 0; got < streamWindow; {
		if f := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FrameData }); f.Header().StreamID == last {
			got += len(f.(*http2.DataFrame).Data())
		}
	}
}

// gate is a dial that waits, once the first n have passed.
type gate struct {
	app   string
	n     int
	asked chan struct{}
	open  chan struct{}
}

func (g *gate) dial(ctx context.Context) (net.Conn, error) {
	if g.n--; g.n < 0 {
		close(g.asked)
		select {
		case <-g.open:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", g.app)
}

// stopClock keeps the clock, which writes what waits, from doing what a test is about.
func stopClock(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock != nil && c.clock.Stop() {
		c.wg.Done()
	}
}

func TestAnswersDoNotWaitForTheApplicationToBeReached(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {})
	g := &gate{app: app, asked: make(chan struct{}), open: make(chan struct{})}
	h := &asked{decide: func(head *Head, a *Action) {
		if text(head.Path) == "/denied" {
			a.Verdict, a.Status = Answer, 403
		}
	}}
	r := startRelayWith(t, h, &Config{Dial: g.dial})
	c := dialRaw(t, r.addr)
	stopClock(r.conns()[0])
	// Both in one segment.
	var both []byte
	for i, path := range []string{"/denied", "/"} {
		block := c.encode(request(path)...)
		both = append(appendFrameHeader(both, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, uint32(2*i+1)), block...)
	}
	c.must(c.Write(both))
	<-g.asked
	c.want(1, "403")
	close(g.open)
	c.want(3, "200")
}

// A stream that was told to be served is served, though all others have ended and the
// client has been told to go while its application was being dialed.
func TestAStreamOnItsWayIsServedWhenTheConnectionIsLeaving(t *testing.T) {
	leave := make(chan struct{})
	app := scripted(t, func(n int, f *http2.Framer, _ net.Conn) {
		id := head(f)
		if n == 0 {
			f.WriteGoAway(id, http2.ErrCodeNo, nil)
			<-leave
			return // without an answer
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ok200, EndHeaders: true, EndStream: true})
		head(f)
	})
	g := &gate{app: app, n: 1, asked: make(chan struct{}), open: make(chan struct{})}
	h := &asked{failed: func(_ any, _ error, a *Action) { a.Status, a.Close = 502, true }}
	r := startRelayWith(t, h, &Config{Dial: g.dial})
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/")...)
	conn := r.conns()[0]
	waitFor(t, "the application goes away", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.app != nil && conn.app.gone
	})
	c.open(3, true, request("/")...)
	<-g.asked
	close(leave)
	c.want(1, "502")
	close(g.open)
	c.want(3, "200")
}

func TestAnApplicationThatStaysAfterGoingAwayIsLeft(t *testing.T) {
	ended := make(chan error, 1)
	app := scripted(t, func(_ int, f *http2.Framer, conn net.Conn) {
		id := head(f)
		f.WriteGoAway(id, http2.ErrCodeNo, nil)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ok200, EndHeaders: true, EndStream: true})
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	})
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{}, nil).addr)
	c.open(1, true, request("/")...)
	c.want(1, "200")
	if err := <-ended; err != nil {
		t.Errorf("the connection ended with %v", err)
	}
}

func TestAClientMayHaveNoMoreStreamsOpenThanTheApplicationTakes(t *testing.T) {
	app := scripted(t, func(n int, f *http2.Framer, _ net.Conn) {
		f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(7 * (1 - n))})
		id := head(f)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ok200, EndHeaders: true, EndStream: true})
		if n == 0 {
			f.WriteGoAway(id, http2.ErrCodeNo, nil)
		}
		head(f)
	})
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{Streams: 20}, nil).addr)
	told := func(want uint32) {
		t.Helper()
		f := c.until(func(f http2.Frame) bool {
			return f.Header().Type == http2.FrameSettings && !f.(*http2.SettingsFrame).IsAck()
		}).(*http2.SettingsFrame)
		if n, ok := f.Value(http2.SettingMaxConcurrentStreams); n != want || !ok {
			t.Fatalf("the client is told %v, not %d", f, want)
		}
	}
	c.open(1, true, request("/")...)
	told(7)
	told(20) // nobody else's
	c.open(3, true, request("/")...)
	told(1) // an application that takes none
}

// A connection whose reads always end within a head is not slow when each is whole
// in time.
func TestHeadsInTimeAreNotSlowTogether(t *testing.T) {
	var b bites
	h := &asked{decide: func(_ *Head, a *Action) { a.Verdict, a.Status = Answer, 403 }}
	r := startRelay(t, "127.0.0.1:1", h, Limits{HeadTime: 20 * short}, b.bite)
	c := dialRaw(t, r.addr)
	conn := r.conns()[0]
	ticks := func() int {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return conn.ticks
	}
	frame := func(id uint32) []byte {
		block := c.encode(request("/")...)
		return append(appendFrameHeader(nil, len(block), http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id), block...)
	}
	rest := frame(1)
	for id := uint32(3); ticks() < 4; id += 2 { // two ticks are the time of a head
		next := frame(id)
		c.must(c.Write(append(rest, next[:frameHeader]...)))
		rest = next[frameHeader:]
		c.want(id-2, "403")
	}
	if n := b.of(LimitHeadTime); n != 0 {
		t.Errorf("the limit has bitten %d times", n)
	}
}

// measured notes the largest write, and fails when it is told to.
type measured struct {
	net.Conn
	mu   sync.Mutex
	most int
	err  error
}

func (m *measured) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = max(m.most, len(b))
	return len(b), m.err
}

// What one write must be taken of within WriteTime does not grow with what waits, so
// that a peer which takes something all the time is not cut.
func TestNoWriteIsLargerThanAPeerMustTakeAtATime(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	to := &measured{Conn: here}
	c := New(to, nil, &asked{}, &Config{})
	defer c.Cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.client.buf()
	o.b = append(o.b, make([]byte, 5*maxWrite)...)
	c.flush(c.client)
	if to.most > maxWrite || c.client.pending() > 0 {
		t.Errorf("%d bytes in one write, %d left", to.most, c.client.pending())
	}
}

func TestNothingIsKeptForAnApplicationThatTakesNothingAnyMore(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := New(here, nil, &asked{}, &Config{})
	defer c.Cut()
	c.mu.Lock()
	defer c.mu.Unlock()
	app := newPeer(&measured{Conn: here, err: errors.New("broken pipe")}, true)
	c.apps = append(c.apps, app)
	for range 3 {
		o := app.buf()
		o.b = append(o.b, strings.Repeat("x", 2*highWater)...)
		c.flush(app)
		if n := app.pending(); n > 0 {
			t.Fatalf("%d bytes are kept", n)
		}
	}
}

func TestAnApplicationThatBreaksOffAfterAnInterimHeadIsAnsweredFor(t *testing.T) { // N-10
	app := scripted(t, func(_ int, f *http2.Framer, _ net.Conn) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: head(f), BlockFragment: []byte{0x08, 3, '1', '0', '3'}, EndHeaders: true})
	})
	h := &asked{}
	c := dialRaw(t, startRelay(t, app, h, Limits{}, nil).addr)
	c.open(1, true, request("/")...)
	c.want(1, "103")
	c.want(1, "502")
	if e := h.endings(); len(e) != 1 || e[0].status != 502 || !errors.Is(e[0].err, ErrApplication) {
		t.Errorf("the call ended as %+v", e)
	}
}

// A client that says nothing learns at once that this is HTTP/2 (RFC 9113, 3.4).
func TestASilentClientIsGreeted(t *testing.T) {
	r := startRelay(t, "127.0.0.1:1", &asked{}, Limits{}, nil)
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	waitFor(t, "it is accepted", func() bool { return len(r.conns()) == 1 })
	stopClock(r.conns()[0])
	conn.SetDeadline(time.Now().Add(patience))
	f, err := http2.NewFramer(conn, conn).ReadFrame()
	if err != nil || f.Header().Type != http2.FrameSettings {
		t.Fatalf("it gets %v, %v", f, err)
	}
}

func TestMethodsAreTokens(t *testing.T) {
	for method, want := range map[string]bool{"GET": true, "M-SEARCH": true, "X_Y": true, "get": true, "!#$%&'*+-.^_`|~": true, "A@": false, "A[": false, "A\\": false, "A B": false, "A\x00": false, "\xc1": false, "A(": false} {
		if got := token([]byte(method)); got != want {
			t.Errorf("%q: %v", method, got)
		}
	}
}
