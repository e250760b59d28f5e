package clients

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
)

// http1 makes one HTTP/1.1 request on a connection of its own, without a
// transport's pool and retries: every byte on the wire belongs to this call.
func (c *Caller) http1(ctx context.Context, r Request, out *Outcome) error {
	request, err := r.http(ctx)
	if err != nil {
		return &phaseError{phaseSetup, 0, err}
	}
	conn, err := c.connect(ctx, r, out)
	if err != nil {
		return err
	}
	usable := false
	defer func() { c.release(conn, r, usable) }()
	reader := readers.Get().(*bufio.Reader)
	reader.Reset(conn)
	usable, err = r.exchangeHTTP1(ctx, request, conn, reader, out)
	reader.Reset(nil) // it must not keep the connection
	readers.Put(reader)
	return err
}

// The buffers of calls that are over: they are most of what a call allocates.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}
)

// doOnHTTP1 makes a call that is known to be valid on a connection that carried
// others before; usable says that it can carry one more.
func (c *Caller) doOnHTTP1(ctx context.Context, r Request, conn *connection, reader *bufio.Reader) (out Outcome, usable bool) {
	out = r.begin()
	out.Reused = true
	c.describe(conn, &out)
	r.finish(ctx, &out, func(ctx context.Context, r Request, out *Outcome) error {
		request, err := r.http(ctx)
		if err != nil {
			return &phaseError{phaseSetup, 0, err}
		}
		usable, err = r.exchangeHTTP1(ctx, request, conn, reader, out)
		return err
	})
	return out, usable
}

// exchangeHTTP1 writes a request and reads its answer. usable says that the
// connection can carry another.
func (r Request) exchangeHTTP1(ctx context.Context, request *http.Request, conn *connection, reader *bufio.Reader, out *Outcome) (usable bool, err error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(longAgo) })
	defer stop()
	request.Close = r.Connection != Reused
	usable, err = r.converseHTTP1(request, func(to io.Writer) error { return r.write(request, to) }, conn, reader, out)
	return usable && stop(), err
}

// converseHTTP1 has send write the request, and reads the answer to it, until the
// connection's deadline.
func (r Request) converseHTTP1(request *http.Request, send func(io.Writer) error, conn *connection, reader *bufio.Reader, out *Outcome) (usable bool, err error) {
	before := conn.received.Load()
	fail := func(what string, err error) (bool, error) {
		if loss := conn.loss(); loss != nil {
			err = loss
		}
		out.Kind = lossKind(err, conn.received.Load() > before)
		if out.Kind == Other && !speaksHTTP1(conn.began()) {
			out.Kind = ProtocolError
		}
		return false, fmt.Errorf("%s %s %s: %w", what, request.Method, r.Address, err)
	}
	if err := send(conn); err != nil {
		// A peer may answer and close before it has read everything, so what it
		// said is read all the same.
		conn.loss()
	}
	response, err := finalResponse(reader, request)
	if err != nil {
		return fail("read the answer to", err)
	}
	defer response.Body.Close()
	kept, n, err := readBody(response.Body, r.Keep)
	out.answered(response, n)
	if r.Keep {
		out.Header, out.Body = flatten(response.Header), kept
	}
	if err != nil {
		return fail("read the body of the answer to", err)
	}
	out.Kind = httpKind(response.StatusCode)
	return !response.Close && reader.Buffered() == 0, nil
}

// write sends the request, or what is to be sent in its place.
func (r Request) write(request *http.Request, to io.Writer) error {
	if len(r.Raw) > 0 {
		_, err := to.Write(r.Raw)
		return err
	}
	// One that can be written to byte by byte is not wrapped in a buffer again.
	writer := writers.Get().(*bufio.Writer)
	writer.Reset(to)
	err := request.Write(writer)
	if err == nil {
		err = writer.Flush()
	}
	writer.Reset(nil)
	writers.Put(writer)
	return err
}

// http1Begins is how every HTTP/1 answer begins.
const http1Begins = "HTTP/"

// speaksHTTP1 tells whether bytes may be the beginning of an HTTP/1 answer.
func speaksHTTP1(began []byte) bool {
	n := min(len(began), len(http1Begins))
	return string(began[:n]) == http1Begins[:n]
}

// answered notes what the head of an HTTP answer says, and its body's length.
func (o *Outcome) answered(response *http.Response, body int64) {
	header := response.Header
	o.HTTPStatus, o.Bytes = response.StatusCode, body
	o.ProxyError, o.ProxyConnection = header.Get(headerProxyError), header.Get(headerProxyConnection)
	o.Location, o.ContentType, o.ContentLength = header.Get("Location"), header.Get("Content-Type"), header.Get("Content-Length")
	o.Echoed = o.RequestID != "" && header.Get(HeaderID) == o.RequestID
}

// finalResponse skips informational answers.
func finalResponse(reader *bufio.Reader, request *http.Request) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(reader, request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
		response.Body.Close()
	}
}

// http returns the request as net/http wants it.
func (r Request) http(ctx context.Context) (*http.Request, error) {
	scheme := "https"
	if r.plain() {
		scheme = "http"
	}
	method, path := r.Method, r.Path
	if method == "" {
		method = http.MethodGet
	}
	if path == "" {
		path = "/"
	}
	request, err := http.NewRequestWithContext(ctx, method, scheme+"://"+r.Address+"/", bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	setTarget(request.URL, path)
	request.Host = r.host()
	request.Header.Set(HeaderID, r.ID)
	request.Header.Set("User-Agent", "meshproof-client")
	for name, value := range r.Headers {
		request.Header[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	for _, line := range r.Lines {
		request.Header.Add(line.Name, line.Value)
	}
	return request, nil
}

// setTarget makes the target go out as it was given, also when it is one that a
// parser would rather have cleaned.
func setTarget(u *url.URL, target string) {
	if !strings.HasPrefix(target, "//") {
		u.Opaque = target
		return
	}
	// An opaque part with two slashes would be taken for an authority.
	raw, query, _ := strings.Cut(target, "?")
	u.RawQuery, u.RawPath, u.Path = query, raw, raw
	if path, err := url.PathUnescape(raw); err == nil {
		u.Path = path
	}
}

// readBody reads to the end, keeping the beginning when asked.
func readBody(body io.Reader, keep bool) (kept []byte, n int64, err error) {
	if keep {
		var buffer bytes.Buffer
		n, err = io.Copy(&buffer, io.LimitReader(body, KeepLimit))
		kept = buffer.Bytes()
	}
	if err == nil {
		var rest int64
		rest, err = io.Copy(io.Discard, body)
		n += rest
	}
	return kept, n, err
}

func flatten(headers ...http.Header) map[string]string {
	flat := map[string]string{}
	for _, header := range headers {
		for name, values := range header {
			flat[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return flat
}
