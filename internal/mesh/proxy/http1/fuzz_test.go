package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
)

var testLimits = func() *Limits {
	l := new(Limits)
	l.setDefaults()
	return l
}()

// parseRequest reads a head as the relay does: nil when it is refused or not whole.
func parseRequest(b []byte) (*exchange, int) {
	x := &exchange{}
	size, refused := headEnd(b, 0)
	if refused != nil || size == 0 || size > testLimits.Head || x.request.parse(b[:size], testLimits) != nil {
		return nil, 0
	}
	return x, size
}

// FuzzRequestHead: what is let through, net/http reads in the same way, and also
// what is written for the application. net/http may refuse it.
func FuzzRequestHead(f *testing.F) {
	for _, row := range abusedHeads() {
		if len(row.request) < 4<<10 {
			f.Add([]byte(row.request))
		}
	}
	for _, row := range letThrough() {
		f.Add([]byte(row.request))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// A scan in pieces finds the same end.
		whole, refused := headEnd(b, 0)
		for from := 1; from < len(b) && from < 64; from++ {
			if end, refusedAt := headEnd(b[:from], 0); end != 0 || refusedAt != nil {
				break
			} else if end, refusedAt = headEnd(b, from); end != whole || refusedAt != refused {
				t.Fatalf("in two pieces: %d, %v; whole: %d, %v", end, refusedAt, whole, refused)
			}
		}
		x, size := parseRequest(b)
		if x == nil {
			return
		}
		h := &x.request.head
		read := bufio.NewReaderSize(bytes.NewReader(b), len(b)+16)
		if r, err := http.ReadRequest(read); err == nil {
			sameRequest(t, h, r, len(b)-size, read)
		}
		method, host := string(h.Method), string(h.Authority)
		target := targetOf(x)
		x.writeRequest("dst:1")
		again, end := parseRequest(x.out)
		if again == nil || end != len(x.out) {
			t.Fatalf("what is written is refused: %q", x.out)
		}
		if g := &again.request.head; string(g.Method) != method || targetOf(again) != target || host != "" && string(g.Authority) != host || g.Body != h.Body || g.Length != h.Length || len(g.Fields) < len(h.Fields) {
			t.Fatalf("%q became %q", b[:size], x.out)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(x.out)))
		if err != nil {
			return
		}
		for name := range r.Header {
			if alike(name, "l5d-client-id") || alike(name, "l5d-orig-proto") || alike(name, "keep-alive") {
				t.Fatalf("%s has passed: %q", name, x.out)
			}
		}
		if r.RequestURI != target || r.ContentLength != lengthOf(h) {
			t.Fatalf("%q is read as %s, %d", x.out, r.RequestURI, r.ContentLength)
		}
	})
}

func targetOf(x *exchange) string {
	h := &x.request.head
	var b strings.Builder
	switch h.Form {
	case Absolute:
		b.WriteString(string(h.Scheme) + "://" + string(x.request.authority))
	case Authority:
		b.Write(x.request.authority)
	}
	b.Write(h.Path)
	if h.HasQuery {
		b.WriteString("?" + string(h.Query))
	}
	return b.String()
}

// lengthOf is net/http's word for a body's framing.
func lengthOf(h *Head) int64 {
	if h.Body == Chunked {
		return -1
	}
	return h.Length
}

func sameRequest(t *testing.T, h *Head, r *http.Request, left int, read *bufio.Reader) {
	t.Helper()
	if r.Method != string(h.Method) || r.ProtoMinor != int(h.Minor) || r.ContentLength != lengthOf(h) {
		t.Fatalf("net/http reads %s %d, %d; we %s %d, %d", r.Method, r.ProtoMinor, r.ContentLength, h.Method, h.Minor, lengthOf(h))
	}
	if (r.TransferEncoding != nil) != (h.Body == Chunked) {
		t.Fatalf("net/http reads codings %v", r.TransferEncoding)
	}
	if !sameFold([]byte(r.Host), h.Authority) {
		t.Fatalf("net/http reads host %q, we %q", r.Host, h.Authority)
	}
	if h.Body == NoBody && read.Buffered() != left {
		t.Fatalf("net/http leaves %d bytes, we %d", read.Buffered(), left)
	}
	if (h.Form == Origin || h.Form == Absolute) && h.HasQuery != (r.URL.RawQuery != "" || r.URL.ForceQuery) || string(h.Query) != r.URL.RawQuery {
		t.Fatalf("net/http reads query %q, we %q", r.URL.RawQuery, h.Query)
	}
	for _, field := range h.Fields {
		if k, _ := kindOf(field.Name); k == host || k == expect {
			continue
		}
		values := r.Header[http.CanonicalHeaderKey(string(field.Name))]
		if k, _ := kindOf(field.Name); k == contentLength && h.Length == 0 && len(values) == 0 {
			continue
		}
		if sameFold(field.Name, "trailer") && values == nil { // it keeps those elsewhere
			continue
		}
		if !slices.Contains(values, string(field.Value)) {
			t.Fatalf("net/http reads %s: %q, we %q", field.Name, values, field.Value)
		}
	}
}

