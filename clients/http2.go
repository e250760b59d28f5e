package clients

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/http2"
)

// http2Conn is an HTTP/2 connection that calls may share.
type http2Conn struct {
	*connection
	client *http2.ClientConn
	// calls are those on it, and shared whether later ones may join; the pool's
	// lock guards both. The client's own count forgets a call for a moment.
	calls  int
	shared bool
}

func (h *http2Conn) close() {
	h.client.Close()
	h.connection.Close()
}

// transport makes connections only; its pool is never used. Strict makes a call
// wait for room on its connection, where otherwise the client would say that
// the connection is unusable.
var transport = &http2.Transport{AllowHTTP: true, DisableCompression: true, StrictMaxConcurrentStreams: true}

// http2Connect returns a connection for the call and what to do when it is over.
func (c *Caller) http2Connect(ctx context.Context, r Request, out *Outcome) (*http2Conn, func(), error) {
	key := r.poolKey()
	if r.Connection == Reused {
		if shared := c.pool.reserve(key); shared != nil {
			out.Reused = true
			c.describe(shared.connection, out)
			return shared, func() { c.pool.leave(shared) }, nil
		}
	}
	conn, err := c.open(ctx, r, out)
	if err != nil {
		return nil, nil, err
	}
	c.describe(conn, out)
	client, err := transport.NewClientConn(conn)
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("begin HTTP/2 with %s: %w", r.Address, err)
	}
	made := &http2Conn{connection: conn, client: client, calls: 1}
	if r.Connection == Reused {
		c.pool.share(key, made)
	}
	return made, func() { c.pool.leave(made) }, nil
}

// sharedCalls is how many calls share one connection before another is opened.
// Servers allow no fewer streams: 100 is the least that the protocol recommends.
const sharedCalls = 100

// reserve returns a shared connection with room for a call on it, or nil. One
// that takes no more calls, because its peer said so, is no longer shared; it
// keeps the calls that it has.
func (p *pool) reserve(key poolKey) *http2Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Nobody is asked but those with room, up to the first that has it: all calls wait
	// for this lock.
	for i := 0; i < len(p.shared[key]); {
		conn := p.shared[key][i]
		switch {
		case conn.calls >= sharedCalls:
			i++
		case conn.client.CanTakeNewRequest():
			conn.calls++
			return conn
		default:
			conn.shared = false
			if conn.calls == 0 {
				conn.close()
			}
			p.shared[key] = slices.Delete(p.shared[key], i, i+1)
		}
	}
	return nil
}

// share offers a new connection to later calls.
func (p *pool) share(key poolKey, conn *http2Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		conn.shared = true
		p.shared[key] = append(p.shared[key], conn)
	}
}

// leave ends a call on the connection, and the last call one that nobody else
// can join.
func (p *pool) leave(conn *http2Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn.calls--; conn.calls == 0 && !conn.shared {
		conn.close()
	}
}

// failure classifies what kept a stream from being answered. before is the
// connection's byte count when the call began, spoke whether the peer answered
// this stream.
func (h *http2Conn) failure(out *Outcome, before int64, spoke bool, err error) error {
	var reset http2.StreamError
	switch {
	case errors.As(err, &reset):
		// A stream that is reset on a living connection is an answer of sorts,
		// from an HTTP/2 peer.
		switch {
		case isTimeout(err):
			out.Kind = Timeout
		case reset.Code == http2.ErrCodeProtocol:
			out.Kind = ProtocolError
		default:
			out.Kind = Other
		}
	default:
		misunderstood := notUnderstood(err)
		if loss := h.loss(); loss != nil {
			err = loss
		}
		out.Kind = lossKind(err, spoke || h.received.Load() > before)
		if out.Kind == Other && (misunderstood || !speaksHTTP2(h.began())) {
			out.Kind = ProtocolError
		}
	}
	return err
}

// notUnderstood tells whether one end found an error in what the other one spoke.
func notUnderstood(err error) bool {
	var away http2.GoAwayError
	if errors.As(err, &away) {
		return away.ErrCode == http2.ErrCodeProtocol || away.ErrCode == http2.ErrCodeFrameSize
	}
	var found http2.ConnectionError
	return errors.As(err, &found)
}

// speaksHTTP2 tells whether bytes may be the beginning of an HTTP/2 peer's
// answer: a frame of settings, whose type is the fourth byte, of the connection and
// no stream. The client finds the same, but when it finds it before a call begins it
// tells that call no more than that the connection is of no use.
func speaksHTTP2(began []byte) bool {
	const kind, stream = 3, 5
	switch {
	case len(began) <= kind:
		return true
	case http2.FrameType(began[kind]) != http2.FrameSettings:
		return false
	}
	return len(began) < headKept || binary.BigEndian.Uint32(began[stream:]) == 0
}

// exchange is one request and its answer on a connection that is there.
type exchange func(ctx context.Context, conn *http2Conn, r Request, out *Outcome) error

// overHTTP2 makes the call on a connection of the pool or of its own.
func (c *Caller) overHTTP2(ctx context.Context, r Request, out *Outcome) error {
	conn, done, err := c.http2Connect(ctx, r, out)
	if err != nil {
		return err
	}
	defer done()
	return r.exchange()(ctx, conn, r, out)
}

func (r Request) exchange() exchange {
	if r.Protocol.grpc() {
		return exchangeGRPC
	}
	return exchangeHTTP2
}

func exchangeHTTP2(ctx context.Context, conn *http2Conn, r Request, out *Outcome) error {
	request, err := r.http(ctx)
	if err != nil {
		return &phaseError{phaseSetup, 0, err}
	}
	before := conn.mark(out)
	response, err := conn.client.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", request.Method, r.Address, conn.failure(out, before, false, err))
	}
	defer response.Body.Close()
	kept, n, err := readBody(response.Body, r.Keep)
	out.answered(response, n)
	if r.Keep {
		out.Header, out.Body = flatten(response.Header, response.Trailer), kept
	}
	if err != nil {
		return fmt.Errorf("read the body of the answer to %s %s: %w", request.Method, r.Address, conn.failure(out, before, true, err))
	}
	out.Kind = httpKind(response.StatusCode)
	return nil
}

// mark returns the byte count from which on the call's answer is counted. A
// new connection's begins at nothing, so that the settings with which a peer
// greets count as an answer: who speaks HTTP/2 has not refused the connection.
func (h *http2Conn) mark(out *Outcome) int64 {
	if !out.Reused {
		return 0
	}
	return h.received.Load()
}
