package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// copyBuffer is the size of the pooled buffers bodies pass through.
	copyBuffer = 16 << 10
	// upstreamIdle keeps a connection to the application for the client's next request.
	upstreamIdle = time.Minute
	// carriedIdle is how many idle connections serve HTTP/1 requests that came multiplexed.
	carriedIdle = 8
)

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

// upstreams are the connections to the application that serve one client
// connection. They are never shared: an answer cannot reach another identity.
type upstreams struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
	http1  *http.Transport
	http2  *http2.Transport
}

// add registers a connection for cut; false when the session is over already.
func (u *upstreams) add(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	if u.conns == nil {
		u.conns = map[net.Conn]struct{}{}
	}
	u.conns[c] = struct{}{}
	return true
}

func (u *upstreams) remove(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.conns, c)
}

// close ends all connections to the application, as the client's has ended.
func (u *upstreams) close() {
	u.mu.Lock()
	u.closed = true
	conns, h1, h2 := u.conns, u.http1, u.http2
	u.conns = nil
	u.mu.Unlock()
	if h1 != nil {
		h1.CloseIdleConnections()
	}
	if h2 != nil {
		h2.CloseIdleConnections()
	}
	for c := range conns {
		c.Close()
	}
}

// cut resets them.
func (u *upstreams) cut() {
	u.mu.Lock()
	conns := make([]net.Conn, 0, len(u.conns))
	for c := range u.conns {
		conns = append(conns, c)
	}
	u.closed = true
	u.mu.Unlock()
	for _, c := range conns {
		if tracked, ok := c.(*trackedConn); ok {
			tracked.TCPConn.SetLinger(0)
		} else if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

// trackedConn forgets itself when a transport closes it.
type trackedConn struct {
	*net.TCPConn
	upstreams *upstreams
}

func (c *trackedConn) Close() error {
	c.upstreams.remove(c)
	return c.TCPConn.Close()
}

// dialFor returns how the session's transports reach the application: always the original destination.
func (s *Server) dialFor(sess *session) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := s.dial.DialContext(ctx, "tcp", sess.dst.String())
		if err != nil {
			return nil, &unreachable{err}
		}
		tracked := &trackedConn{TCPConn: conn.(*net.TCPConn), upstreams: &sess.upstream}
		if !sess.upstream.add(tracked) {
			conn.Close()
			return nil, net.ErrClosed
		}
		return tracked, nil
	}
}

// unreachable marks errors of the dial.
type unreachable struct{ error }

func (e *unreachable) Unwrap() error { return e.error }

func (s *Server) transport(c *call) http.RoundTripper {
	u := &c.sess.upstream
	u.mu.Lock()
	defer u.mu.Unlock()
	dial := s.dialFor(c.sess)
	if !c.http1 {
		if u.http2 == nil {
			u.http2 = &http2.Transport{
				AllowHTTP:          true,
				DisableCompression: true,
				MaxReadFrameSize:   maxFrame,
				MaxHeaderListSize:  maxHeaderBytes,
				DialTLSContext: func(ctx context.Context, _, _ string, _ *tls.Config) (net.Conn, error) {
					return dial(ctx)
				},
			}
		}
		return u.http2
	}
	if u.http1 == nil {
		idle := 1
		if c.carried {
			idle = carriedIdle
		}
		u.http1 = &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			DisableCompression:     true,
			MaxIdleConnsPerHost:    idle,
			IdleConnTimeout:        upstreamIdle,
			MaxResponseHeaderBytes: maxHeaderBytes,
			TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		}
	}
	return u.http1
}

// forward passes a permitted request to the application and its answer back.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, c *call) {
	out := outgoing(r, c)
	if c.http1 && !c.carried && r.ContentLength != 0 {
		// The application may answer before it has read all of the body.
		http.NewResponseController(w).EnableFullDuplex()
	}
	out = out.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			if code == http.StatusContinue || code == http.StatusSwitchingProtocols {
				return nil
			}
			h := w.Header()
			copyHeader(h, http.Header(header))
			w.WriteHeader(code)
			clear(h)
			return nil
		},
	}))
	res, err := s.transport(c).RoundTrip(out)
	if err != nil {
		s.failed(w, r, c, err)
		return
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		s.upgrade(w, r, c, res)
		return
	}
	defer res.Body.Close()
	h := w.Header()
	stripHops(res.Header, false)
	res.Header.Del(headerOrigProto)
	copyHeader(h, res.Header)
	// What the application did not send, the server must not make up.
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := h[name]; !ok {
			h[name] = nil
		}
	}
	announced := len(res.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range res.Trailer {
			names = append(names, name)
		}
		slices.Sort(names)
		h.Set("Trailer", strings.Join(names, ", "))
	}
	w.WriteHeader(res.StatusCode)
	if err := copyBody(w, res); err != nil {
		s.observe(c, res, err)
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
	if len(res.Trailer) == announced {
		copyHeader(h, res.Trailer)
	} else {
		for name, values := range res.Trailer {
			h[http.TrailerPrefix+name] = values
		}
	}
	s.observe(c, res, nil)
}

