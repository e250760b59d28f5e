package clients

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// DefaultEcho is the pause between two echoes on a held connection.
const DefaultEcho = 100 * time.Millisecond

// HeldState is what is known of a held connection.
type HeldState struct {
	// Open is true until either side has ended the connection or stream.
	Open      bool   `json:"open"`
	LocalAddr string `json:"localAddr,omitempty"`
	RequestID string `json:"requestID,omitempty"`
	// OpenedAt is when the connection was there, zero when it never was.
	OpenedAt time.Time `json:"openedAt,omitzero"`
	ClosedAt time.Time `json:"closedAt,omitzero"`
	// How says what ended it: Closed, Reset, Refused, TLSFailure, Timeout, for a
	// gRPC stream also the kind of its status, for a tunnel that was not opened the
	// kind of the answer. It is empty while the connection
	// is open and when it was closed from here.
	How Kind `json:"how,omitempty"`
	// GRPCStatus is the status a gRPC stream ended with, -1 before and for others.
	GRPCStatus int    `json:"grpcStatus"`
	Message    string `json:"message,omitempty"`
	// Bytes counts what arrived, EchoesSent and EchoesReceived the messages.
	Bytes          int64     `json:"bytes"`
	EchoesSent     int64     `json:"echoesSent"`
	EchoesReceived int64     `json:"echoesReceived"`
	LastEcho       time.Time `json:"lastEcho,omitzero"`
	// Answers counts, for HTTP1, HTTP2 and GRPC, the outcomes of the requests made
	// on the connection; such a connection stays open when they are denied.
	Answers map[Kind]int64 `json:"answers,omitempty"`
	// Answered is how many requests that was, and Last the outcome of the last.
	// Each has an ID of its own.
	Answered int64    `json:"answered,omitempty"`
	Last     *Outcome `json:"last,omitempty"`
}

// Held is a connection that is kept open and kept busy.
type Held struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	state   HeldState
	changed chan struct{}
}

// Hold opens a connection and sends a message on it every interval until it is
// ended. TCP protocols and tunnels exchange lines, GRPCStream messages of one stream, HTTP1, HTTP2
// and GRPC repeat the request; TCPSilent and Connect only listen. It returns once
// the first echo has come (for Connect: the connection is there), the connection
// has ended, or the request's time-out, which bounds only this opening, has
// passed. The caller must Close it.
func (c *Caller) Hold(r Request, interval time.Duration) (*Held, error) {
	if r.ID == "" {
		r.ID = uuid.NewString()
	}
	if err := r.Validate(); err != nil {
		return nil, err
	}
	run, ok := map[Protocol]func(*Caller, context.Context, *Held, Request, time.Duration) error{
		TCP: (*Caller).holdTCP, TCPServerFirst: (*Caller).holdTCP, TCPSilent: (*Caller).holdTCP, Connect: (*Caller).holdTCP,
		HTTPUpgrade: (*Caller).holdTCP, HTTPConnect: (*Caller).holdTCP,
		HTTP1: (*Caller).holdHTTP1, GRPCStream: (*Caller).holdStream, HTTP2: (*Caller).holdHTTP2, GRPC: (*Caller).holdHTTP2,
	}[r.Protocol]
	if !ok {
		return nil, fmt.Errorf("%w: %s connections cannot be held", ErrRequest, r.Protocol)
	}
	if interval <= 0 {
		interval = DefaultEcho
	}
	r.Connection = Fresh
	ctx, cancel := context.WithCancel(context.Background())
	h := &Held{cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{}),
		state: HeldState{Open: true, RequestID: r.ID, GRPCStatus: -1}}
	go h.run(ctx, func(ctx context.Context) error { return run(c, ctx, h, r, interval) })
	h.await(context.Background(), r.timeout(), func(s HeldState) bool {
		return s.EchoesReceived > 0 || !s.Open || r.Protocol == Connect && !s.OpenedAt.IsZero()
	})
	return h, nil
}

// State returns what is known now.
func (h *Held) State() HeldState {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := h.state
	state.Answers = maps.Clone(state.Answers)
	return state
}

