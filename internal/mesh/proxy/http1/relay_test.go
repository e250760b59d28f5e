package http1

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// raced: the race detector has pools drop what they are given.
var raced bool

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

func TestARequestAndItsAnswerPass(t *testing.T) {
	saw := make(chan string, 1)
	w := newWorld(t, scripted(saw, ok))
	got := w.say("GET /a?b HTTP/1.1\r\nHost:app\r\nX-Own:\t1 \r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\n")
	if want := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"; got != want {
		t.Errorf("the client got %q", got)
	}
	if head, want := <-saw, "GET /a?b HTTP/1.1\r\nHost: app\r\nX-Own: 1\r\n\r\n"; head != want {
		t.Errorf("the application saw %q", head)
	}
	if told := fmt.Sprint(w.judge.responses()); told != "[1 200 -1 ok]" {
		t.Errorf("told %s", told)
	}
}

func TestBodiesGoBothWaysAtOnce(t *testing.T) {
	const size = 4 << 20
	w := newWorld(t, webApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.Copy(w, r.Body)
	})))
	for _, length := range []int64{size, -1} {
		conn := w.dial()
		request, _ := http.NewRequest("POST", "http://app/", io.LimitReader(zeros{}, size))
		request.ContentLength = length
		wrote := make(chan error, 1)
		for range 2 { // twice on one connection
			go func() { wrote <- request.Write(conn) }()
			res, err := http.ReadResponse(bufio.NewReader(conn), request)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, res.Body)
			if err != nil || n != size {
				t.Errorf("length %d: %d bytes, %v", length, n, err)
			}
			if err := <-wrote; err != nil {
				t.Error(err)
			}
			request.Body = io.NopCloser(io.LimitReader(zeros{}, size))
		}
	}
	if w.dials.Load() != 2 {
		t.Errorf("%d connections for two clients", w.dials.Load())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPipelinedRequestsAreJudgedEachAndInOrder(t *testing.T) {
	saw := make(chan string, 8)
	w := newWorld(t, scripted(saw, ok), func(w *world) {
		w.judge.decide = func(h *Head, a *Action) {
			a.Verdict = Forward
			if string(h.Path) != "/open" {
				a.Verdict, a.Status = Answer, 403
			}
		}
	})
	got := w.say("GET /open HTTP/1.1\r\nHost: a\r\n\r\nPOST /closed HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /open HTTP/1.1\r\nHost: evil.example\r\n\r\n" +
		"POST /closed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0\r\nA: b\r\n\r\nGET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	var statuses []string
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "HTTP/1.1 ") || strings.HasPrefix(line, "hiHTTP/1.1 ") {
			_, status, _ := strings.Cut(line, " ")
			statuses = append(statuses, status[:3])
		}
	}
	if fmt.Sprint(statuses) != "[200 403 403 200]" {
		t.Errorf("answers %v in %q", statuses, got)
	}
	if len(saw) != 2 {
		t.Errorf("the application saw %d requests", len(saw))
	}
	if told := fmt.Sprint(w.judge.responses()); told != "[1 200 -1 ok 2 403 -1 ok 3 403 -1 ok 4 200 -1 ok]" {
		t.Errorf("told %s", told)
	}
}

func TestASteadyRequestAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("with the race detector pools forget on purpose")
	}
	const head = " HTTP/1.1\r\nHost: app.example:8080\r\nUser-Agent: test\r\nAccept: */*\r\nX-Request-Id: 0123456789\r\n"
	for name, request := range map[string]string{
		"GET":     "GET /a/path?query=1" + head + "\r\n",
		"length":  "POST /a/path" + head + "Content-Length: 5\r\n\r\nhello",
		"chunks":  "POST /a/path" + head + "Transfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nSum: 1\r\n\r\n",
		"filters": "GET /filtered" + head + "Connection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
		"denied":  "GET /denied" + head + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, echoApp, func(w *world) { w.handler = &lets{} })
			conn := w.dial()
			text, answer := []byte(request), make([]byte, 4096)
			ask := func() {
				if _, err := conn.Write(text); err != nil {
					t.Fatal(err)
				}
				for n := 0; ; {
					m, err := conn.Read(answer[n:])
					if n += m; err != nil {
						t.Fatal(err)
					}
					if got := string(answer[max(0, n-5):n]); got == "hello" || got == "d\r\n\r\n" {
						return
					}
				}
			}
			ask()
			if n := testing.AllocsPerRun(300, ask); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// lets is a handler that forwards everything as a proxy with policy does: with a
// token and a field of its own, and without an allocation.
type lets struct{ responded int }

func (l *lets) Decide(h *Head, a *Action) {
	a.Verdict, a.Token = Forward, l
	switch string(h.Path) {
	case "/denied":
		a.Verdict, a.Status = Answer, 403
		a.Fields = append(a.Fields, Header{"l5d-proxy-error", "denied"})
		return
	case "/filtered":
		a.Path = h.Path[:5]
		a.Remove = append(a.Remove, "user-agent")
		a.Set = append(a.Set, Header{"X-Set", "1"})
	}
	a.Append = append(a.Append, Header{"l5d-client-id", "web.apps.serviceaccount.identity.linkerd.cluster.local"})
}

func (*lets) Failed(any, error, *Action) {}

func (l *lets) Responded(token any, _, _ int, _ error) { token.(*lets).responded++ }
