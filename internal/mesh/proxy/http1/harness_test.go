package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// soon bounds what is expected to happen.
const soon = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judge is a handler that a test makes of a function, and what it was told.
type judge struct {
	decide func(*Head, *Action)
	mu     sync.Mutex
	told   []string
	asked  atomic.Int64
}

func (j *judge) Decide(h *Head, a *Action) {
	n := j.asked.Add(1)
	a.Token = n
	if j.decide == nil {
		a.Verdict = Forward
		return
	}
	j.decide(h, a)
}

func (j *judge) Failed(token any, err error, a *Action) {
	var dial *DialError
	if !errors.As(err, &dial) && !errors.Is(err, ErrApplication) {
		panic(err)
	}
	a.Status, a.Close = http.StatusBadGateway, true
}

func (j *judge) Responded(token any, status, grpcStatus int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	why := "ok"
	var dial *DialError
	switch {
	case errors.Is(err, ErrClient):
		why = "client"
	case errors.Is(err, ErrApplication):
		why = "application"
	case errors.As(err, &dial):
		why = "dial"
	case err != nil:
		why = err.Error()
	}
	j.told = append(j.told, fmt.Sprintf("%d %d %d %s", token, status, grpcStatus, why))
}

func (j *judge) responses() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.told...)
}

// world is a relay between a listener and an application that a test plays.
type world struct {
	tb    testing.TB
	relay *Relay
	judge *judge
	// handler takes the judge's place.
	handler Handler
	app     net.Listener
	appDo   func(net.Conn)
	accept  net.Listener
	dials   atomic.Int64
	// dialled counts clients.
	dialled atomic.Int64
	bitten  [limits]atomic.Int64
	bad     [2]atomic.Int64
	all     sync.WaitGroup
	// wrap changes the connections that the relay is given.
	wrap func(net.Conn) net.Conn

	mu    sync.Mutex
	conns []*Conn
}

// newWorld serves every connection of the listener; app handles each of the
// application's, which is closed when it returns.
func newWorld(tb testing.TB, app func(net.Conn), edit ...func(*world)) *world {
	tb.Helper()
	w := &world{tb: tb, judge: &judge{}, relay: &Relay{}, appDo: app}
	w.relay.Bitten = func(l Limit) { w.bitten[l].Add(1) }
	w.relay.Malformed = func(s Side, _ error) { w.bad[s].Add(1) }
	for _, e := range edit {
		e(w)
	}
	w.app, w.accept = listen(tb), listen(tb)
	w.all.Go(func() { each(w.app, &w.all, w.appDo) })
	w.all.Go(func() { each(w.accept, &w.all, w.serve) })
	tb.Cleanup(func() {
		w.accept.Close()
		w.app.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			c.client.conn.Close()
		}
		w.mu.Unlock()
		w.all.Wait()
	})
	return w
}

func (w *world) serve(conn net.Conn) {
	if w.wrap != nil {
		conn = w.wrap(conn)
	}
	h := w.handler
	if h == nil {
		h = w.judge
	}
	c := w.relay.Conn(Config{Client: conn, Handler: h, Dial: func() (net.Conn, error) {
		w.dials.Add(1)
		return net.Dial("tcp", w.app.Addr().String())
	}})
	w.mu.Lock()
	w.conns = append(w.conns, c)
	w.mu.Unlock()
	c.Serve()
}

// last is the relay's connection for the last that was dialled.
func (w *world) last() (c *Conn) {
	w.tb.Helper()
	eventually(w.tb, "the connection is served", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := int(w.dialled.Load()); len(w.conns) == n {
			c = w.conns[n-1]
		}
		return c != nil
	})
	return c
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func each(l net.Listener, all *sync.WaitGroup, do func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		all.Go(func() {
			defer conn.Close()
			do(conn)
		})
	}
}

// dial connects a client.
func (w *world) dial() net.Conn {
	w.tb.Helper()
	conn, err := net.Dial("tcp", w.accept.Addr().String())
	if err != nil {
		w.tb.Fatal(err)
	}
	w.dialled.Add(1)
	w.tb.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(soon))
	return conn
}

// say sends text and returns all that comes back until the relay hangs up.
func (w *world) say(text string) string {
	w.tb.Helper()
	conn := w.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		w.tb.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil && isTimeout(err) {
		w.tb.Fatalf("not hung up on after %q: got %q", text, b)
	}
	return string(b)
}

// scripted answers each head on a connection with the next answer, the last one
// again and again; it knows no bodies. A NUL at an answer's end hangs up after it.
// What it saw is sent to saw.
func scripted(saw chan<- string, answers ...string) func(net.Conn) {
	var next atomic.Int64
	return func(conn net.Conn) {
		read := bufio.NewReader(conn)
		for {
			var head strings.Builder
			for {
				line, err := read.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(line)
				if line == "\r\n" {
					break
				}
			}
			if saw != nil {
				saw <- head.String()
			}
			n := int(next.Add(1)) - 1
			if n >= len(answers) {
				n = len(answers) - 1
			}
			answer := answers[n]
			if answer == "" {
				return
			}
			if _, err := io.WriteString(conn, strings.TrimSuffix(answer, "\x00")); err != nil || strings.HasSuffix(answer, "\x00") {
				return
			}
		}
	}
}

// webApp is an application of net/http's.
func webApp(tb testing.TB, h http.Handler) func(net.Conn) {
	l := &handed{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h}
	var all sync.WaitGroup
	all.Go(func() { server.Serve(l) })
	tb.Cleanup(func() { server.Close(); all.Wait() })
	return func(c net.Conn) {
		gone := make(chan struct{})
		select {
		case l.conns <- &watched{Conn: c, gone: gone}:
			<-gone
		case <-l.done:
		}
	}
}

type watched struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (w *watched) Close() error { w.once.Do(func() { close(w.gone) }); return w.Conn.Close() }

type handed struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}
func (h *handed) Close() error   { h.once.Do(func() { close(h.done) }); return nil }
func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for by := time.Now().Add(soon); !holds(); {
		if time.Now().After(by) {
			tb.Fatalf("not in time: %s", what)
		}
		select {
		case <-tb.Context().Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}
