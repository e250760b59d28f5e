package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	get     = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	getLast = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)

// Case 47: two requests on one connection, and what the client gets. An answer
// that is none, or that more comes after, never reaches the next request.
func TestAnAnswerNeverReachesAnotherRequest(t *testing.T) {
	const (
		badGateway = "HTTP/1.1 502 Bad Gateway\r\n"
		second     = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
	)
	long := strings.Repeat("y", DefaultHead)
	for _, row := range []struct {
		name, answer string
		// first is how the first answer begins; "" is ok's own. Then the connection goes on with ok.
		first string
		// ends: the client's connection ends with it.
		ends bool
		// dials is how many connections the application got.
		dials int64
	}{
		{"two answers", ok + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother", ok, false, 2},
		{"more than its length", ok + "!", ok, false, 2},
		{"a body with 204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nother", "HTTP/1.1 204 No Content\r\n\r\n", false, 2},
		{"204 that says it has a body", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", false, 2},
		{"204 that says it has none", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", false, 1},
		{"1xx that says it has a body", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + ok, badGateway, true, 1},
		{"a body with 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nother", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 2},
		{"304 without body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 1},
		{"1xx before", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + ok, false, 1},
		{"101 unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", badGateway, true, 1},
		{"1xx flood", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000), "HTTP/1.1 102 Processing\r\n", true, 1},
		{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", badGateway, true, 1},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", badGateway, true, 1},
		{"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", badGateway, true, 1},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi", badGateway, true, 1},
		{"folded line", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", badGateway, true, 1},
		{"control in a value", "HTTP/1.1 200 OK\r\nX: \x01\r\n\r\n", badGateway, true, 1},
		{"no status", "HTTP/1.1 OK\r\n\r\n", badGateway, true, 1},
		{"status 099", "HTTP/1.1 099 No\r\n\r\n", badGateway, true, 1},
		{"status 600", "HTTP/1.1 600 No\r\n\r\n", badGateway, true, 1},
		{"status 2000", "HTTP/1.1 2000 No\r\n\r\n", badGateway, true, 1},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", badGateway, true, 1},
		{"no HTTP", "hello\r\n\r\n", badGateway, true, 1},
		{"a head beyond the limit", "HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n", badGateway, true, 1},
		{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 200) + "\r\n", badGateway, true, 1},
		{"half a head", "HTTP/1.1 200 OK\r\nX: y\x00", badGateway, true, 1},
		{"a malformed first chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", badGateway, true, 1},
		{"no answer", "\x00", badGateway, true, 1},
		{"no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", false, 1},
		{"hop-by-hop fields", "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: y\r\nl5d-orig-proto: z\r\nSet-Cookie: \xff\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nSet-Cookie: \xff\r\nContent-Length: 2\r\n\r\nhi", false, 1},
		{"the application ends its connection", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi\x00", ok, false, 2},
		{"an old application", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi\x00", ok, false, 2},
		{"an old application that stays", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", ok, false, 1},
		{"to the connection's end", "HTTP/1.1 200 OK\r\n\r\nhello\x00", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true, 1},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nSum: 1\r\nContent-Length: 5\r\nGrpc-Status: 7\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nSum: 1\r\nGrpc-Status: 7\r\n\r\n", false, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, scripted(nil, row.answer, ok))
			// POST is not sent again.
			got := w.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + getLast)
			rest, found := strings.CutPrefix(got, row.first)
			if !found {
				t.Fatalf("the client got %q", got)
			}
			if !row.ends && rest != second {
				t.Errorf("then the client got %q", rest)
			}
			if row.ends && strings.Contains(rest, "hi") {
				t.Errorf("the connection went on: %q", got)
			}
			if got := w.dials.Load(); got != row.dials {
				t.Errorf("%d connections to the application, want %d", got, row.dials)
			}
			if row.name == "chunks" {
				if told := w.judge.responses(); told[0] != "1 200 7 ok" {
					t.Errorf("told %q", told)
				}
			}
			if strings.HasPrefix(row.first, badGateway) {
				if told := w.judge.responses(); len(told) != 1 || told[0] != "1 502 -1 application" {
					t.Errorf("told %q", told)
				}
			}
		})
	}
}

// The body that an answer to HEAD describes does not come, and what comes is not
// the next answer.
func TestAnAnswerToHeadHasNoBody(t *testing.T) {
	w := newWorld(t, scripted(nil, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ok))
	got := w.say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + getLast)
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"; got != want {
		t.Errorf("got %q", got)
	}
}

// Half an answer must not look whole: the client sees a reset, or too few bytes.
func TestAnAnswerThatBreaksOffIsNotMadeWhole(t *testing.T) {
	for name, row := range map[string]struct {
		answer string
		reset  bool // the application's connection ends with a reset
	}{
		"length":           {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", false},
		"chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false},
		"malformed chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n", false},
		"to the end":       {"HTTP/1.1 200 OK\r\n\r\nhello", true},
	} {
		t.Run(name, func(t *testing.T) {
			more := make(chan struct{})
			w := newWorld(t, func(c net.Conn) {
				io.ReadAtLeast(c, make([]byte, 100), len(get))
				head, body, _ := strings.Cut(row.answer, "hello")
				io.WriteString(c, head+"hel")
				<-more // the head is with the client
				io.WriteString(c, "lo"+body)
				if row.reset {
					<-more
					c.(*net.TCPConn).SetLinger(0)
				}
			})
			conn := w.dial()
			io.WriteString(conn, get)
			read := bufio.NewReader(conn)
			res, err := http.ReadResponse(read, nil)
			if err != nil {
				t.Fatal(err)
			}
			more <- struct{}{}
			if row.reset {
				io.ReadFull(res.Body, make([]byte, 5))
				more <- struct{}{}
			}
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("the answer ended well: %q", b)
			} else if isTimeout(err) {
				t.Error("the answer did not end")
			}
			eventually(t, "the handler is told", func() bool { return len(w.judge.responses()) == 1 })
			if told := w.judge.responses()[0]; told != "1 200 -1 application" {
				t.Errorf("told %q", told)
			}
		})
	}
}

