package http2

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// seenBy is an application that shows what it gets.
func seenBy(t testing.TB) (addr string, requests chan *http.Request) {
	requests = make(chan *http.Request, 100)
	return startHTTP2(t, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		requests <- r
	}), requests
}

func TestHeadersOfTheMeshComeFromTheHandlerOnly(t *testing.T) { // I-07, H-01, case 19
	app, requests := seenBy(t)
	var judged [][]byte
	h := &asked{decide: func(head *Head, a *Action) {
		for _, f := range head.Fields {
			judged = append(judged, bytes.Clone(f.Name))
		}
		a.Append = append(a.Append, Header{"l5d-client-id", "web.default"})
	}}
	c := dialRaw(t, startRelay(t, app, h, Limits{}, nil).addr)
	c.open(1, false, request("/", "l5d-client-id", "a", "l5d_client_id", "b", "l5d-client_id", "c", "l5d-orig-proto", "HTTP/2.0", "x-kept", "yes", "trailer", "x-sum, authorization, l5d-other")...)
	c.open(1, true, "l5d-client-id", "d", "l5d-other", "e", "authorization", "f", "x-sum", "1")
	c.answer(1)
	r := <-requests
	want := http.Header{"L5d-Client-Id": {"web.default"}, "X-Kept": {"yes"}}
	for name, values := range r.Header {
		if strings.Join(values, "|") != strings.Join(want[name], "|") {
			t.Errorf("the application sees %s: %q", name, values)
		}
	}
	if len(r.Header) != len(want) {
		t.Errorf("the application sees %v", r.Header)
	}
	if r.Trailer.Get("X-Sum") != "1" || r.Trailer.Get("Authorization")+r.Trailer.Get("L5d-Other")+r.Trailer.Get("L5d-Client-Id") != "" {
		t.Errorf("the application sees trailers %v", r.Trailer)
	}
	if len(judged) != 2 || string(judged[0]) != "x-kept" {
		t.Errorf("the Handler saw %q", judged)
	}
}

