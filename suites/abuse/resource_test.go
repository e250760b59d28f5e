package abuse

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/internal/proxytest"
)

func resourceCases() []Case {
	return []Case{
		{Number: 63, Title: "slow heads and handshakes end, slow bodies and idle connections cost others nothing", Waits: true, Run: slow},
		{Number: 64, Title: "connections beyond a limit are refused, so that those that are open are served and watched", Run: descriptors,
			Shown: map[string][]string{"internal/mesh/proxy/inbound": {"TestEveryLimitBitesAndIsCounted", "TestConnectionsLeaveDescriptors", "TestAcceptingGoesOnWhenItCould"}}},
		{Number: 65, Title: "heads that are too long or have too many fields get 431", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			const long, many = 70 << 10, 1000
			fields := make([]string, many)
			for i := range fields {
				fields[i] = fmt.Sprintf("X-%d: y", i)
			}
			w.want(get("/public", "X: "+strings.Repeat("y", long)), http.StatusRequestHeaderFieldsTooLarge)
			w.want(get("/public", fields...), http.StatusRequestHeaderFieldsTooLarge)
			w.want(get("/public", strings.Repeat("X", long)+": y"), http.StatusRequestHeaderFieldsTooLarge)
			w.want("GET /"+strings.Repeat("y", long)+" HTTP/1.1\r\nHost: app\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong)
			for _, pairs := range [][]string{{"x", strings.Repeat("y", long)}, func() (pairs []string) {
				for i := range many {
					pairs = append(pairs, fmt.Sprintf("x-%d", i), "y")
				}
				return pairs
			}()} {
				h := w.h2()
				h.sync()
				h.streams[1] = &stream{fields: map[string]string{}}
				h.pieces(1, h.encode(head("/public", pairs...)))
				if s := h.wait(1); s.status() != http.StatusRequestHeaderFieldsTooLarge && s.reset == nil && h.goAway == nil {
					t.Errorf("HTTP/2: status %d", s.status())
				}
				h.Close()
			}
			w.unasked()
			w.alive()
		}},
		{Number: 66, Title: "half-open, reset and silent connections leave nothing behind", Waits: true, Run: leftovers},
		{Number: 67, Title: "what clients send cannot make lines of the log", Run: logLines},
		{Number: 68, Title: "hosts, paths, methods and fields make no series; identities' are forgotten", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			ask := func(n int) {
				w.ask(get("/admin"))
				w.ask(get("/public"))
				w.ask(fmt.Sprintf("M%d /public HTTP/1.1\r\nHost: app\r\n\r\n", n))
				for i := range n {
					w.ask(fmt.Sprintf("M%d /%d/%d HTTP/1.1\r\nHost: h%d.example\r\nUser-Agent: u%d\r\nX-%d: y\r\n\r\n", i, i, i, i, i, i))
					w.ask(get(fmt.Sprintf("/admin/%d", i), fmt.Sprintf("l5d-client-id: c%d", i)))
				}
			}
			ask(1)
			before := len(w.metrics(""))
			const clients = 150
			ask(clients)
			// What is counted per status or per kind may appear the first time.
			const new = 20
			if after := len(w.metrics("")); after-before > new {
				t.Errorf("%d series have become %d", before, after)
			}
		}, Shown: map[string][]string{"internal/mesh/proxy/inbound": {"TestIdleSeriesAreForgottenAfterTenMinutes", "TestNoUseIsLostToASeriesThatIsForgotten"}}},
	}
}

