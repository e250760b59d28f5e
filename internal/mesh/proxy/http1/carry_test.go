package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// sunk writes an answer down as text: heads in brackets, then bodies, then trailers.
type sunk struct {
	text strings.Builder
	// refuse fails the body.
	refuse bool
}

func (s *sunk) Head(status int, fields []Field, end bool) error {
	fmt.Fprintf(&s.text, "[%d%s]", status, listed(fields))
	if end {
		s.text.WriteString("$")
	}
	return nil
}

func (s *sunk) Body(b []byte) error {
	s.text.Write(b)
	if s.refuse {
		return errors.New("refused")
	}
	return nil
}

func (s *sunk) End(trailers []Field) error {
	fmt.Fprintf(&s.text, "%s$", listed(trailers))
	return nil
}

func listed(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&b, " %s=%s", f.Name, f.Value)
	}
	return b.String()
}

func fieldsOf(pairs ...string) (fields []Field) {
	for i := 0; i < len(pairs); i += 2 {
		fields = append(fields, Field{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return fields
}

func carriedGet(fields ...string) *Carried {
	return &Carried{Method: []byte("GET"), Scheme: []byte("http"), Authority: []byte("app:80"), Path: []byte("/a"), Fields: fieldsOf(fields...)}
}

// carrier makes one for the application, and counts its dials.
func carrier(t *testing.T, app func(net.Conn)) (*Carrier, *world) {
	w := newWorld(t, app)
	k := w.relay.Carrier(func() (net.Conn, error) {
		w.dials.Add(1)
		return net.Dial("tcp", w.app.Addr().String())
	})
	t.Cleanup(func() { k.Close(); k.Wait() })
	return k, w
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestACarriedHeadIsWrittenForOneReading(t *testing.T) {
	saw := make(chan string, 1)
	k, w := carrier(t, scripted(saw, plainAnswer))
	for _, tt := range []struct {
		request *Carried
		want    string
	}{
		{carriedGet("x-a", "1", "l5d-client-id", "web", "te", "trailers"), "GET /a HTTP/1.1\r\nHost: app:80\r\nx-a: 1\r\nl5d-client-id: web\r\nTE: trailers\r\n\r\n"},
		{carriedGet("connection", "x-a", "upgrade", "h2c", "keep-alive", "1", "host", "other", "transfer-encoding", "chunked", "content-length", "3", "l5d-orig-proto", "HTTP/1.1", "te", "gzip"), "GET /a HTTP/1.1\r\nHost: app:80\r\n\r\n"},
		{&Carried{Method: []byte("HEAD"), Scheme: []byte("http"), Authority: []byte("app"), Path: []byte("/a"), Query: []byte("b?c"), HasQuery: true, Absolute: true}, "HEAD http://app/a?b?c HTTP/1.1\r\nHost: app\r\n\r\n"},
		{&Carried{Method: []byte("OPTIONS"), Scheme: []byte("http"), Authority: []byte("app"), Path: []byte("*"), Absolute: true}, "OPTIONS http://app HTTP/1.1\r\nHost: app\r\n\r\n"},
		{&Carried{Method: []byte("OPTIONS"), Authority: []byte("app"), Path: []byte("*")}, "OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n"},
		{&Carried{Method: []byte("POST"), Authority: []byte("app"), Path: []byte("/"), Body: Length}, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n"},
	} {
		tt.request.Source = strings.NewReader("")
		var sink sunk
		status, _, _, err := k.Do(t.Context(), tt.request, &sink)
		if err != nil || status != 200 {
			t.Errorf("%q: %d, %v", tt.want, status, err)
		}
		if got := <-saw; got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if string(tt.request.Method) == "HEAD" {
			k.Close() // the script answers with a body all the same
		}
	}
	if got := w.dials.Load(); got != 2 {
		t.Errorf("%d connections for requests one after the other", got)
	}
}

func TestWhatIsUnfitForHTTP1IsNotSaid(t *testing.T) {
	k, w := carrier(t, scripted(nil, plainAnswer))
	for name, edit := range map[string]func(*Carried){
		"a method in lower case":     func(c *Carried) { c.Method = []byte("get") },
		"CONNECT":                    func(c *Carried) { c.Method = []byte("CONNECT") },
		"a path with a fragment":     func(c *Carried) { c.Path = []byte("/a#b") },
		"a path with a space":        func(c *Carried) { c.Path = []byte("/a HTTP/1.1") },
		"a path with a line end":     func(c *Carried) { c.Path = []byte("/a\r\nx: y") },
		"a query with a backslash":   func(c *Carried) { c.Query, c.HasQuery = []byte(`\`), true },
		"no path":                    func(c *Carried) { c.Path = nil },
		"a user":                     func(c *Carried) { c.Authority = []byte("me@app") },
		"no authority":               func(c *Carried) { c.Authority = nil },
		"a name with a space":        func(c *Carried) { c.Fields = fieldsOf("a b", "c") },
		"a value with a line end":    func(c *Carried) { c.Fields = fieldsOf("a", "b\r\nc: d") },
		"a length by another letter": func(c *Carried) { c.Fields = fieldsOf("content_length", "5") },
	} {
		c := carriedGet()
		edit(c)
		var sink sunk
		if status, _, _, err := k.Do(t.Context(), c, &sink); !errors.Is(err, ErrUnfit) || status != 0 || sink.text.Len() > 0 {
			t.Errorf("%s: %d, %v, %q", name, status, err, sink.text.String())
		}
	}
	if got := w.dials.Load(); got != 0 {
		t.Errorf("the application was asked %d times", got)
	}
}

func TestCarriedAnswersInEveryFraming(t *testing.T) {
	for answer, want := range map[string]string{
		plainAnswer: "[200 Content-Length=2]ok$",
		"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + plainAnswer:                                                "[103 Link=x][200 Content-Length=2]ok$",
		"HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer:                                                        "[200 Content-Length=2]ok$", // unasked
		"HTTP/1.1 204 No Content\r\n\r\n":                                                                    "[204]$",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nSum: 1\r\nHost: x\r\n\r\n": "[200]ok Sum=1$",
		"HTTP/1.1 200 OK\r\n\r\nup to the end\x00":                                                           "[200]up to the end$",
		"HTTP/1.0 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\nold\x00":                                    "[200]old$",
	} {
		k, _ := carrier(t, scripted(nil, answer))
		var sink sunk
		if _, _, _, err := k.Do(t.Context(), carriedGet(), &sink); err != nil || sink.text.String() != want {
			t.Errorf("%q: %q, %v, want %q", answer, sink.text.String(), err, want)
		}
	}
}

func TestCarriedAnswersThatAreNone(t *testing.T) {
	for answer, sent := range map[string]int{
		"": 0, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n": 0, "hello\r\n\r\n": 0,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": 0,
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort\x00":                      200,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n":                 200,
	} {
		k, _ := carrier(t, scripted(nil, answer))
		var sink sunk
		status, _, reusable, err := k.Do(t.Context(), carriedGet(), &sink)
		if !errors.Is(err, ErrApplication) || status != sent || reusable {
			t.Errorf("%q: %d, reusable %v, %v", answer, status, reusable, err)
		}
	}
	k := (&Relay{}).Carrier(func() (net.Conn, error) { return nil, io.ErrClosedPipe })
	var dial *DialError
	if _, _, _, err := k.Do(t.Context(), carriedGet(), &sunk{}); !errors.As(err, &dial) {
		t.Errorf("not reachable: %v", err)
	}
}

// bodyApp answers with what it has read of a request: its framing, body and trailers.
func bodyApp(seen chan<- string) func(net.Conn) {
	return func(conn net.Conn) {
		read := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(read)
			if err != nil {
				return
			}
			body, err := io.ReadAll(r.Body)
			seen <- fmt.Sprintf("%d %v %s %v %v", r.ContentLength, r.TransferEncoding, body, r.Trailer, err)
			if err != nil {
				return
			}
			io.WriteString(conn, plainAnswer)
		}
	}
}

func TestCarriedBodiesPassWhole(t *testing.T) {
	seen := make(chan string, 1)
	k, w := carrier(t, bodyApp(seen))
	long := strings.Repeat("x", 3*bufferSize)
	for _, tt := range []struct {
		body Body
		text string
		want string
	}{
		{Length, "hello", "5 [] hello map[] <nil>"},
		{Chunked, "hello", "-1 [chunked] hello map[Asker:[me]] <nil>"},
		{Chunked, long, "-1 [chunked] " + long + " map[Asker:[me]] <nil>"},
		{Chunked, "", "-1 [chunked]  map[Asker:[me]] <nil>"},
	} {
		c := carriedGet("trailer", "asker")
		c.Method, c.Body, c.Length, c.Source = []byte("POST"), tt.body, int64(len(tt.text)), strings.NewReader(tt.text)
		c.Trailers = func() []Field {
			return fieldsOf("asker", "me", "host", "evil", "l5d-client-id", "evil", "content-length", "7", "bad name", "x")
		}
		if status, _, reusable, err := k.Do(t.Context(), c, &sunk{}); status != 200 || err != nil || !reusable {
			t.Errorf("%.20q: %d, reusable %v, %v", tt.text, status, reusable, err)
		}
		if got := <-seen; got != tt.want {
			t.Errorf("%.20q: the application saw %.200q", tt.text, got)
		}
	}
	if got := w.dials.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
}

// brokenBody ends without an end.
type brokenBody struct{ sent bool }

func (b *brokenBody) Read(p []byte) (int, error) {
	if !b.sent {
		b.sent = true
		return copy(p, "half"), nil
	}
	return 0, errors.New("reset")
}

func TestHalfACarriedBodyNeverLooksWhole(t *testing.T) {
	for _, body := range []Body{Length, Chunked} {
		seen := make(chan string, 1)
		k, _ := carrier(t, bodyApp(seen))
		c := carriedGet()
		c.Method, c.Body, c.Length, c.Source = []byte("POST"), body, 8, &brokenBody{}
		if status, _, reusable, err := k.Do(t.Context(), c, &sunk{}); !errors.Is(err, ErrClient) || status != 0 || reusable {
			t.Errorf("%d, reusable %v, %v", status, reusable, err)
		}
		if got := <-seen; !strings.Contains(got, "EOF") {
			t.Errorf("the application saw %q", got)
		}
	}
}

func TestACarriedRequestIsAskedAgainOnlyWhereNothingWasAnswered(t *testing.T) {
	saw := make(chan string, 8)
	k, w := carrier(t, scripted(saw, plainAnswer+"\x00", plainAnswer))
	for range 2 {
		if _, _, _, err := k.Do(t.Context(), carriedGet(), &sunk{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(saw) != 2 || w.dials.Load() != 2 {
		t.Errorf("%d requests over %d connections", len(saw), w.dials.Load())
	}
	for method, asked := range map[string]int{"GET": 2, "POST": 1} {
		saw = make(chan string, 8)
		k, _ = carrier(t, scripted(saw, plainAnswer, ""))
		for i := range 2 {
			c := carriedGet()
			c.Method = []byte(method)
			if _, _, _, err := k.Do(t.Context(), c, &sunk{}); (err == nil) != (i == 0) {
				t.Errorf("%s %d: %v", method, i, err)
			}
		}
		if got := len(saw) - 1; got != asked {
			t.Errorf("%s was asked %d times, want %d", method, got, asked)
		}
	}
}

// Hints are an answer's beginning: what broke off after them is not asked again.
func TestACarriedRequestThatGotHintsIsNotAskedAgain(t *testing.T) {
	saw := make(chan string, 8)
	k, _ := carrier(t, scripted(saw, plainAnswer, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n\x00", plainAnswer))
	for i := range 2 {
		if _, _, _, err := k.Do(t.Context(), carriedGet(), &sunk{}); (err == nil) != (i == 0) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if len(saw) != 2 {
		t.Errorf("asked %d times", len(saw))
	}
}

func TestAClientThatGoesEndsItsCarriedRequest(t *testing.T) {
	asked := make(chan string, 1)
	gone := make(chan struct{})
	k, _ := carrier(t, func(conn net.Conn) {
		buf := make([]byte, 1<<10)
		n, _ := conn.Read(buf)
		asked <- string(buf[:n])
		conn.SetReadDeadline(time.Now().Add(soon))
		if _, err := conn.Read(buf); !isTimeout(err) {
			close(gone)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if status, _, reusable, err := k.Do(ctx, carriedGet(), &sunk{}); !errors.Is(err, ErrClient) || status != 0 || reusable {
		t.Errorf("%d, reusable %v, %v", status, reusable, err)
	}
	<-gone
	k, _ = carrier(t, scripted(nil, plainAnswer))
	if status, _, reusable, err := k.Do(t.Context(), carriedGet(), &sunk{refuse: true}); !errors.Is(err, ErrClient) || status != 200 || reusable {
		t.Errorf("in the answer: %d, reusable %v, %v", status, reusable, err)
	}
}

// An answer may come before the request is whole; then the connection is not used again.
func TestAnEarlyAnswerToACarriedRequest(t *testing.T) {
	k, _ := carrier(t, scripted(nil, plainAnswer))
	k.relay.limits.Linger = 10 * time.Millisecond
	body, more := io.Pipe()
	c := carriedGet()
	c.Method, c.Body, c.Source = []byte("POST"), Chunked, body
	var sink sunk
	status, _, reusable, err := k.Do(t.Context(), c, &sink)
	if status != 200 || err != nil || reusable || sink.text.String() != "[200 Content-Length=2]ok$" {
		t.Errorf("%d, reusable %v, %v, %q", status, reusable, err, sink.text.String())
	}
	more.CloseWithError(io.ErrUnexpectedEOF)
}