// FuzzResponseHead: what is let through of an application, net/http reads in the
// same way, and what is written for the client too.
func FuzzResponseHead(f *testing.F) {
	for _, answer := range []string{
		ok, "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\nConnection: close, x\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		for form := range uint8(4) {
			f.Add([]byte(answer), form)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, form uint8) {
		x := &exchange{}
		method := [4]string{"GET", "HEAD", "CONNECT", "GET"}[form%4]
		x.request.headOnly, x.request.connect, x.request.upgrading = method == "HEAD", method == "CONNECT", form%4 == 3
		size, refused := headEnd(b, 0)
		if refused != nil || size == 0 || x.response.parse(b[:size], &x.request, testLimits) != nil {
			return
		}
		a := &x.response
		same := func(text []byte, closes bool) {
			r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), &http.Request{Method: method})
			if err != nil {
				return // the connection ends there too
			}
			if r.StatusCode != a.status {
				t.Fatalf("net/http reads %d, we %d", r.StatusCode, a.status)
			}
			if a.switched {
				return
			}
			framed := NoBody
			switch {
			case r.ContentLength > 0 && !a.bodiless(&x.request):
				framed = Length
				if r.ContentLength != a.length {
					t.Fatalf("net/http reads length %d, we %d", r.ContentLength, a.length)
				}
			case slices.Equal(r.TransferEncoding, []string{"chunked"}) && !a.bodiless(&x.request):
				framed = Chunked
			case r.ContentLength < 0 && !a.bodiless(&x.request):
				framed = ToClose
			}
			if framed != a.body || closes && !r.Close {
				t.Fatalf("net/http reads body %d, close %v; we %d, %v: %q", framed, r.Close, a.body, closes, text)
			}
		}
		same(b[:size], false)
		x.writeResponse(a.body == ToClose)
		same(x.out, a.body == ToClose)
	})
}

// follow has a body pass through framing in pieces of step bytes (0: whole), as
// the relay has it pass through its buffers.
func follow(body []byte, step int, payload bool) (out []byte, used int, f framing, refused *refusal) {
	f.begin(Chunked, 0, testLimits)
	f.payload = payload
	var held []byte
	for !f.done {
		n := len(body)
		if step > 0 {
			n = min(step, n)
		}
		if n == 0 {
			return out, used, f, nil
		}
		held = append(held, body[:n]...)
		body = body[n:]
		o, u, r := f.next(held)
		out, used = append(out, held[:o]...), used+u
		if r != nil {
			return out, used, f, r
		}
		held = held[u:]
	}
	return out, used, f, nil
}

// FuzzChunks: whatever the pieces, the same passes; net/http reads the same data
// from it, and from what came, and ends at the same byte.
func FuzzChunks(f *testing.F) {
	for _, body := range abusedChunks {
		if len(body) < 4<<10 {
			f.Add([]byte(body), uint8(3))
		}
	}
	f.Add([]byte("5;a=b\r\nhello\r\n0A\r\n0123456789\r\n0\r\nSum: 1\r\nHost: x\r\n\r\nGET"), uint8(1))
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		out, used, f, refused := follow(bytes.Clone(body), 0, false)
		pieces, usedPieces, g, refusedPieces := follow(bytes.Clone(body), int(step), false)
		if refused == nil && refusedPieces == nil && (!bytes.Equal(out, pieces) || used != usedPieces || f.done != g.done) || (refused == nil) != (refusedPieces == nil) {
			t.Fatalf("in pieces of %d: %q, %d, %v; whole: %q, %d, %v", step, pieces, usedPieces, refusedPieces, out, used, refused)
		}
		if refused != nil || !f.done {
			return
		}
		data, _, _, _ := follow(bytes.Clone(body), int(step), true)
		for _, text := range [][]byte{body, out} {
			got, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(text)))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("net/http reads %q, %v from %q; we %q", got, err, text, data)
			}
		}
		read := bufio.NewReaderSize(io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.NewReader(out), strings.NewReader("NEXT")), len(out)+128)
		r, err := http.ReadRequest(read)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, data) {
			if errors.Is(err, io.ErrUnexpectedEOF) || err == nil {
				t.Fatalf("net/http reads %q, %v from %q", got, err, out)
			}
			return // a trailer that it refuses
		}
		if rest, _ := io.ReadAll(read); string(rest) != "NEXT" {
			t.Fatalf("net/http ends %q elsewhere: %q is left", out, rest)
		}
		for name := range maps.Keys(r.Trailer) {
			if k, _ := kindOf(name); k != plain && k != grpcStatus {
				t.Fatalf("trailer %s has passed", name)
			}
		}
	})
}
