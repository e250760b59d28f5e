package http1

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const short = 20 * time.Millisecond

// Cases 63 and 65: each limit bites alone, is told once, and ends the connection.
func TestEachLimitBitesAndIsTold(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	chunked := post + "Transfer-Encoding: chunked\r\n\r\n"
	rows := map[Limit]struct {
		edit    func(*Limits)
		request string
		deny    bool
		answer  string // the application's
		status  string // what the client gets first; "" for nothing
	}{
		HeadLimit:          {func(l *Limits) { l.Head = 100 }, post + "X: " + strings.Repeat("y", 100) + "\r\n\r\n", false, ok, "431"},
		FieldsLimit:        {func(l *Limits) { l.Fields = 2 }, post + "X: y\r\nZ: z\r\n\r\n", false, ok, "431"},
		TrailerLimit:       {func(l *Limits) { l.Trailer = 20 }, chunked + "0\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", false, "", "400"},
		ExtensionLimit:     {func(l *Limits) { l.Extension = 5 }, chunked + "1;ab\r\nx\r\n1;ab\r\nx\r\n0\r\n\r\n", false, "", "400"},
		InformationalLimit: {func(l *Limits) { l.Informational = 1 }, get, false, "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok, "102"},
		DiscardLimit:       {func(l *Limits) { l.Discard = 10 }, post + "Content-Length: 11\r\n\r\n", true, ok, "403"},
		HeadTimeLimit:      {func(l *Limits) { l.HeadTime = short }, "GET / HT", false, ok, "408"},
		IdleLimit:          {func(l *Limits) { l.Idle = short }, get, false, ok, "200"},
		StallLimit:         {func(l *Limits) { l.Stall = short }, post + "Content-Length: 11\r\n\r\nx", false, "", ""},
	}
	for limit := range EachLimit {
		row, there := rows[limit]
		if limit == HalfOpenLimit {
			continue // TestATunnelThatIsHalfOpenEndsWhenItIsSilent
		}
		if !there {
			t.Errorf("no row for %s", limit)
			continue
		}
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			app := scripted(nil, row.answer)
			if row.answer == "" {
				app = func(c net.Conn) { io.Copy(io.Discard, c) }
			}
			w := newWorld(t, app, func(w *world) {
				row.edit(&w.relay.Limits)
				if row.deny {
					w.judge.decide = func(_ *Head, a *Action) { a.Verdict, a.Status = Answer, 403 }
				}
			})
			got := w.say(row.request)
			if row.status == "" && got != "" || row.status != "" && !strings.HasPrefix(got, "HTTP/1.1 "+row.status+" ") {
				t.Errorf("the client got %q", got)
			}
			for l := range EachLimit {
				want := int64(0)
				if l == limit {
					want = 1
				}
				if n := w.bitten[l].Load(); n != want {
					t.Errorf("%s has bitten %d times", l, n)
				}
			}
		})
	}
}

// A connection that says nothing from the start has no longer than a head has.
func TestASilentConnectionEndsWithTheTimeForAHead(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.relay.Limits.HeadTime = short })
	if got := w.say(""); got != "" {
		t.Errorf("got %q", got)
	}
	if w.bitten[HeadTimeLimit].Load() != 1 {
		t.Error("not told")
	}
}

// A slow head is bounded as a whole, not byte by byte.
func TestASlowHeadIsBoundedAsAWhole(t *testing.T) {
	w := newWorld(t, nil, func(w *world) { w.relay.Limits.HeadTime = 5 * short })
	conn := w.dial()
	over := make(chan string)
	go func() {
		b, _ := io.ReadAll(conn)
		over <- string(b)
	}()
	io.WriteString(conn, "GET / HTTP/1.1\r\nX: ")
	tick := time.NewTicker(short)
	defer tick.Stop()
	for {
		select {
		case got := <-over:
			if !strings.HasPrefix(got, "HTTP/1.1 408 ") {
				t.Errorf("got %q", got)
			}
			return
		case <-tick.C:
			io.WriteString(conn, "y")
		}
	}
}

// A client that does not take its answer ends with the exchange.
func TestAClientThatDoesNotReadItsAnswerIsLeft(t *testing.T) {
	w := newWorld(t, webApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, zeros{}) })), func(w *world) {
		w.relay.Limits.Stall = 5 * short
	})
	conn := w.dial()
	io.WriteString(conn, get)
	eventually(t, "the handler is told", func() bool { return len(w.judge.responses()) == 1 })
	if told := w.judge.responses()[0]; told != "1 200 -1 client" {
		t.Errorf("told %q", told)
	}
	if w.bitten[StallLimit].Load() != 1 {
		t.Error("not told")
	}
}

