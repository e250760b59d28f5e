package inbound

import (
	"errors"
	"net/http"
	"sync"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/http2"
)

// carriers ask the application in HTTP/1 what one client's HTTP/2 has carried (H-01).
type carriers struct {
	mu     sync.Mutex
	idle   []*http1.Carrier
	closed bool
	// senders waits for bodies that the application did not want to the end.
	senders sync.WaitGroup
}

func (p *carriers) get(sess *session) *http1.Carrier {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		k := p.idle[last]
		p.idle = p.idle[:last]
		return k
	}
	return sess.server.http1.Carrier(sess.dial)
}

func (p *carriers) put(k *http1.Carrier, reusable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reusable && !p.closed && len(p.idle) < carriedIdle {
		p.idle = append(p.idle, k)
		return
	}
	k.Close()
	p.senders.Go(k.Wait)
}

// close is called when the client's connection has ended.
func (p *carriers) close() {
	p.mu.Lock()
	p.closed = true
	for _, k := range p.idle {
		k.Close()
	}
	p.idle = nil
	p.mu.Unlock()
	p.senders.Wait()
}

// carry asks the application in HTTP/1 and answers the stream. status is what was
// sent, 0 for nothing.
func (h *calls2) carry(stream *http2.Stream, c *call) (status, grpc int, err error) {
	head := stream.Head()
	request := http1.Carried{
		Method: head.Method, Scheme: []byte("http"), Authority: head.Authority,
		Path: head.Path, Query: head.Query, HasQuery: head.HasQuery, Absolute: c.absolute,
		Fields: new(calls2).whole(head.Fields), Source: stream, Trailers: stream.Trailers,
	}
	switch {
	case head.ContentLength >= 0:
		request.Body, request.Length = http1.Length, head.ContentLength
	case !head.EndStream:
		request.Body = http1.Chunked
	}
	k := h.carriers.get(h.sess)
	status, grpc, reusable, err := k.Do(stream.Context(), &request, carriedAnswer{stream})
	h.carriers.put(k, reusable)
	if err == nil || status != 0 || errors.Is(err, http1.ErrClient) {
		return status, grpc, err
	}
	r := reply{status: http.StatusBadRequest, close: true}
	if errors.Is(err, http1.ErrUnfit) {
		c.permitted = false // it is no request that the application could be asked
	} else {
		r = h.sess.server.unanswered(c, err)
	}
	h.relay.Drain() // N-10
	status, fields := c.form2(nil, r)
	stream.WriteHead(status, fields2(fields), true)
	return status, -1, err
}

// carriedAnswer passes an answer on to the stream that its request came by.
type carriedAnswer struct{ stream *http2.Stream }

// Head implements http1.Sink.
func (a carriedAnswer) Head(status int, fields []http1.Field, end bool) error {
	return a.stream.WriteHead(status, fields, end)
}

// Body implements http1.Sink.
func (a carriedAnswer) Body(b []byte) error {
	_, err := a.stream.Write(b)
	return err
}

// End implements http1.Sink.
func (a carriedAnswer) End(trailers []http1.Field) error { return a.stream.End(trailers) }

func fields2(headers []http2.Header) []http2.Field {
	to := make([]http2.Field, len(headers))
	for i, f := range headers {
		to[i] = http2.Field{Name: []byte(f.Name), Value: []byte(f.Value)}
	}
	return to
}
