package outbound

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http2"

	"github.com/meshproof/meshproof/internal/mesh/identity"
)

// sessionKey finds the session in a request's context.
type sessionKey struct{}

// makeServers prepares the servers that turn a client's bytes into requests and
// answers into bytes. They decide nothing.
func (p *Proxy) makeServers() {
	p.feed = &feed{conns: make(chan *peekedConn), done: make(chan struct{}), addr: p.listener.Addr()}
	p.http1 = &http.Server{
		Handler:                      http.HandlerFunc(p.handle),
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, sessionKey{}, conn.(*peekedConn).session)
		},
	}
	p.http2 = &http2.Server{MaxConcurrentStreams: maxStreams}
	if err := http2.ConfigureServer(p.http1, p.http2); err != nil {
		panic(err) // it refuses bad TLS settings only, and there are none
	}
}

// maxStreams bounds the concurrent requests of one HTTP/2 connection.
const maxStreams = 1000

// feed is the listener through which detected connections reach the HTTP/1
// server.
type feed struct {
	conns chan *peekedConn
	done  chan struct{}
	ended atomic.Bool
	addr  net.Addr
}

// serve returns when the connection has been closed.
func (f *feed) serve(s *session) {
	select {
	case f.conns <- s.conn:
		<-s.conn.closed
	case <-f.done:
	}
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case conn := <-f.conns:
		return conn, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

func (f *feed) Close() error {
	if !f.ended.Swap(true) {
		close(f.done)
	}
	return nil
}

func (f *feed) Addr() net.Addr { return f.addr }

func (p *Proxy) serveHTTP2(s *session) {
	ctx := context.WithValue(p.force, sessionKey{}, s)
	p.http2.ServeConn(s.conn, &http2.ServeConnOpts{Context: ctx, BaseConfig: p.http1, Handler: p.http1.Handler})
}

// handle gives one request to one endpoint and the answer back.
func (p *Proxy) handle(w http.ResponseWriter, r *http.Request) {
	s := r.Context().Value(sessionKey{}).(*session)
	if r.ProtoMajor == 1 && (r.Method == http.MethodConnect || isUpgrade(r.Header)) {
		s.tunnel(w, r)
		return
	}
	answer, err := s.roundTrip(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer answer.close()
	s.cleanAnswer(answer.Header, r)
	sendAnswer(w, r, answer)
}

// exchange is a response and the endpoint it came from.
type exchange struct {
	*http.Response
	endpoint *endpoint
}

// close ends the exchange and counts it. What of the body is not read by then
// will not be.
func (x exchange) close() {
	x.Body.Close()
	grpcStatus := ""
	if isGRPC(x.Header) {
		if grpcStatus = x.Trailer.Get("Grpc-Status"); grpcStatus == "" {
			grpcStatus = x.Header.Get("Grpc-Status")
		}
		if grpcStatus == "" {
			grpcStatus = "2" // an answer without one is a failure: unknown
		}
	}
	x.endpoint.metrics().responded(x.StatusCode, grpcStatus)
	x.endpoint.inFlight.Add(-1)
	x.endpoint.used()
}

// roundTrip sends r to an endpoint. While none can be reached, and nothing of
// the body has been taken, others are tried.
func (s *session) roundTrip(r *http.Request) (exchange, error) {
	body := newSparedBody(r)
	var tried []*endpoint
	var failed error
	for {
		e, err := s.pick(r.Context(), tried)
		if err != nil {
			if failed != nil {
				err = failed
			}
			return exchange{}, err
		}
		key, carried := e.how(r.ProtoMajor == 2)
		e.inFlight.Add(1)
		e.metrics().requests.Inc()
		out := s.outgoing(r, body, carried)
		if key.http2 {
			out.GetBody = body.again
		}
		answer, err := e.pool(key).RoundTrip(out)
		if err == nil {
			return exchange{answer, e}, nil
		}
		e.inFlight.Add(-1)
		e.used()
		var unreached *dialError
		if !errors.As(err, &unreached) || body.taken.Load() || len(tried) == maxTries-1 || r.Context().Err() != nil {
			return exchange{}, err
		}
		s.log.Info("endpoint not reached", "error", err)
		tried, failed = append(tried, e), err
	}
}

// outgoing is r as it leaves. The target is sent byte for byte, since the other
// side judges it.
func (s *session) outgoing(r *http.Request, body *sparedBody, carried bool) *http.Request {
	authority, absolute := r.Host, ""
	if r.ProtoMajor == 1 && r.URL.Host != "" && r.Method != http.MethodConnect {
		absolute = "; absolute-form"
	}
	if authority == "" {
		authority = s.dst.String()
	}
	out := (&http.Request{
		Method: r.Method, Host: authority, URL: rawTarget(r, authority), Header: cleanRequest(r.Header),
		ContentLength: r.ContentLength, Body: body.reader(), Trailer: body.trailer,
		Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
	}).WithContext(r.Context())
	if r.ContentLength == 0 || r.Body == http.NoBody {
		out.Body = http.NoBody
	}
	if carried {
		out.Header[headerOrigProto] = []string{r.Proto + absolute}
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // the library would name itself
	}
	return out
}

// poolHost stands for the endpoint in a URL: connections are shared between
// authorities, which are sent from Request.Host.
const poolHost = "endpoint"

// rawTarget keeps the request target as it came. The library would escape some
// of it anew; a target that begins with two slashes is the exception, for which
// there is no other way.
func rawTarget(r *http.Request, authority string) *url.URL {
	target := r.RequestURI
	if r.Method == http.MethodConnect {
		return &url.URL{Scheme: "http", Host: authority} // its target is the authority
	}
	if !strings.HasPrefix(target, "/") && target != "*" {
		if _, rest, ok := strings.Cut(target, "://"); ok {
			if slash := strings.IndexAny(rest, "/?"); slash < 0 {
				target = "/"
			} else if target = rest[slash:]; target[0] == '?' {
				target = "/" + target
			}
		}
	}
	if strings.HasPrefix(target, "//") {
		return &url.URL{Scheme: "http", Host: poolHost, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	}
	return &url.URL{Scheme: "http", Host: poolHost, Opaque: target}
}

// sendAnswer copies the answer, flushing whenever its sender pauses. When it
// breaks off, so does the copy.
func sendAnswer(w http.ResponseWriter, r *http.Request, answer exchange) {
	header := w.Header()
	for name, values := range answer.Header {
		header[name] = values
	}
	for _, name := range []string{"Date", "Content-Type"} {
		if _, ok := header[name]; !ok {
			header[name] = nil // the library would make one up
		}
	}
	announced := map[string]bool{}
	for name := range answer.Trailer {
		announced[name] = true
		header.Add("Trailer", name)
	}
	if len(announced) > 0 && r.ProtoMajor == 1 {
		header.Del("Content-Length") // HTTP/2 has both, HTTP/1 trailers in chunks only
	}
	w.WriteHeader(answer.StatusCode)
	flush := http.NewResponseController(w).Flush
	if answer.Body != http.NoBody && answer.ContentLength != 0 && r.Method != http.MethodHead {
		if answer.ContentLength < 0 {
			flush()
		}
		if err := sendBody(w, answer, flush); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if len(answer.Trailer) == 0 {
		return
	}
	if len(announced) == 0 {
		flush() // or HTTP/1 would send a length instead of chunks
	}
	for name, values := range cleanTrailer(answer.Trailer) {
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		header[name] = values
	}
}

func sendBody(w io.Writer, answer exchange, flush func() error) error {
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	var sent int64
	for {
		n, err := answer.Body.Read(buffer[:])
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if sent += int64(n); err == nil && n < len(buffer) && sent != answer.ContentLength {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fail answers for an endpoint that did not (N-10): 504 when none was found or
// reached in time, 502 otherwise, and in gRPC's own way to a gRPC client. The
// connection is not used again.
func (s *session) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is waiting for an answer
	}
	status := http.StatusBadGateway
	var timeout net.Error
	if errors.Is(err, errNoEndpoint) || errors.Is(err, identity.ErrNotCertified) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		status = http.StatusGatewayTimeout
	}
	s.log.Info("request failed", "error", err, "status", status)
	header := w.Header()
	header["Date"], header["Content-Type"] = nil, nil
	if r.ProtoMajor == 1 {
		header.Set("Connection", "close")
	}
	if r.ProtoMajor == 2 && isGRPC(r.Header) {
		header.Set("Content-Type", "application/grpc")
		header.Set("Grpc-Status", "14")
		header.Set("Grpc-Message", http.StatusText(status))
		status = http.StatusOK
	}
	header.Set("Content-Length", "0")
	w.WriteHeader(status)
}

func isGRPC(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
}