// Wait blocks up to wait for the connection's end and returns the state.
func (h *Held) Wait(ctx context.Context, wait time.Duration) HeldState {
	h.await(ctx, wait, func(s HeldState) bool { return !s.Open })
	return h.State()
}

// Close ends the connection from this side, waits, and returns the last state.
func (h *Held) Close() HeldState {
	h.cancel()
	<-h.ended
	return h.State()
}

func (h *Held) await(ctx context.Context, wait time.Duration, enough func(HeldState) bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		h.mu.Lock()
		done, changed := enough(h.state), h.changed
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// update changes the state and wakes who waits for it.
func (h *Held) update(change func(*HeldState)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(&h.state)
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *Held) run(ctx context.Context, hold func(context.Context) error) {
	defer close(h.ended)
	err := hold(ctx)
	mine := ctx.Err() != nil
	h.cancel()
	h.update(func(s *HeldState) {
		s.Open, s.ClosedAt = false, time.Now()
		if mine {
			return
		}
		if s.How == "" {
			s.How = lossKind(err, false)
		}
		if err != nil && s.Message == "" {
			s.Message = err.Error()
		}
	})
}

// echoed notes an echo of n bytes.
func (h *Held) echoed(n int) {
	h.update(func(s *HeldState) {
		s.Bytes += int64(n)
		s.EchoesReceived++
		s.LastEcho = time.Now()
	})
}

// begin opens the connection within the request's time-out.
func (c *Caller) begin(ctx context.Context, h *Held, r Request) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout())
	defer cancel()
	var out Outcome
	conn, err := c.open(ctx, r, &out)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	h.update(func(s *HeldState) { s.OpenedAt, s.LocalAddr = time.Now(), conn.local })
	return conn, nil
}

// tick calls send every interval until ctx or the connection ends.
func (h *Held) tick(ctx context.Context, lost <-chan struct{}, interval time.Duration, send func() error) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		// A failed write says that the connection is over; how is what the
		// reader finds.
		if send() != nil {
			return
		}
		h.update(func(s *HeldState) { s.EchoesSent++ })
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case <-ticker.C:
		}
	}
}

func (c *Caller) holdTCP(ctx context.Context, h *Held, r Request, interval time.Duration) error {
	conn, err := c.begin(ctx, h, r)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	reader := bufio.NewReaderSize(conn, lineLimit)
	if r.Protocol.tunnel() {
		out := r.begin()
		if reader, err = r.openTunnel(ctx, conn, &out); reader == nil {
			h.update(func(s *HeldState) { s.How, s.Message = out.Kind, out.Message })
			return err
		}
	}
	read := func() error {
		line, err := reader.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			h.update(func(s *HeldState) { s.Bytes += int64(len(line)) })
			if loss := conn.loss(); loss != nil {
				err = loss
			}
			return fmt.Errorf("read from %s: %w", r.Address, err)
		}
		h.echoed(len(line))
		return nil
	}
	if r.Protocol == TCPServerFirst {
		if err := read(); err != nil {
			return err
		}
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	if r.Protocol == TCP || r.Protocol == TCPServerFirst || r.Protocol.tunnel() {
		writer.Go(func() {
			h.tick(ctx, conn.lost, interval, func() error { _, err := conn.Write(r.line()); return err })
		})
	}
	for {
		if err := read(); err != nil {
			conn.Close()
			return err
		}
	}
}

// beginHTTP2 opens a connection and starts HTTP/2 on it.
func (c *Caller) beginHTTP2(ctx context.Context, h *Held, r Request) (*http2Conn, error) {
	conn, err := c.begin(ctx, h, r)
	if err != nil {
		return nil, err
	}
	client, err := transport.NewClientConn(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin HTTP/2 with %s: %w", r.Address, err)
	}
	return &http2Conn{connection: conn, client: client}, nil
}

