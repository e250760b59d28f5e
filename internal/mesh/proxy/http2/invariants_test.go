package http2

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// held is a Handler that holds the relay to what it promises of each call: every
// decision is told the end of once, streams handed out aside, and none after Serve.
type held struct {
	asked
	mu      sync.Mutex
	decided map[*int]bool // whether it was handed out
	told    map[*int]int
	over    atomic.Bool
	late    atomic.Int64
}

func newHeld(decide func(*Head, *Action)) *held {
	return &held{asked: asked{decide: decide}, decided: map[*int]bool{}, told: map[*int]int{}}
}

func (h *held) call() {
	if h.over.Load() {
		h.late.Add(1)
	}
}

func (h *held) Decide(head *Head, a *Action) {
	h.call()
	h.asked.Decide(head, a)
	token := new(int)
	a.Token = token
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decided[token] = a.Verdict == HandOut
}

func (h *held) Failed(token any, err error, a *Action) {
	h.call()
	h.asked.Failed(token, err, a)
}

func (h *held) Responded(token any, _, _ int, _ error) {
	h.call()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told[token.(*int)]++
}

func (h *held) Serve(s *Stream) {
	h.call()
	<-s.Context().Done()
	h.call()
}

// servedOnce serves one connection; end says that it is over, and with what.
func servedOnce(t *testing.T, app string, h *held) (addr string, conn func() *Conn, end <-chan error) {
	t.Helper()
	l := listen(t)
	ended, made := make(chan error, 1), make(chan *Conn, 1)
	cfg := &Config{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", app)
	}}
	go func() {
		client, err := l.Accept()
		if err != nil {
			ended <- err
			return
		}
		c := New(client, nil, h, cfg)
		made <- c
		err = c.Serve()
		h.over.Store(true)
		ended <- err
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), func() *Conn { return <-made }, ended
}

// within waits for a fact that follows what the test has done.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// However streams and connections end, each decision is told the end of once, and
// nothing of the relay is heard after Serve has returned (invariants 7 and 8).
func TestEachDecisionIsToldOfOnceHoweverItEnds(t *testing.T) {
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/done":
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/early":
			w.WriteHeader(http.StatusTeapot)
		default:
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	decide := func(head *Head, a *Action) {
		switch text(head.Path) {
		case "/denied":
			a.Verdict, a.Status = Answer, 403
		case "/handed":
			a.Verdict = HandOut
		case "/forgotten":
			a.Verdict = Undecided
		}
	}
	for name, end := range map[string]func(*client, *Conn){
		"the client closes": func(c *client, _ *Conn) { c.Close() },
		"the client breaks the protocol": func(c *client, _ *Conn) {
			c.WriteData(0, false, nil)
			io.Copy(io.Discard, c.Conn)
		},
		"cut": func(_ *client, conn *Conn) { conn.Cut() },
		"drained": func(c *client, conn *Conn) {
			conn.Drain()
			for id := uint32(1); id < 40; id += 2 {
				c.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			for {
				f, err := c.ReadFrame()
				if err != nil {
					return
				}
				if f, ok := f.(*http2.PingFrame); ok && !f.IsAck() {
					c.WritePing(true, f.Data)
				}
			}
		},
	} {
		for _, at := range []string{app, "127.0.0.1:1"} {
			t.Run(fmt.Sprint(name, ", application there: ", at == app), func(t *testing.T) {
				h := newHeld(decide)
				addr, conn, ended := servedOnce(t, at, h)
				c := dialRaw(t, addr)
				id := uint32(1)
				for _, path := range []string{"/done", "/denied", "/wait", "/panic", "/handed", "/early", "/forgotten", "/wait", "/reset"} {
					c.open(id, path == "/done", request(path)...)
					if path == "/reset" {
						c.must(0, c.WriteRSTStream(id, http2.ErrCodeCancel))
					}
					id += 2
				}
				within(t, "all are decided on", func() bool {
					h.mu.Lock()
					defer h.mu.Unlock()
					return len(h.decided) == 9
				})
				end(c, conn())
				select {
				case <-ended:
				case <-time.After(patience):
					t.Fatal("Serve does not return")
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				for token, handed := range h.decided {
					if n := h.told[token]; handed && n != 0 || !handed && n != 1 {
						t.Errorf("told %d times, handed out: %v", n, handed)
					}
				}
				if n := h.late.Load(); n != 0 {
					t.Errorf("%d calls after Serve", n)
				}
			})
		}
	}
}

// Whatever becomes of DATA, its connection has the whole window back when nothing is
// held any more, and no more than that (invariant 4).
func TestEveryByteIsCreditedOnce(t *testing.T) {
	const rounds, part = 12, 4 << 10 // less than a window, more than half of one
	app := startHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.WriteHeader(http.StatusTeapot)
		case "/large":
			w.Write(make([]byte, connWindow/2))
		default:
			io.Copy(w, r.Body)
		}
	})
	r := startRelay(t, app, &asked{decide: denyPaths}, Limits{}, nil)
	c := dialRaw(t, r.addr, http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	c.must(0, c.WriteWindowUpdate(0, maxWindow-defaultWindow))
	var reading sync.WaitGroup
	reading.Go(func() { io.Copy(io.Discard, c.Conn) })
	padding := make([]byte, 200)
	id := uint32(1)
	for round := range rounds {
		for _, path := range []string{"/echo", "/deny", "/early", "/reset", "/large"} {
			c.open(id, false, request(path)...)
			for range round % 4 {
				c.must(0, c.WriteDataPadded(id, false, make([]byte, part), padding))
			}
			if path == "/reset" {
				c.must(0, c.WriteRSTStream(id, http2.ErrCodeCancel))
			} else {
				c.must(0, c.WriteDataPadded(id, true, make([]byte, 1), padding))
			}
			id += 2
		}
	}
	conn := r.conns()[0]
	within(t, "all streams have ended, and both windows are whole", func() bool {
		conn.mu.Lock()
		defer conn.mu.Unlock()
		whole := func(p *peer) bool { return p.room+p.credit == connWindow }
		return len(conn.streams) == 0 && conn.lastID == id-2 && whole(conn.client) && len(conn.apps) == 1 && whole(conn.apps[0])
	})
	c.Close()
	reading.Wait()
}

// A stream that the relay has reset is remembered for as many resets as there can be
// streams open, and no longer (invariant 6).
func TestResetStreamsAreRememberedForAWhile(t *testing.T) {
	const streams = 3
	r := startRelay(t, "127.0.0.1:1", &asked{decide: denyPaths}, Limits{Streams: streams}, nil)
	c := dialRaw(t, r.addr)
	deny := func(id uint32) {
		c.open(id, false, request("/deny")...)
		c.want(id, "403")
		c.wantReset(id, http2.ErrCodeNo)
	}
	for id := uint32(1); id <= 2*streams-1; id += 2 {
		deny(id)
	}
	c.must(0, c.WriteData(1, false, []byte("late")))
	deny(2*streams + 1) // one more than there are places: the first is forgotten
	c.must(0, c.WriteData(3, false, []byte("late")))
	c.must(0, c.WriteData(1, false, []byte("too late")))
	c.wantGoAway(http2.ErrCodeStreamClosed)
}
