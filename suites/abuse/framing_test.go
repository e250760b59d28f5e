package abuse

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/proxytest"
)

// smuggled is what must never be taken for a request.
const smuggled = "GET /admin/smuggled HTTP/1.1\r\nHost: app\r\nX-Smuggled: yes\r\n\r\n"

// framed sends each request with a smuggled one behind it and wants that it is
// refused, that the connection closes, and that the application saw nothing.
func framed(t *T, requests ...string) {
	t.Helper()
	for _, server := range []string{"HTTP/1", "detect"} {
		policy := guarded(detect)
		if server == "HTTP/1" {
			policy = guarded(proxytest.HTTP1)
		}
		w := newWorld(t, policy)
		for _, raw := range requests {
			c := w.dial()
			c.send(raw)
			a := c.read("GET")
			what := fmt.Sprintf("%s: %.150q", server, raw)
			if a.status != http.StatusBadRequest && a.status != http.StatusNotImplemented && a.status != http.StatusRequestHeaderFieldsTooLarge && a.status != http.StatusHTTPVersionNotSupported && !(server == "detect" && a.status == 0) {
				t.Errorf("%s: status %d (%v), want 400", what, a.status, a.err)
			}
			c.patient(settled)
			rest, _ := io.ReadAll(c.in)
			if bytes.Contains(rest, []byte("HTTP/1.1 2")) || bytes.Contains(rest, []byte("HTTP/1.1 403")) {
				t.Errorf("%s: what followed was answered: %.100q", what, rest)
			}
			c.Close()
			if seen := w.app.seen(); len(seen) > 0 {
				t.Errorf("%s: the application saw %s %s", what, seen[len(seen)-1].method, seen[len(seen)-1].target)
				w.app.forget()
			}
		}
		w.alive()
	}
}

// forget drops what was seen, once it has been told.
func (a *app) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = nil
}

// post is a POST with these fields, exactly as given, and what follows the head.
func post(after string, fields ...string) string {
	return "POST /public HTTP/1.1\r\nHost: app\r\n" + lined(fields) + "\r\n" + after
}