// outgoing makes the request the application sees.
func outgoing(r *http.Request, c *call) *http.Request {
	target := *r.URL
	target.Scheme, target.Host, target.User = "http", c.sess.dst.String(), nil
	if path, ok := c.snap.port.ForwardPath(c.head.Path); ok {
		if parsed, err := url.ParseRequestURI(path); err == nil {
			target.Path, target.RawPath = parsed.Path, parsed.RawPath
		}
	}
	if c.absolute {
		target.Opaque = "//" + r.Host + target.EscapedPath()
	}
	out := &http.Request{
		Method: r.Method, URL: &target, Host: r.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.Header, ContentLength: r.ContentLength, Trailer: r.Trailer,
	}
	if r.ContentLength != 0 {
		out.Body = r.Body
	} else {
		out.Trailer = nil
	}
	upgrade := ""
	if c.http1 && !c.carried && headerHas(r.Header["Connection"], "upgrade") {
		upgrade = r.Header.Get("Upgrade")
		if strings.EqualFold(upgrade, "h2c") { // no uninspected stream may start
			upgrade = ""
		}
	}
	stripHops(out.Header, true)
	if upgrade != "" {
		out.Header["Connection"] = []string{"Upgrade"}
		out.Header["Upgrade"] = []string{upgrade}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // the transport must not add its own
	}
	if out.Trailer != nil {
		stripTrailers(out.Trailer)
		out.Body = &trailerGuard{out.Body, out.Trailer}
	}
	if id := c.sess.client.Identity; id != "" {
		out.Header[headerClientID] = []string{id}
	}
	return out
}

// trailerGuard reads a body whose end brings trailers: the server puts whatever
// the client sent into the map, announced or not.
type trailerGuard struct {
	io.ReadCloser
	trailer http.Header
}

func (g *trailerGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		stripTrailers(g.trailer)
	}
	return n, err
}

func stripTrailers(trailer http.Header) {
	for name := range trailer {
		if protected(name) || slices.Contains(hops, name) {
			delete(trailer, name)
		}
	}
}

// hops are the headers that concern one connection only.
var hops = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade"}

// protected headers survive being named in Connection, and are never trailers:
// a client must not take away what the application decides by.
func protected(name string) bool {
	switch name {
	case "Host", "Authorization", "Cookie", "Content-Length", "Content-Type", "Te", "Forwarded", "X-Forwarded-For":
		return true
	}
	return strings.HasPrefix(name, "L5d-")
}

func stripHops(h http.Header, request bool) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if name != "" && !protected(name) {
				delete(h, name)
			}
		}
	}
	for _, name := range hops {
		delete(h, name)
	}
	if request {
		trailers := headerHas(h["Te"], "trailers")
		delete(h, "Te")
		if trailers {
			h["Te"] = []string{"trailers"}
		}
	}
}

// headerHas looks for a token in a comma list, ignoring case.
func headerHas(values []string, token string) bool {
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

func copyHeader(dst, src http.Header) {
	for name, values := range src {
		dst[name] = append(dst[name], values...)
	}
}

// copyBody passes each message on as it comes. The head waits for the first
// bytes only when the length is known: an answer that ends with its head must
// go out as such (gRPC trailers-only).
func copyBody(w http.ResponseWriter, res *http.Response) error {
	flush := http.NewResponseController(w)
	if res.ContentLength < 0 {
		flush.Flush()
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		n, err := res.Body.Read(*buf)
		if n > 0 {
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return errClientGone
			}
			if err == nil {
				flush.Flush()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errClientGone = errors.New("client went away")

// failed answers for an application that could not (N-10).
func (s *Server) failed(w http.ResponseWriter, r *http.Request, c *call, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	status, message := http.StatusBadGateway, "application not reachable"
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		status, message = http.StatusGatewayTimeout, "application connect timed out"
	}
	s.cfg.Metrics.httpError(map[int]string{http.StatusBadGateway: errIO, http.StatusGatewayTimeout: "failfast"}[status])
	s.log.info("Application failed", "error", err, "target.addr", c.sess.dst.String())
	s.observeStatus(c, status)
	s.answer(w, c, reply{status: status, message: message, close: true})
}
