package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func waitFor(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, patience)
		}
		<-time.After(time.Millisecond)
	}
}

func (r *relay) results() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.errs...)
}

func TestDrainLetsCallsFinishAndTakesNoMore(t *testing.T) { // F16
	release, begun := make(chan struct{}), make(chan struct{}, 10)
	app := startHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-release
		w.Write([]byte("done"))
	})
	h := &asked{}
	r := startRelay(t, app, h, Limits{}, nil)
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/")...)
	<-begun
	r.conns()[0].Drain()
	r.conns()[0].Drain()
	goAway := func(f http2.Frame) bool { return f.Header().Type == http2.FrameGoAway }
	if f := c.until(goAway).(*http2.GoAwayFrame); f.LastStreamID != maxWindow || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("the first %v", f)
	}
	// What was on its way is still served.
	c.open(3, true, request("/")...)
	ping := c.until(func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }).(*http2.PingFrame)
	c.must(0, c.WritePing(true, ping.Data))
	if f := c.until(goAway).(*http2.GoAwayFrame); f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("the second %v", f)
	}
	c.open(5, true, request("/")...) // ignored
	close(release)
	done := 0
	for c.t = t; done < 2; {
		if f, ok := c.next().(*http2.DataFrame); ok && f.StreamEnded() {
			done++
		}
	}
	if _, err := io.Copy(io.Discard, c.Conn); err != nil {
		t.Errorf("the connection ended with %v", err)
	}
	c.Close()
	waitFor(t, "Serve returns", func() bool { return len(r.results()) == 1 })
	if err := r.results()[0]; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if n := len(h.endings()); n != 2 {
		t.Errorf("%d calls ended, not 2", n)
	}
}

func TestCutEndsEverythingAtOnce(t *testing.T) {
	app := startHTTP2(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h := &asked{}
	r := startRelay(t, app, h, Limits{}, nil)
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/")...)
	waitFor(t, "the call arrives", func() bool { return len(r.conns()) == 1 && len(r.conns()[0].open()) == 1 })
	r.conns()[0].Cut()
	waitFor(t, "Serve returns", func() bool { return len(r.results()) == 1 })
	if e := h.endings(); len(e) != 1 || !errors.Is(e[0].err, ErrClient) {
		t.Errorf("the call ended as %+v", e)
	}
}

func (c *Conn) open() (ids []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.streams {
		ids = append(ids, id)
	}
	return ids
}

func TestAnApplicationThatCannotBeReachedIsAnsweredFor(t *testing.T) { // N-10
	h := &asked{failed: func(_ any, err error, a *Action) {
		var dial *DialError
		if !errors.As(err, &dial) {
			t.Errorf("failed with %v", err)
		}
		a.Status, a.Close = 504, true
	}}
	r := startRelay(t, "127.0.0.1:1", h, Limits{}, nil)
	c := dialRaw(t, r.addr)
	c.open(1, false, request("/")...)
	c.want(1, "504")
	c.wantGoAway(http2.ErrCodeNo)
	if e := h.endings(); len(e) != 1 || e[0].status != 504 || e[0].err == nil {
		t.Errorf("the call ended as %+v", e)
	}
}

// scripted is an application made of frames: each connection runs do.
func scripted(t testing.TB, do func(n int, f *http2.Framer, conn net.Conn)) string {
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(patience))
			io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
			f := http2.NewFramer(conn, conn)
			f.WriteSettings()
			do(n, f, conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// head reads frames until a request's head and returns its stream.
func head(f *http2.Framer) uint32 {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return 0
		}
		if fr.Header().Type == http2.FrameHeaders {
			return fr.Header().StreamID
		}
	}
}

var ok200 = []byte{0x88} // :status 200

func TestAnApplicationThatBreaksOff(t *testing.T) { // F25
	for _, row := range []struct {
		name   string
		do     func(f *http2.Framer, id uint32)
		status string  // answered by the Handler
		reset  ErrCode // else
		ended  int     // status told to Responded
	}{
		{"before the answer", func(*http2.Framer, uint32) {}, "502", 0, 502},
		{"within the answer", func(f *http2.Framer, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ok200, EndHeaders: true})
			f.WriteData(id, false, []byte("half"))
		}, "200", http2.ErrCodeInternal, 200},
		{"by a reset", func(f *http2.Framer, id uint32) { f.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm); head(f) }, "", http2.ErrCodeEnhanceYourCalm, 0},
		{"by refusing the stream", func(f *http2.Framer, id uint32) { f.WriteGoAway(0, http2.ErrCodeNo, nil); head(f) }, "", http2.ErrCodeRefusedStream, 0},
		{"with DATA before a head", func(f *http2.Framer, id uint32) { f.WriteData(id, true, nil); head(f) }, "502", 0, 502},
		{"with a head without a status", func(f *http2.Framer, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x82}, EndHeaders: true})
			head(f)
		}, "502", 0, 502},
		{"with a push", func(f *http2.Framer, id uint32) {
			f.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true})
			head(f)
		}, "502", 0, 502},
	} {
		t.Run(row.name, func(t *testing.T) {
			app := scripted(t, func(_ int, f *http2.Framer, _ net.Conn) {
				if id := head(f); id != 0 {
					row.do(f, id)
				}
			})
			h := &asked{}
			r := startRelay(t, app, h, Limits{}, nil)
			c := dialRaw(t, r.addr)
			c.open(1, true, request("/")...)
			if row.status != "" {
				c.want(1, row.status)
			}
			if row.reset != 0 {
				c.wantReset(1, row.reset)
			}
			if e := h.endings(); len(e) != 1 || e[0].status != row.ended || !errors.Is(e[0].err, ErrApplication) {
				t.Errorf("the call ended as %+v", e)
			}
			c.Close()
			waitFor(t, "Serve returns", func() bool { return len(r.results()) == 1 })
		})
	}
}

func TestAnApplicationThatGoesAwayIsDialedAgain(t *testing.T) {
	var heads atomic.Int32
	app := scripted(t, func(n int, f *http2.Framer, conn net.Conn) {
		id := head(f)
		heads.Add(1)
		f.WriteGoAway(id, http2.ErrCodeNo, nil)
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ok200, EndHeaders: true, EndStream: true})
	})
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{}, nil).addr)
	for id := uint32(1); id < 20; id += 2 {
		c.open(id, true, request("/")...)
		c.want(id, "200")
	}
	if n := heads.Load(); n != 10 {
		t.Errorf("%d requests over as many connections", n)
	}
}

func TestAnInterimHeadPassesBeforeTheAnswer(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		io.Copy(io.Discard, r.Body)
		w.Write([]byte("x"))
	})
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{}, nil).addr)
	c.open(1, false, request("/")...)
	c.want(1, "103")
	c.must(0, c.WriteData(1, true, []byte("body")))
	c.want(1, "200")
}

func TestCallsThatTheClientCancelsAreCanceledAtTheApplication(t *testing.T) {
	canceled := make(chan struct{})
	begun := make(chan struct{})
	app := startHTTP2(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(canceled)
	})
	h := &asked{}
	r := startRelay(t, app, h, Limits{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	err := dialGRPC(t, r.addr).Invoke(ctx, method, &wrapperspb.BytesValue{}, &wrapperspb.BytesValue{})
	if status.Code(err) != codes.Canceled {
		t.Errorf("the call ended with %v", err)
	}
	<-canceled
	waitFor(t, "the Handler is told", func() bool { return len(h.endings()) == 1 })
	if e := h.endings()[0]; !errors.Is(e.err, ErrClient) {
		t.Errorf("the call ended as %+v", e)
	}
}