// A client that goes away while the application thinks is noticed.
func TestAClientThatGoesAwayEndsItsRequest(t *testing.T) {
	for body, watch := range map[string]time.Duration{
		get: time.Millisecond,
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx": time.Hour, // who sends the body notices
	} {
		t.Run(body[:4], func(t *testing.T) {
			over := make(chan struct{})
			w := newWorld(t, func(c net.Conn) {
				io.Copy(io.Discard, c)
				close(over)
			}, func(w *world) { w.relay.Limits.Watch = watch })
			conn := w.dial()
			io.WriteString(conn, body)
			eventually(t, "the application is reached", func() bool { return w.dials.Load() == 1 })
			conn.Close()
			<-over
			eventually(t, "the handler is told", func() bool { return len(w.judge.responses()) == 1 })
			if told := w.judge.responses()[0]; told != "1 0 -1 client" {
				t.Errorf("told %q", told)
			}
		})
	}
}

// What the watch for the client reads instead of its end is the next request.
func TestAnApplicationMayThinkAndTheConnectionGoesOn(t *testing.T) {
	think := make(chan struct{})
	w := newWorld(t, func(c net.Conn) {
		read := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(read); err != nil {
				return
			}
			<-think
			io.WriteString(c, ok)
		}
	}, func(w *world) { w.relay.Limits.Watch = time.Millisecond })
	for _, pipelined := range []bool{false, true} {
		conn := w.dial()
		read := bufio.NewReader(conn)
		for i := range 4 {
			if i == 0 || !pipelined {
				io.WriteString(conn, get)
			}
			c := w.last()
			eventually(t, "the client is watched", func() bool { return c.watched.Load() > int64(i) || pipelined && i > 0 })
			if pipelined && i == 0 {
				io.WriteString(conn, get+get+get)
			}
			think <- struct{}{}
			res, err := http.ReadResponse(read, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
		}
		conn.Close()
	}
}

// Drain: the request under way is answered, and says that it was the last; a
// connection without one ends at once.
func TestDrainEndsConnectionsBetweenRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, webApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, "done")
	})))
	idle, busy := w.dial(), w.dial()
	ask := func(conn net.Conn) *bufio.Reader {
		io.WriteString(conn, get)
		<-arrived
		return bufio.NewReader(conn)
	}
	read := ask(idle)
	release <- struct{}{}
	if res, err := http.ReadResponse(read, nil); err != nil || res.Close {
		t.Fatalf("%v, %v", res, err)
	} else {
		io.Copy(io.Discard, res.Body)
	}
	busyRead := ask(busy)
	w.mu.Lock()
	for _, c := range w.conns {
		c.Drain()
	}
	w.mu.Unlock()
	if _, err := read.ReadByte(); err != io.EOF {
		t.Errorf("idle: %v", err)
	}
	release <- struct{}{}
	res, err := http.ReadResponse(busyRead, nil)
	if err != nil || !res.Close {
		t.Fatalf("busy: %v, %v", res, err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "done" || err != nil {
		t.Errorf("busy: %q, %v", b, err)
	}
	if _, err := busyRead.ReadByte(); err != io.EOF {
		t.Errorf("busy, then: %v", err)
	}
	for l := range EachLimit {
		if w.bitten[l].Load() != 0 {
			t.Errorf("%s has bitten", l)
		}
	}
}

// Drain that sees no request where one has just begun does not end it.
func TestADrainThatComesTooLateEndsNoRequest(t *testing.T) {
	for first, rest := range map[string]string{
		"GET / HTTP/1.1\r\n": "Host: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nxx": "xxx",
	} {
		w := newWorld(t, webApp(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })))
		conn := w.dial()
		io.WriteString(conn, first)
		c := w.last()
		eventually(t, "a request is under way", func() bool { return c.busy.Load() && (first[0] == 'G' || w.dials.Load() == 1) })
		c.draining.Store(true)
		c.client.conn.SetReadDeadline(time.Unix(1, 0)) // as Drain would, had it looked before
		io.WriteString(conn, rest)
		if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
			t.Errorf("%q: got %q, %v", first, b, err)
		}
	}
}