// latency is the median of what a request takes.
func (w *world) latency() time.Duration {
	w.Helper()
	c := w.dial()
	defer c.Close()
	var took []time.Duration
	const requests = 101
	for range requests {
		began := time.Now()
		c.send(get("/public"))
		w.is("beside slow clients", c.read("GET"), http.StatusOK)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[requests/2]
}

func slow(t *T) {
	w := newWorld(t, guarded(proxytest.HTTP1), env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT=1s"))
	alone := w.latency()
	const each = 40
	var hello flightOf
	tls.Client(&hello, w.tlsConfig(nil)).Handshake()
	opened := map[string][]*client{}
	for range each {
		for what, first := range map[string]string{
			"head": "GET /public HTTP/1.1\r\nHost: app\r\nX: ", "handshake": string(hello.sent[:20]), "whole hello": hello.sent.String(), "body": "POST /public HTTP/1.1\r\nHost: app\r\nContent-Length: 1000\r\n\r\n", "idle": "",
		} {
			c := w.dial()
			c.patient(2 * soon)
			c.send(first)
			opened[what] = append(opened[what], c)
		}
	}
	// A byte at a time, until the proxy has had enough.
	stop := make(chan struct{})
	var dribbling sync.WaitGroup
	for _, what := range []string{"head", "body"} {
		for _, c := range opened[what] {
			dribbling.Go(func() {
				ticker := time.NewTicker(within)
				defer ticker.Stop()
				for {
					select {
					case <-ticker.C:
						c.send("y")
					case <-stop:
						return
					}
				}
			})
		}
	}
	const factor, noise = 1.5, 2 * time.Millisecond
	if beside := w.latency(); float64(beside) > factor*float64(alone)+float64(noise) {
		t.Errorf("others wait %v, alone %v", beside, alone)
	}
	for _, what := range []string{"head", "handshake", "whole hello"} {
		for _, c := range opened[what] {
			b, err := io.ReadAll(c.in)
			var timeout net.Error
			if asTimeout(err, &timeout) {
				t.Errorf("a slow %s was not closed", what)
				break
			}
			if bytes.Contains(b, []byte("HTTP/1.1 200")) {
				t.Errorf("a slow %s was answered", what)
			}
		}
	}
	close(stop)
	dribbling.Wait()
	w.alive()
}

func asTimeout(err error, into *net.Error) bool {
	n, ok := err.(net.Error)
	if ok {
		*into = n
	}
	return ok && n.Timeout()
}

// flightOf keeps what a TLS client sends first.
type flightOf struct {
	net.Conn
	sent bytesOf
}

type bytesOf []byte

func (b bytesOf) String() string { return string(b) }

func (f *flightOf) Write(p []byte) (int, error) { f.sent = append(f.sent, p...); return len(p), nil }
func (f *flightOf) Read([]byte) (int, error)    { return 0, io.EOF }
func (f *flightOf) Close() error                { return nil }
func (f *flightOf) SetDeadline(time.Time) error { return nil }

func (f *flightOf) SetWriteDeadline(time.Time) error { return nil }

func descriptors(t *T) {
	const limit, idle = 256, 600
	w := newWorld(t, guarded(proxytest.HTTP1), func(o *proxytest.Options) {
		o.Wrap = []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit)}
	})
	existing, waiting := w.dial(), w.dial()
	existing.send(get("/public"))
	w.is("before", existing.read("GET"), http.StatusOK)
	var conns []net.Conn
	for range idle {
		conn, err := proxytest.Dialer(proxytest.Neighbour).Dial("tcp", w.at)
		if err != nil {
			break // refused is as good
		}
		conns = append(conns, conn)
	}
	refused := func() float64 {
		return w.metrics("inbound_limits_total")[`inbound_limits_total{limit="connections",part="inbound"}`]
	}
	w.eventually("connections are refused, which the metrics tell meanwhile", func() bool { return refused() > float64(len(conns))/2 })
	before := w.cpu()
	for range 20 {
		existing.patient(patience)
		existing.send(get("/public"))
		w.is("beside the flood", existing.read("GET"), http.StatusOK)
	}
	waiting.patient(patience)
	waiting.send(get("/public"))
	w.is("a first request, which needs the application", waiting.read("GET"), http.StatusOK)
	const spin = 500 * time.Millisecond
	if spent := w.cpu() - before; spent > spin {
		t.Errorf("twenty requests beside the flood took %v of processor: accept spins", spent)
	}
	const spare = 64
	if n := w.files(); n > limit-spare {
		t.Errorf("%d of %d descriptors are in use", n, limit)
	}
	for _, conn := range conns {
		conn.Close()
	}
	w.eventually("new clients are served again", func() bool {
		c := w.dial()
		defer c.Close()
		c.send(get("/public"))
		return c.read("GET").status == http.StatusOK
	})
}

// goroutines ends the proxy with a signal that has it print its stacks, and counts them.
func (w *world) goroutines() int {
	w.Helper()
	w.ending.Store(true)
	w.proxy.Signal(syscall.SIGQUIT)
	<-w.proxy.Ended()
	return strings.Count(w.log.String(), "\ngoroutine ")
}

func leftovers(t *T) {
	calm := newWorld(t, guarded(detect), shortDetection)
	calm.alive()
	w := newWorld(t, guarded(detect), shortDetection)
	w.alive()
	w.eventually("the first connection ends", func() bool { return w.app.open() == 0 && calm.app.open() == 0 })
	base := w.files()
	const each = 60
	for i := range each {
		for _, first := range []string{"", "G", "GET /public HTTP/1.1\r\n", get("/public"), preface, "\x16\x03\x01\x02\x00\x01", "POST /public HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n\r\nx", get("/admin")} {
			c := w.dial()
			c.send(first)
			tcp := c.Conn.(*net.TCPConn)
			switch i % 3 {
			case 0:
				tcp.SetLinger(0)
				c.Close()
			case 1:
				c.Close()
			case 2:
				tcp.CloseWrite()
			}
		}
	}
	w.eventually("its descriptors are as many as before", func() bool { return w.files() <= base+2 })
	w.eventually("the application's connections have ended", func() bool { return w.app.open() == 0 })
	w.alive()
	w.eventually("the last connection ends", func() bool { return w.app.open() == 0 })
	const few = 3
	if quiet, now := calm.goroutines(), w.goroutines(); now > quiet+few || quiet == 0 {
		t.Errorf("%d goroutines, a proxy that was left alone has %d", now, quiet)
	}
}

func logLines(t *T) {
	w := newWorld(t, guarded(detect))
	const marker = `{"level":"INFO","msg":"forged"}`
	for _, target := range []string{"/admin%0d%0a" + marker, "/admin/%1b[31m" + "x", "/admin?a=%0a" + "x", `/admin/"},{"x`, "/admin/\x1b[2J", "/admin?\x1b[2J\u2028", "/admin/%e2%80%a8"} {
		w.ask(get(target, "User-Agent: \x1b[31m"+marker, "X: "+marker))
		w.ask("GET " + target + " HTTP/1.1\r\nHost: \x1b[31mapp\r\n\r\n")
		h := w.h2()
		h.get(target, "x", marker)
		h.Close()
		h = w.h2()
		h.get("/admin\r\n"+marker+"\n", ":authority", "app\n"+marker)
		h.Close()
	}
	// An identity and a server name with line ends.
	leaf, err := w.plane.CA.MakeLeaf(webID+"\n"+marker, nil, nil)
	if err == nil {
		if c, err := w.handshake(w.dial(), w.tlsConfig(&leaf)); err == nil {
			c.send(get("/admin"))
			c.read("GET")
		}
	}
	config := w.tlsConfig(nil)
	config.ServerName = "x\n" + marker
	w.handshake(w.dial(), config)
	w.alive()
	for line := range strings.Lines(w.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("a line that is not the proxy's: %q", line)
			continue
		}
		if entry["msg"] == "forged" {
			t.Errorf("a forged line: %q", line)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			t.Errorf("a control character in %q", line)
		}
	}
}