func TestActionsChangeTheHead(t *testing.T) {
	app, requests := seenBy(t)
	h := &asked{decide: func(_ *Head, a *Action) {
		a.Path = []byte("/normal")
		a.Remove = append(a.Remove, "x-removed")
		a.Set = append(a.Set, Header{"x-set", "new"})
		a.Append = append(a.Append, Header{"x-more", "2"})
	}}
	c := dialRaw(t, startRelay(t, app, h, Limits{}, nil).addr)
	for id := uint32(1); id < 6; id += 2 {
		c.open(id, true, request("/a/../normal?q=1&r", "x-removed", "1", "x-set", "old", "x-set", "older", "x-more", "1")...)
		c.answer(id)
		r := <-requests
		if r.RequestURI != "/normal?q=1&r" {
			t.Errorf("path %s", r.RequestURI)
		}
		for name, want := range map[string]string{"X-Removed": "", "X-Set": "new", "X-More": "1|2"} {
			if got := strings.Join(r.Header[name], "|"); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
	}
}

func TestHeadsThatAreMalformedReachNobody(t *testing.T) { // cases 18, 55, 56
	app, requests := seenBy(t)
	h := &asked{decide: func(head *Head, _ *Action) {
		if len(head.Path) == 0 || string(head.Path) != "/fine" {
			t.Errorf("the Handler was asked about %q", head.Path)
		}
	}}
	c := dialRaw(t, startRelay(t, app, h, Limits{}, nil).addr)
	id := uint32(1)
	for name, fields := range map[string][]string{
		"no method":                      {":scheme", "http", ":authority", "web", ":path", "/"},
		"no path":                        {":method", "GET", ":scheme", "http", ":authority", "web"},
		"no scheme":                      {":method", "GET", ":authority", "web", ":path", "/"},
		"two paths":                      request("/", ":path", "/"),
		"no authority":                   {":method", "GET", ":scheme", "http", ":path", "/"},
		"empty authority":                {":method", "GET", ":scheme", "http", ":authority", "", ":path", "/"},
		"carriage return in a method":    {":method", "GET\r\n", ":scheme", "http", ":authority", "web", ":path", "/"},
		"length that is no number":       request("/", "content-length", "x"),
		"empty path":                     request(""),
		"path without a slash":           request("admin"),
		"asterisk with POST":             request("*"),
		"space in the path":              request("/a b"),
		"control in the path":            request("/a\x01"),
		"pseudo after regular":           {":method", "GET", ":scheme", "http", ":authority", "web", "x-a", "1", ":path", "/"},
		"pseudo after the client's name": {":method", "GET", ":scheme", "http", ":authority", "web", "l5d-client-id", "x", ":path", "/"},
		"pseudo after the mesh's own":    {":method", "GET", ":scheme", "http", ":authority", "web", "l5d-orig-proto", "HTTP/1.1", ":path", "/"},
		"unknown pseudo":                 request("/", ":protocol", "websocket"),
		"status":                         request("/", ":status", "200"),
		"upper case name":                request("/", "X-Upper", "1"),
		"empty name":                     request("/", "", "1"),
		"space in a name":                request("/", "a b", "1"),
		"line feed in a value":           request("/", "x-a", "1\nx-b: 2"),
		"carriage return in a value":     request("/", "x-a", "1\r"),
		"NUL in a value":                 request("/", "x-a", "1\x00"),
		"space before a value":           request("/", "x-a", " 1"),
		"connection":                     request("/", "connection", "close"),
		"transfer-encoding":              request("/", "transfer-encoding", "chunked"),
		"keep-alive":                     request("/", "keep-alive", "1"),
		"upgrade":                        request("/", "upgrade", "h2c"),
		"te":                             request("/", "te", "gzip"),
		"host unlike authority":          request("/", "host", "other"),
		"two hosts":                      request("/", "host", "web", "host", "web"),
		"two lengths":                    request("/", "content-length", "0", "content-length", "0"),
		"length with a sign":             request("/", "content-length", "+0"),
		"empty length":                   request("/", "content-length", ""),
		"length without a body":          request("/", "content-length", "1"),
		"method with a space":            {":method", "GET /", ":scheme", "http", ":authority", "web", ":path", "/"},
		"connect with a path":            {":method", "CONNECT", ":authority", "web:80", ":path", "/"},
		"connect without authority":      {":method", "CONNECT"},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			c.open(id, true, fields...)
			c.wantReset(id, http2.ErrCodeProtocol)
			id += 2
			// The connection goes on, tables in step.
			c.open(id, true, request("/fine", "host", "web", "content-length", "0")...)
			c.answer(id)
			if r := <-requests; r.URL.Path != "/fine" {
				t.Errorf("the application saw %s", r.URL)
			}
			id += 2
		})
	}
}

// What applications read in more than one way is answered as HTTP/1's is.
func TestTargetsThatHTTP1CannotHaveReachNobody(t *testing.T) { // abuse case 10
	h := &asked{decide: func(head *Head, a *Action) {
		t.Errorf("the Handler was asked about %q ? %q", head.Path, head.Query)
		deny(a)
	}}
	var told atomic.Int32
	r := startRelayWith(t, h, &Config{Malformed: func(error) { told.Add(1) }})
	c := dialRaw(t, r.addr)
	for i, path := range []string{"/a#b", "/?a#b", "/a\\b", "/?a\\b", "/\xc3\xa9", "/?a=\xc3\xa9", "/#"} {
		id := uint32(2*i + 1)
		c.open(id, true, request(path)...)
		c.want(id, "400")
		if n := told.Load(); int(n) != i+1 {
			t.Errorf("Malformed has been called %d times after %q", n, path)
		}
	}
}