// N-10: an application that is not there, and the requests that are sent again
// when a connection that was kept has ended.
func TestARequestIsSentAgainOnlyWhenThatIsSafe(t *testing.T) {
	for _, row := range []struct {
		request string
		again   bool
	}{
		{get, true},
		{"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", true},
		{"POST / HTTP/1.1\r\nHost: a\r\n\r\n", false},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", false},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false},
	} {
		t.Run(strings.Fields(row.request)[0], func(t *testing.T) {
			w := newWorld(t, scripted(nil, ok, "", ok))
			conn := w.dial()
			read := bufio.NewReader(conn)
			ask := func(request string) int {
				io.WriteString(conn, request)
				res, err := http.ReadResponse(read, nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				return res.StatusCode
			}
			if got := ask(get); got != 200 {
				t.Fatalf("first: %d", got)
			}
			want := map[bool]int{true: 200, false: 502}[row.again]
			if got := ask(row.request); got != want {
				t.Errorf("second: %d, want %d", got, want)
			}
		})
	}
}

// What ended while nothing was under way is found before the next request is sent.
func TestAConnectionThatEndedWhileIdleIsNotUsed(t *testing.T) {
	for name, then := range map[string]string{"it ended": "", "something came": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"} {
		t.Run(name, func(t *testing.T) {
			answered, over := make(chan struct{}), make(chan struct{})
			var conns atomic.Int64
			w := newWorld(t, func(c net.Conn) {
				read := bufio.NewReader(c)
				http.ReadRequest(read)
				io.WriteString(c, ok)
				if conns.Add(1) == 1 {
					<-answered
					if then == "" {
						c.Close()
					}
					io.WriteString(c, then)
					close(over)
				}
				io.Copy(io.Discard, read)
			})
			conn := w.dial()
			read := bufio.NewReader(conn)
			for range 2 {
				io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
				res, err := http.ReadResponse(read, nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, _ := io.ReadAll(res.Body); string(b) != "hi" || res.StatusCode != 200 {
					t.Fatalf("got %d %q", res.StatusCode, b)
				}
				if w.dials.Load() == 1 {
					close(answered)
					<-over
				}
			}
			if got := w.dials.Load(); got != 2 {
				t.Errorf("%d connections", got)
			}
		})
	}
}

func TestAnApplicationThatIsNotThereIsBadGateway(t *testing.T) {
	w := newWorld(t, nil)
	w.app.Close()
	got := w.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
	if !strings.HasPrefix(got, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nDate: ") || !strings.HasSuffix(got, "\r\nConnection: close\r\n\r\n") {
		t.Errorf("got %q", got)
	}
	if told := fmt.Sprint(w.judge.responses()); told != "[1 502 -1 dial]" {
		t.Errorf("told %s", told)
	}
}

// A handler that decides nothing lets nothing through.
func TestAnUndecidedRequestIsAnError(t *testing.T) {
	w := newWorld(t, scripted(nil, ok), func(w *world) { w.judge.decide = func(*Head, *Action) {} })
	if got := w.say(get); !strings.HasPrefix(got, "HTTP/1.1 500 ") {
		t.Errorf("got %q", got)
	}
	if w.dials.Load() != 0 {
		t.Error("the application was reached")
	}
}

// N-01 and case 44: the proxy's own answers, and what becomes of the body.
func TestADeniedRequestsBodyIsNeverARequest(t *testing.T) {
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, row := range []struct {
		name, request string
		goes          bool // the connection goes on
		late          bool // that it does not is only found out after the answer
	}{
		{"none", get, true, false},
		{"there with its head", fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(smuggled), smuggled), true, false},
		{"chunks", fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), true, false},
		{"up to the limit", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), true, false},
		{"beyond the limit", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + smuggled, false, false},
		{"far beyond the limit, and sent", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n" + strings.Repeat(smuggled, 8_000_000/len(smuggled)), false, false},
		{"chunks beyond the limit", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 100), false, true},
		{"malformed", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n" + smuggled, false, false},
		{"that waits to be asked for", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n" + smuggled, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, scripted(nil, ok), func(w *world) {
				w.judge.decide = func(h *Head, a *Action) {
					a.Verdict, a.Status = Answer, 403
					a.Fields = append(a.Fields, Header{"l5d-proxy-error", "no"})
				}
			})
			conn := w.dial()
			go io.WriteString(conn, row.request+getLast)
			b, _ := io.ReadAll(conn)
			answers := strings.Count(string(b), "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nDate: ")
			if want := map[bool]int{true: 2, false: 1}[row.goes]; answers != want || strings.Count(string(b), "HTTP/1.1") != want {
				t.Errorf("%d answers, want %d: %q", answers, want, b)
			}
			if first, _, _ := strings.Cut(string(b), "\r\n\r\n"); !strings.Contains(first, "\r\nl5d-proxy-error: no") || strings.Contains(first, "\r\nConnection: close") == (row.goes || row.late) {
				t.Errorf("got %q", b)
			}
			if w.dials.Load() != 0 {
				t.Error("the application was reached")
			}
		})
	}
}