func framingCases() []Case {
	chunks := "5\r\nhello\r\n0\r\n\r\n"
	return []Case{
		{Number: 39, Title: "lengths and codings that disagree or are no coding: 400 and close", Run: func(t *T) {
			framed(t,
				post(chunks+smuggled, "Content-Length: 5", "Transfer-Encoding: chunked"),
				post(chunks+smuggled, "Transfer-Encoding: chunked", "Content-Length: 5"),
				post(chunks+smuggled, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
				post(chunks+smuggled, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
				post(chunks+smuggled, "Transfer-Encoding : chunked"),
				post(chunks+smuggled, "Transfer-Encoding: xchunked"),
				post(chunks+smuggled, "Transfer-Encoding: chunked, identity"),
				post(chunks+smuggled, "Transfer-Encoding: identity, chunked"),
				post(chunks+smuggled, "Transfer-Encoding: chunked, chunked"),
				post(chunks+smuggled, "Transfer-Encoding: \x0bchunked"),
				post(chunks+smuggled, "Transfer-Encoding: chunked;q=1"),
				post(chunks+smuggled, "Transfer-Encoding: \"chunked\""),
				post(chunks+smuggled, "Transfer-Encoding:"),
				post(chunks+smuggled, "Transfer-Encoding:  chunked"),
				post(chunks+smuggled, "Transfer-Encoding:\tchunked"),
				post(chunks+smuggled, "Transfer-Encoding: ,chunked"),
				post(chunks+smuggled, "Transfer-Encoding: gzip, chunked"),
				post(chunks+smuggled, " Transfer-Encoding: chunked"),
				post(chunks+smuggled, "X: y", "\tTransfer-Encoding: chunked"),
				post(chunks+smuggled, "Transfer-Encoding\x00: chunked"),
				"POST /public HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks+smuggled,
			)
		}},
		{Number: 40, Title: "lengths that are not one plain number: 400", Run: func(t *T) {
			var requests []string
			for _, length := range []string{"+5", "-5", "5,5", "5, 5", "5 5", "0x5", "5.0", "", "12345678901234567890", "5\x00", "5;", "0_5", "\xb5", "18446744073709551621"} {
				requests = append(requests, post("hello"+smuggled, "Content-Length: "+length))
			}
			requests = append(requests,
				post("hello"+smuggled, "Content-Length: 5", "Content-Length: 6"),
				post("hello"+smuggled, "Content-Length: 5", "content-length: 5"),
				post("hello"+smuggled, "Content-Length: 5", "Content-Length: 0"),
				post("hello"+smuggled, "Content-Length : 5"),
				post("hello"+smuggled, "Content-Length:\x0b5"),
				post("hello"+smuggled, "Content-Length:  5"),
				post("hello"+smuggled, "Content-Length:\t5"),
			)
			framed(t, requests...)
		}},
		{Number: 41, Title: "line ends, folds, spaces and bytes that some read otherwise: 400", Run: func(t *T) {
			framed(t,
				"GET /public HTTP/1.1\nHost: app\n\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: y\n\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: y\rGET /admin HTTP/1.1\r\n\r\n",
				"GET /public HTTP/1.1\r\nHost: app\r\nX: y\r\n z\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: y\r\n\tz\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost : app\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX\t: y\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\n: y\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nnocolon\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: a\x00b\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: a\x01b\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: a\x7fb\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX\x80: b\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX(: b\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\nHost: app\r\nX: y\r\r\n\r\n"+smuggled,
				"GET  /public HTTP/1.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public  HTTP/1.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1 \r\nHost: app\r\n\r\n"+smuggled,
				"GET\t/public HTTP/1.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public /admin HTTP/1.1\r\nHost: app\r\n\r\n"+smuggled,
				" GET /public HTTP/1.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1\r\n Host: app\r\n\r\n"+smuggled,
				"GET /public HTTP/1.2\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public HTTP/2.0\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public HTTP/01.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public http/1.1\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public HTTP/1.1x\r\nHost: app\r\n\r\n"+smuggled,
				"GET /public\r\n\r\n"+smuggled,
			)
		}},
		{Number: 42, Title: "chunks that are not exactly chunks: 400 or close, nothing behind them is a request", Run: chunked},
		{Number: 43, Title: "pipelined requests are each judged alone, and answered in order", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			c := w.dial()
			var paths []string
			var want []int
			const requests = 40
			raw := ""
			for i := range requests {
				path, status := fmt.Sprintf("/public/%d", i), http.StatusOK
				if i%3 == 1 {
					path, status = fmt.Sprintf("/admin/%d", i), http.StatusForbidden
				} else {
					paths = append(paths, path)
				}
				if i%5 == 2 {
					raw += "POST " + path + " HTTP/1.1\r\nHost: app\r\nContent-Length: 3\r\n\r\nabc"
				} else {
					raw += get(path)
				}
				want = append(want, status)
			}
			c.send(raw)
			for i, status := range want {
				a := c.read("GET")
				if a.status != status || status == http.StatusOK && a.body != fmt.Sprintf("/public/%d", i) {
					t.Fatalf("answer %d: status %d, body %q, want %d", i, a.status, a.body, status)
				}
			}
			var seen []string
			for _, r := range w.app.seen() {
				seen = append(seen, r.target)
			}
			if !slices.Equal(seen, paths) {
				t.Errorf("the application saw %v, want %v", seen, paths)
			}
		}},
		{Number: 44, Title: "the body of a denied request is never parsed as a request", Run: deniedBodies},
		{Number: 45, Title: "trailers that frame, route or identify are dropped", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			forbidden := []string{"Host: evil", "Content-Length: 99", "Transfer-Encoding: chunked", "l5d-client-id: " + adminID, "L5d-Dst-Override: x", "Authorization: x", "Connection: close", "Content-Type: text/x", "X-Forwarded-For: 127.0.0.1"}
			names := ""
			for _, f := range forbidden {
				name, _, _ := strings.Cut(f, ":")
				names += name + ","
			}
			for _, announced := range []string{"", "Trailer: " + names + "X-Kept\r\n"} {
				a := w.ask("POST /public HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n" + announced + "\r\n5\r\nhello\r\n0\r\n" + lined(forbidden) + "X-Kept: 1\r\n\r\n")
				w.is("trailers", a, http.StatusOK, http.StatusBadRequest)
				if a.status != http.StatusOK {
					continue
				}
				for name := range w.app.last(t).trailer {
					if name != "X-Kept" {
						t.Errorf("the application saw the trailer %s", name)
					}
				}
				if r := w.app.last(t); r.host != "app" || r.body != 5 {
					t.Errorf("the application saw %d bytes of %q", r.body, r.host)
				}
			}
		}},
		{Number: 46, Title: "naming fields in Connection takes away neither identity nor authorization", Run: func(t *T) {
			w := newWorld(t, guarded(detect))
			c := w.meshed(webID)
			c.send("POST /public HTTP/1.1\r\nHost: app\r\nConnection: keep-alive, X-Hop, authorization, Cookie, l5d-client-id, Host, Content-Length, X-Forwarded-For\r\nAuthorization: Bearer x\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nX-Hop: 1\r\nX-Stays: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")
			w.is("POST", c.read("POST"), http.StatusOK)
			r := w.app.last(t)
			for name, want := range map[string]string{"Authorization": "Bearer x", "Cookie": "a=b", "L5d-Client-Id": webID, "Host": "app", "X-Forwarded-For": "10.0.0.1", "X-Stays": "1", "X-Hop": "", "Keep-Alive": "", "Proxy-Connection": ""} {
				if got := strings.Join(r.header[name], ","); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if r.body != 5 {
				t.Errorf("the application read %d bytes of the body", r.body)
			}
		}},
		{Number: 47, Title: "whatever the application answers, the next request never gets it", Run: answers},
		{Number: 48, Title: "connections to the application are never shared between clients", Run: unshared},
	}
}

func chunked(t *T) {
	w := newWorld(t, guarded(proxytest.HTTP1))
	for _, after := range []string{
		"5\nhello\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n0\r\n\n",
		"+5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n",
		"10000000000000005\r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "8000000000000000\r\nhello\r\n0\r\n\r\n",
		strings.Repeat("0", 1_000_000) + "5\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n", "5\r\nhell\r\n0\r\n\r\n", "5\r\rhello\r\n0\r\n\r\n",
		strings.Repeat("1;"+strings.Repeat("e", 4000)+"\r\na\r\n", 200) + "0\r\n\r\n",
		"5;\nx\r\nhello\r\n0\r\n\r\n", "5;a=\"\r\nhello\r\n0\r\n\r\n\"\r\n0\r\n\r\n", "5;\x00\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n", "5\r\nhello\r\n0\r\n bad: x\r\n\r\n", "5\r\nhello\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 500) + "\r\n",
		"g\r\nhello\r\n0\r\n\r\n",
	} {
		c := w.dial()
		go c.send("POST /public HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n" + after + smuggled)
		first := c.read("POST")
		what := fmt.Sprintf("%.60q", after)
		if first.status == http.StatusOK && first.err == nil {
			t.Errorf("%s: accepted", what)
		}
		c.patient(settled)
		if second := c.read("GET"); second.status != 0 {
			t.Errorf("%s: what followed was answered with %d", what, second.status)
		}
		c.Close()
		for _, r := range w.app.seen() {
			if r.method == "GET" {
				t.Errorf("%s: the application saw %s %s", what, r.method, r.target)
			}
		}
		w.app.forget()
	}
	w.alive()
}

func deniedBodies(t *T) {
	w := newWorld(t, guarded(detect))
	// Small: drained, and the connection may go on; what follows is a request of its own.
	c := w.dial()
	body := get("/public/in-body")
	c.send(fmt.Sprintf("POST /admin HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n%s", len(body), body) + get("/public/after"))
	w.is("denied", c.read("POST"), http.StatusForbidden)
	if a := c.read("GET"); a.status != 0 && a.body != "/public/after" {
		t.Errorf("after a denied request: status %d, body %q", a.status, a.body)
	}
	// Chunked, and large: never parsed.
	c = w.dial()
	c.send("POST /admin HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) + get("/public/after"))
	w.is("denied", c.read("POST"), http.StatusForbidden)
	if a := c.read("GET"); a.status != 0 && a.body != "/public/after" {
		t.Errorf("after a denied chunked request: status %d, body %q", a.status, a.body)
	}
	// What comes only after the denial is its body all the same.
	for how, parts := range map[string][2]string{
		"length":  {fmt.Sprintf("Content-Length: %d", len(body)), body},
		"chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)},
	} {
		c = w.dial()
		c.send("POST /admin HTTP/1.1\r\nHost: app\r\n" + parts[0] + "\r\n\r\n")
		w.is("denied before its body came, "+how, c.read("POST"), http.StatusForbidden)
		c.send(parts[1] + get("/public/after"))
		if a := c.read("GET"); a.status != 0 && a.body != "/public/after" {
			t.Errorf("%s, after a denied request whose body came late: status %d, body %q", how, a.status, a.body)
		}
	}
	const large = 8 << 20
	c = w.dial()
	go func() {
		c.send(fmt.Sprintf("POST /admin HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n", large))
		piece := strings.Repeat(get("/public/in-body"), 1000)
		for sent := 0; sent < large; sent += len(piece) {
			if _, err := io.WriteString(c.Conn, piece); err != nil {
				return
			}
		}
	}()
	w.is("denied, large", c.read("POST"), http.StatusForbidden)
	if a := c.read("GET"); a.status == http.StatusOK {
		t.Errorf("a part of a denied body was answered")
	}
	for _, r := range w.app.seen() {
		if strings.Contains(r.target, "in-body") || r.method == "POST" {
			t.Errorf("the application saw %s %s", r.method, r.target)
		}
	}
	// A promise of a body is not asked for when the request is denied.
	c = w.dial()
	c.send("POST /admin HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := c.in.ReadString('\n'); !strings.Contains(line, " 403 ") {
		t.Errorf("answered with %q", line)
	}
}

func answers(t *T) {
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"
	poison := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for what, raw := range map[string]string{
		"two answers":                  ok + poison,
		"a body after HEAD":            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + poison,
		"a body after 204":             "HTTP/1.1 204 No Content\r\nContent-Length: 65\r\n\r\n" + poison,
		"a body after 304":             "HTTP/1.1 304 Not Modified\r\n\r\n" + poison,
		"101 unasked":                  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + poison,
		"a flood of 1xx":               strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 5000) + ok + poison,
		"lengths that differ":          "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nmine" + poison,
		"length and coding":            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n" + poison,
		"a coding that is none":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n" + poison,
		"a chunk that lies":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmineXX0\r\n\r\n" + poison,
		"no answer at all":             "garbage\r\n\r\n" + poison,
		"line feeds":                   "HTTP/1.1 200 OK\nContent-Length: 4\n\nmine" + poison,
		"a field that breaks the line": "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 4\r\n\r\nmine" + poison,
		"a shorter body, then its end": "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nmine",
	} {
		t.Run(what, func(t *T) {
			w := newWorld(t, guarded(detect))
			w.app.answer = func(c net.Conn, r *request) bool {
				if r.target == "/next" {
					_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n/next")
					return err == nil
				}
				io.WriteString(c, raw)
				return false
			}
			method := "GET"
			if strings.Contains(what, "HEAD") {
				method = "HEAD"
			}
			for range 2 { // alone, and with the next request behind it
				c := w.dial()
				c.send(method + " /first HTTP/1.1\r\nHost: app\r\n\r\n" + get("/next"))
				c.patient(time.Second)
				c.read(method)
				c.patient(settled)
				if a := c.read("GET"); strings.Contains(a.body, "poison") || a.status == http.StatusOK && a.body != "/next" {
					t.Errorf("%s: the next request got %d %q", what, a.status, a.body)
				}
				c.patient(settled)
				rest, _ := io.ReadAll(io.LimitReader(c.in, 1<<10))
				if bytes.Contains(rest, []byte("poison")) {
					t.Errorf("%s: the connection carried %q", what, rest)
				}
				c.Close()
			}
			w.want(get("/next"), http.StatusOK)
		})
	}
	t.Run("an answer before the end of the request", func(t *T) {
		for how, length := range map[string]string{"length": "Content-Length: 400", "chunked": "Transfer-Encoding: chunked"} {
			w := newWorld(t, guarded(detect))
			w.app.hasty = func(c net.Conn, r *request) bool {
				if r.method != "POST" {
					return false
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
				return true
			}
			c := w.dial()
			c.send("POST /public HTTP/1.1\r\nHost: app\r\n" + length + "\r\n\r\n")
			if a := c.read("POST"); a.status != http.StatusOK || a.body != "early" {
				t.Errorf("%s: status %d, body %q", how, a.status, a.body)
			}
			// What comes now is the rest of the body, whatever it looks like.
			c.send(get("/public/in-body") + smuggled)
			c.patient(settled)
			if a := c.read("GET"); a.status != 0 {
				t.Errorf("%s: a body was answered with %d %q", how, a.status, a.body)
			}
			for _, r := range w.app.seen() {
				if r.method == "GET" {
					t.Errorf("%s: the application saw %s %s", how, r.method, r.target)
				}
			}
			w.alive()
		}
	})
	t.Run("an answer before the end of the request, whose rest comes", func(t *T) {
		w := newWorld(t, guarded(detect))
		w.app.hasty = func(c net.Conn, r *request) bool {
			if r.method == "POST" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
			}
			return r.method == "POST"
		}
		c := w.dial()
		c.send("POST /public HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhe")
		if a := c.read("POST"); a.body != "early" {
			t.Errorf("status %d, body %q", a.status, a.body)
		}
		c.send("llo" + get("/next"))
		if a := c.read("GET"); a.status != 0 && a.body != "/next" {
			t.Errorf("the next request got %q", a.body)
		}
	})
}

func unshared(t *T) {
	w := newWorld(t, guarded(detect))
	w.app.answer = func(c net.Conn, r *request) bool {
		text := fmt.Sprintf("%d %s", r.conn, r.header.Get("L5d-Client-Id"))
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		return err == nil
	}
	owner := map[string]string{}
	for range 5 {
		for _, id := range []string{webID, adminID, "other" + suffix} {
			c := w.meshed(id)
			for range 2 {
				c.send(get("/public"))
				conn, told, _ := strings.Cut(c.read("GET").body, " ")
				if told != id {
					t.Errorf("%s was told as %s", id, told)
				}
				if of, ok := owner[conn]; ok && of != c.LocalAddr().String() {
					t.Errorf("connection %s of the application served %s and %s", conn, of, c.LocalAddr())
				}
				owner[conn] = c.LocalAddr().String()
			}
			c.Close()
		}
	}
	w.eventually("the application's connections end with the clients'", func() bool { return w.app.open() == 0 })
}

// settled is how long nothing must come for it not to come: what is wrongly
// answered is answered at once.
const settled = 250 * time.Millisecond