// Malformed hears of streams and connections that break the standard, and not of
// those that limits end.
func TestWhatBreaksTheStandardIsTold(t *testing.T) {
	var told atomic.Int32
	cfg := &Config{Malformed: func(error) { told.Add(1) }, Limits: Limits{HeadBytes: 1000, Control: 20}}
	r := startRelayWith(t, &asked{decide: func(_ *Head, a *Action) { deny(a) }}, cfg)
	c := dialRaw(t, r.addr)
	c.open(1, true, request("/", "te", "gzip")...)
	c.wantReset(1, http2.ErrCodeProtocol)
	c.open(3, true, request("/", "x-large", strings.Repeat("a", 1000))...)
	c.want(3, "431")
	c.must(0, c.WriteData(0, false, nil))
	c.wantGoAway(http2.ErrCodeProtocol)
	if n := told.Load(); n != 2 {
		t.Errorf("told %d times, not 2", n)
	}
	flood(func(c *client, _ int) error { return c.WritePing(false, [8]byte{}) })(dialRaw(t, r.addr))
	if n := told.Load(); n != 2 {
		t.Errorf("told %d times, not 2, after a flood", n)
	}
}

func TestABodyOfAnotherLengthThanAnnouncedBreaksItsStream(t *testing.T) { // case 56
	app, _ := seenBy(t)
	c := dialRaw(t, startRelay(t, app, &asked{}, Limits{}, nil).addr)
	for i, send := range []func(id uint32){
		func(id uint32) { c.WriteData(id, true, []byte("12")) },
		func(id uint32) { c.WriteData(id, false, []byte("1234")) },
		func(id uint32) { c.WriteData(id, false, nil); c.open(id, true, "x-trailer", "1") },
	} {
		id := uint32(2*i + 1)
		c.open(id, false, request("/", "content-length", "3")...)
		send(id)
		c.wantReset(id, http2.ErrCodeProtocol)
	}
}

func TestTheHandlerSeesTheHeadAsItStood(t *testing.T) {
	var got Head
	var fields []Field
	h := &asked{decide: func(head *Head, a *Action) {
		got = *head
		fields = (&fieldsCopy{head.Fields}).clone()
		got.Path, got.Query, got.Authority, got.OrigProto = bytes.Clone(head.Path), bytes.Clone(head.Query), bytes.Clone(head.Authority), bytes.Clone(head.OrigProto)
		deny(a)
	}}
	c := dialRaw(t, startRelay(t, "127.0.0.1:1", h, Limits{}, nil).addr)
	c.open(1, false, ":method", "PUT", ":scheme", "http", ":path", "/a%2f/../b?c=d?e", "host", "Web.Example:80",
		"content-type", "application/grpc+proto", "l5d-orig-proto", "HTTP/1.1; absolute-form", "x-a", "1", "x-a", "2", "content-length", "7")
	c.answer(1)
	if string(got.Path) != "/a%2f/../b" || string(got.Query) != "c=d?e" || !got.HasQuery || string(got.Authority) != "Web.Example:80" ||
		!got.GRPC || got.ContentLength != 7 || got.EndStream || got.StreamID != 1 || string(got.OrigProto) != "HTTP/1.1; absolute-form" {
		t.Errorf("the Handler saw %+v, path %q, query %q", got, got.Path, got.Query)
	}
	want := []Field{{[]byte("host"), []byte("Web.Example:80")}, {[]byte("content-type"), []byte("application/grpc+proto")},
		{[]byte("x-a"), []byte("1")}, {[]byte("x-a"), []byte("2")}, {[]byte("content-length"), []byte("7")}}
	if !sameFields(fields, want) {
		t.Errorf("fields %q", fields)
	}
}

type fieldsCopy struct{ list []Field }

func (f *fieldsCopy) clone() (list []Field) {
	for _, fl := range f.list {
		list = append(list, Field{bytes.Clone(fl.Name), bytes.Clone(fl.Value)})
	}
	return list
}
