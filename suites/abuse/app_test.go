package abuse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

// request is one that the application saw.
type request struct {
	// conn numbers the application's connections.
	conn                 int
	proto                string
	method, target, host string
	header, trailer      http.Header
	body                 int64
}

// app is an application that takes anything: HTTP/1 as leniently as can be,
// HTTP/2 as the library does, and records what it sees.
type app struct {
	addr netip.AddrPort
	// answer, when set, writes the answer to an HTTP/1 request; false closes the connection.
	answer func(c net.Conn, r *request) bool
	// hasty, when set, may answer an HTTP/1 request before its body is read, and tells
	// whether it has.
	hasty func(c net.Conn, r *request) bool
	// greet is sent to each connection at once, which is then an echo of bytes.
	greet string
	// handle, when set, answers HTTP/2 requests after they were noted.
	handle http.HandlerFunc

	mu       sync.Mutex
	conns    int
	ended    int
	raw      [][]byte
	requests []request
}

func newApp(t *T) *app {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	a := &app{addr: listener.Addr().(*net.TCPAddr).AddrPort()}
	var serving sync.WaitGroup
	open := map[net.Conn]struct{}{}
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.mu.Lock()
			n := a.conns
			a.conns++
			a.raw = append(a.raw, nil)
			open[conn] = struct{}{}
			a.mu.Unlock()
			serving.Go(func() {
				a.serve(&recorded{Conn: conn, app: a, n: n}, n)
				conn.Close()
				a.mu.Lock()
				a.ended++
				delete(open, conn)
				a.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		a.mu.Lock()
		for conn := range open {
			conn.Close()
		}
		a.mu.Unlock()
		serving.Wait()
	})
	return a
}

// recorded is a connection whose bytes are kept, up to a bound.
type recorded struct {
	net.Conn
	app *app
	n   int
}

const recordedBytes = 1 << 20

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.app.mu.Lock()
	defer r.app.mu.Unlock()
	if have := len(r.app.raw[r.n]); have < recordedBytes {
		r.app.raw[r.n] = append(r.app.raw[r.n], p[:min(n, recordedBytes-have)]...)
	}
	return n, err
}

func (a *app) serve(conn net.Conn, n int) {
	if a.greet != "" {
		io.WriteString(conn, a.greet)
		io.Copy(conn, conn)
		return
	}
	in := bufio.NewReader(conn)
	if first, err := in.Peek(len(http2.ClientPreface)); err == nil && string(first) == http2.ClientPreface {
		new(http2.Server).ServeConn(&prefixed{Conn: conn, in: in}, &http2.ServeConnOpts{Handler: a.http2(n)})
		return
	}
	for {
		answered := false
		r, err := a.read(in, n, func(r *request) { answered = a.hasty != nil && a.hasty(conn, r) })
		if err != nil {
			return
		}
		if answered {
			continue
		}
		if a.answer != nil {
			if !a.answer(conn, r) {
				return
			}
			continue
		}
		body := r.target
		if r.method == http.MethodHead {
			body = ""
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.target), body); err != nil {
			return
		}
	}
}

type prefixed struct {
	net.Conn
	in *bufio.Reader
}

func (p *prefixed) Read(b []byte) (int, error) { return p.in.Read(b) }

var errNoRequest = errors.New("no request")

// read takes a request as leniently as can be: bare line feeds, spaces before
// colons, any first line, chunked before length. begun is called between its head
// and its body.
func (a *app) read(in *bufio.Reader, n int, begun func(*request)) (*request, error) {
	line := func() (string, error) {
		l, err := in.ReadString('\n')
		return strings.TrimRight(l, "\r\n"), err
	}
	first, err := line()
	if err != nil {
		return nil, err
	}
	r := &request{conn: n, header: http.Header{}, trailer: http.Header{}}
	if first == "" {
		return nil, errNoRequest
	}
	words := strings.Fields(first)
	r.method = words[0]
	if len(words) > 1 {
		r.target = words[1]
	}
	r.proto = words[len(words)-1]
	fields := func(into http.Header) error {
		for {
			l, err := line()
			if l == "" || err != nil {
				return err
			}
			name, value, _ := strings.Cut(l, ":")
			into.Add(strings.TrimSpace(name), strings.TrimSpace(value))
		}
	}
	if err := fields(r.header); err != nil {
		return nil, err
	}
	r.host = strings.Join(r.header["Host"], ",")
	i := a.note(*r)
	begun(r)
	switch {
	case strings.Contains(strings.ToLower(r.header.Get("Transfer-Encoding")), "chunked"):
		for {
			l, err := line()
			if err != nil {
				return nil, err
			}
			size, err := strconv.ParseInt(strings.TrimSpace(strings.Split(l, ";")[0]), 16, 64)
			if err != nil {
				return nil, err
			}
			if size == 0 {
				break
			}
			got, err := io.CopyN(io.Discard, in, size)
			r.body += got
			if err != nil {
				return nil, err
			}
			line()
		}
		if err := fields(r.trailer); err != nil {
			return nil, err
		}
	case r.header.Get("Content-Length") != "":
		size, _ := strconv.ParseInt(r.header.Get("Content-Length"), 10, 64)
		if r.body, err = io.CopyN(io.Discard, in, size); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	a.requests[i] = *r
	a.mu.Unlock()
	return r, nil
}

func (a *app) http2(n int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := request{conn: n, proto: r.Proto, method: r.Method, target: r.RequestURI, host: r.Host, header: r.Header.Clone(), trailer: http.Header{}}
		i := a.note(seen)
		if a.handle != nil {
			a.handle(w, r)
			return
		}
		seen.body, _ = io.Copy(io.Discard, r.Body)
		seen.trailer = r.Trailer.Clone()
		a.mu.Lock()
		a.requests[i] = seen
		a.mu.Unlock()
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			w.WriteHeader(http.StatusOK)
			w.Header().Set("Grpc-Status", "0")
			return
		}
		io.WriteString(w, r.RequestURI)
	})
}

func (a *app) note(r request) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r)
	return len(a.requests) - 1
}

// seen are the requests so far.
func (a *app) seen() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]request(nil), a.requests...)
}

// last is the newest request.
func (a *app) last(t *T) request {
	t.Helper()
	seen := a.seen()
	if len(seen) == 0 {
		t.Fatalf("the application saw no request")
	}
	return seen[len(seen)-1]
}

// bytes are all that came, over all connections.
func (a *app) bytes() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Join(a.raw, []byte("\n----\n"))
}

// open is how many connections there are now, count how many there have been.
func (a *app) open() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns - a.ended
}

func (a *app) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.conns
}