// A connection that waits for a request holds no buffer.
func TestAWaitingConnectionHoldsNoBuffer(t *testing.T) {
	w := newWorld(t, scripted(nil, ok))
	conn := w.dial()
	read := bufio.NewReader(conn)
	for range 3 {
		io.WriteString(conn, get)
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
	}
	c := w.last()
	eventually(t, "the connection waits", func() bool { return !c.busy.Load() })
	// busy was the last that it wrote before it waited.
	if c.client.buf != nil || c.app.buf != nil || c.x != nil {
		t.Error("a buffer is held")
	}
}

// H-03: after 101, or 2xx to CONNECT, bytes pass both ways, also those that came
// with the heads, and each direction ends alone.
func TestTunnels(t *testing.T) {
	for _, row := range []struct{ name, request, answer, want string }{
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX: y\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"},
		{"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(row.name, late), func(t *testing.T) {
				watched := make(chan struct{})
				w := newWorld(t, func(c net.Conn) {
					read := bufio.NewReader(c)
					for {
						line, err := read.ReadString('\n')
						if err != nil {
							return
						}
						if line == "\r\n" {
							break
						}
					}
					if late {
						<-watched
					}
					io.WriteString(c, row.answer+"first,")
					io.Copy(c, read)
					io.WriteString(c, "last")
				}, func(w *world) { w.relay.Limits.Watch = time.Millisecond })
				conn := w.dial()
				io.WriteString(conn, row.request)
				if !late {
					io.WriteString(conn, "second,")
				} else {
					c := w.last()
					eventually(t, "the client is watched", func() bool { return c.watched.Load() > 0 })
					close(watched)
				}
				read := bufio.NewReader(conn)
				if got := make([]byte, len(row.want)+len("first,")); true {
					if _, err := io.ReadFull(read, got); err != nil || string(got) != row.want+"first," {
						t.Fatalf("got %q, %v", got, err)
					}
				}
				if late {
					io.WriteString(conn, "second,")
				}
				conn.(*net.TCPConn).CloseWrite()
				if got, err := io.ReadAll(read); err != nil || string(got) != "second,last" {
					t.Errorf("got %q, %v", got, err)
				}
				if told := fmt.Sprint(w.judge.responses()); !strings.HasSuffix(told, " -1 ok]") {
					t.Errorf("told %s", told)
				}
			})
		}
	}
}

// What is left of a tunnel ends when it is silent, and not before.
func TestATunnelThatIsHalfOpenEndsWhenItIsSilent(t *testing.T) {
	const silence, parts = 5 * short, 5
	over := make(chan struct{})
	defer close(over)
	w := newWorld(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: slow\r\n\r\n")
		io.Copy(io.Discard, c)
		tick := time.NewTicker(silence / 2)
		defer tick.Stop()
		for range parts {
			<-tick.C
			io.WriteString(c, "x")
		}
		<-over
	}, func(w *world) { w.relay.Limits.HalfOpen = silence })
	conn := w.dial()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: slow\r\n\r\n")
	read := bufio.NewReader(conn)
	if res, err := http.ReadResponse(read, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	conn.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(read)
	if isTimeout(err) || string(got) != strings.Repeat("x", parts) {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, "the limit is told", func() bool { return w.bitten[HalfOpenLimit].Load() == 1 })
}

// Over TLS, where nobody can wait without a buffer, everything is the same.
func TestOverTLS(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	think := make(chan struct{})
	w := newWorld(t, webApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/think" {
			<-think
		}
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})), func(w *world) {
		w.wrap = func(c net.Conn) net.Conn { return tls.Server(c, config) }
		w.relay.Limits.Watch = time.Millisecond
	})
	conn := tls.Client(w.dial(), &tls.Config{InsecureSkipVerify: true})
	read := bufio.NewReader(conn)
	for i, path := range []string{"/", "/think", "/", "/think", "/"} {
		body := strings.Repeat("x", 100_000*i)
		go fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		if path == "/think" {
			c := w.last()
			eventually(t, "the client is watched", func() bool { return c.watched.Load() > 0 })
			think <- struct{}{}
		}
		res, err := http.ReadResponse(read, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != body || err != nil {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	io.WriteString(conn, getLast)
	if b, err := io.ReadAll(read); err != nil || !strings.Contains(string(b), "\r\nConnection: close\r\n") {
		t.Errorf("in the end: %q, %v", b, err)
	}
}