// Case 47: an answer that comes before its request's end.
func TestAnEarlyAnswerEndsTheConnectionUnlessTheBodyEndsToo(t *testing.T) {
	for name, ends := range map[string]bool{"the body ends": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, scripted(nil, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"), func(w *world) {
				if w.relay.Limits.Linger = 10 * time.Millisecond; ends {
					w.relay.Limits.Linger = soon
				}
			})
			conn := w.dial()
			read := bufio.NewReader(conn)
			const body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:10])
			res, err := http.ReadResponse(read, nil)
			if err != nil || res.StatusCode != 413 {
				t.Fatalf("%v, %v", res, err)
			}
			if ends {
				io.WriteString(conn, body[10:]+"GARBAGE\r\n\r\n")
			} else { // what comes too late is no request either
				eventually(t, "the relay has given up", func() bool { return len(w.judge.responses()) == 1 })
				io.WriteString(conn, body[10:]+getLast)
			}
			rest, err := io.ReadAll(read)
			if isTimeout(err) {
				t.Error("the connection did not end")
			}
			if went := strings.HasPrefix(string(rest), "HTTP/1.1 400 "); went != ends {
				t.Errorf("then came %q", rest)
			}
			if n := w.judge.asked.Load(); n != 1 {
				t.Errorf("judged %d requests", n)
			}
		})
	}
}

// The application decides whether a body is asked for.
func TestContinueComesFromTheApplication(t *testing.T) {
	w := newWorld(t, webApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})))
	for path, want := range map[string]string{"/yes": "100 200", "/no": "418"} {
		conn := w.dial()
		read := bufio.NewReader(conn)
		io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
		var got []string
		for {
			res, err := http.ReadResponse(read, nil)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(res.StatusCode))
			if res.StatusCode == 100 {
				io.WriteString(conn, "hello")
				continue
			}
			b, _ := io.ReadAll(res.Body)
			if path == "/yes" && string(b) != "5" {
				t.Errorf("the application read %q bytes", b)
			}
			if res.Close != (path == "/no") {
				t.Errorf("%s: last: %v", path, res.Close)
			}
			break
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