func (c *Caller) holdStream(ctx context.Context, h *Held, r Request, interval time.Duration) error {
	conn, err := c.beginHTTP2(ctx, h, r)
	if err != nil {
		return err
	}
	defer conn.close()
	body, feed := io.Pipe()
	defer feed.Close()
	request, err := r.grpc(ctx, body)
	if err != nil {
		return &phaseError{phaseSetup, 0, err}
	}
	// While it reads from the body, the HTTP/2 client does not see ctx end.
	stop := context.AfterFunc(ctx, func() { feed.CloseWithError(context.Cause(ctx)) })
	defer stop()
	var writer sync.WaitGroup
	defer writer.Wait()
	// Closing the body frees the writer; deferred after Wait, it runs before it.
	defer body.Close()
	writer.Go(func() {
		message := frame(r.Body)
		h.tick(ctx, conn.lost, interval, func() error { _, err := feed.Write(message); return err })
	})
	over := func(spoke bool, err error) error {
		if loss := conn.loss(); loss != nil {
			return fmt.Errorf("hold %s at %s: %w", r.Method, r.Address, loss)
		}
		var out Outcome
		err = conn.failure(&out, 0, spoke, err)
		h.update(func(s *HeldState) { s.How = out.Kind })
		return fmt.Errorf("hold %s at %s: %w", r.Method, r.Address, err)
	}
	response, err := conn.client.RoundTrip(request)
	if err != nil {
		return over(false, err)
	}
	defer response.Body.Close()
	for response.StatusCode == http.StatusOK {
		message, err := readFrame(response.Body)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return over(true, err)
		}
		h.echoed(len(message))
	}
	var out Outcome
	out.GRPCStatus = -1
	out.grpcEnd(response)
	h.update(func(s *HeldState) { s.How, s.GRPCStatus, s.Message = out.Kind, out.GRPCStatus, out.Message })
	return nil
}

// repeated is the request in its n-th repetition.
func (r Request) repeated(n int) Request {
	r.ID += "-" + strconv.Itoa(n)
	return r
}

// answered notes the outcome of one of the requests on the connection.
func (h *Held) answered(out Outcome) {
	h.update(func(s *HeldState) {
		if s.Answers == nil {
			s.Answers = map[Kind]int64{}
		}
		s.Answers[out.Kind]++
		s.Answered++
		s.GRPCStatus, s.Message, s.Last = out.GRPCStatus, out.Message, &out
	})
	if out.HTTPStatus != 0 {
		h.echoed(int(out.Bytes))
	}
}

// holdHTTP1 repeats the request on one connection, which ends when its peer ends
// it or says that it will: answers that deny are counted and the connection is
// kept.
func (c *Caller) holdHTTP1(ctx context.Context, h *Held, r Request, interval time.Duration) error {
	conn, err := c.begin(ctx, h, r)
	if err != nil {
		return err
	}
	defer conn.Close()
	r.Connection = Reused
	reader, n := bufio.NewReader(conn), 0
	h.tick(ctx, conn.lost, interval, func() error {
		n++
		out, usable := c.doOnHTTP1(ctx, r.repeated(n), conn, reader)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if out.HTTPStatus != 0 {
			h.answered(out)
		}
		if !usable {
			err = errors.New("the answer ends the connection")
		}
		return err
	})
	if loss := conn.loss(); loss != nil {
		err = loss
	} else if err != nil && ctx.Err() == nil {
		h.update(func(s *HeldState) { s.How = Closed })
	}
	if err != nil {
		return fmt.Errorf("hold a connection to %s: %w", r.Address, err)
	}
	return ctx.Err()
}

// holdHTTP2 repeats the request on one connection, which ends with its peer's
// will only: answers that deny are counted and the connection is kept.
func (c *Caller) holdHTTP2(ctx context.Context, h *Held, r Request, interval time.Duration) error {
	conn, err := c.beginHTTP2(ctx, h, r)
	if err != nil {
		return err
	}
	defer conn.close()
	n := 0
	h.tick(ctx, conn.lost, interval, func() error {
		n++
		out := c.doOn(ctx, r.repeated(n), conn)
		if conn.loss() != nil || ctx.Err() != nil {
			return errors.New("the connection is over")
		}
		h.answered(out)
		return nil
	})
	if loss := conn.loss(); loss != nil {
		return fmt.Errorf("hold a connection to %s: %w", r.Address, loss)
	}
	return ctx.Err()
}
