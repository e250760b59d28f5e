package http2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"golang.org/x/net/http2"
)

// Stream is one request that the Handler has to itself. Its methods may be called
// from several goroutines; reading and writing are independent of each other.
type Stream struct {
	head   Head
	token  any
	conn   *Conn
	ctx    context.Context
	cancel context.CancelFunc

	// conn.mu guards the rest; cond is told when any of it changes, and windows.
	cond sync.Cond
	// s is nil once the stream is over; err says why.
	s        *stream
	err      error
	trailers []Field
	answered bool
}

var errMisuse = errors.New("no final head has been written, or the response has ended")

// Head is the request head as the Action changed it.
func (s *Stream) Head() *Head { return &s.head }

// Token is what Decide left in the Action.
func (s *Stream) Token() any { return s.token }

// Context ends when the client resets the stream or its connection ends.
func (s *Stream) Context() context.Context { return s.ctx }

// handOut gives the stream of c.head to the Handler.
func (c *Conn) handOut() {
	s := c.newStream(nil)
	s.toApp.ended = c.head.EndStream
	h := &Stream{conn: c, s: s, token: c.action.Token, head: c.ownHead()}
	h.cond.L = &c.mu
	h.ctx, h.cancel = context.WithCancel(c.ctx)
	s.handed = h
	c.wg.Go(func() {
		defer h.served()
		c.handler.Serve(h)
	})
}

// ownHead copies c.head as c.action changes it.
func (c *Conn) ownHead() Head {
	h := c.head
	for _, b := range []*[]byte{&h.Method, &h.Scheme, &h.Authority, &h.Path, &h.Query, &h.OrigProto} {
		*b = bytes.Clone(*b)
	}
	if c.action.Path != nil {
		h.Path = bytes.Clone(c.action.Path)
	}
	h.Fields = nil
	add := func(f *Field) { h.Fields = append(h.Fields, Field{bytes.Clone(f.Name), bytes.Clone(f.Value)}) }
	for i := range c.head.Fields {
		if f := &c.head.Fields[i]; !c.action.leavesOut(f.Name) {
			add(f)
		}
	}
	for _, more := range [...][]Header{c.action.Set, c.action.Append} {
		for _, f := range more {
			h.Fields = append(h.Fields, Field{[]byte(f.Name), []byte(f.Value)})
		}
	}
	return h
}

// feed takes body bytes from the client's reader.
func (s *Stream) feed(b []byte, credited int, end bool) {
	h := &s.s.toApp
	h.ended = end
	h.push(b)
	s.conn.credit(s.conn.client, h, credited-len(b))
	s.cond.Broadcast()
}

func (s *Stream) finish(f *fields) {
	s.trailers = f.clone().list
	s.s.toApp.ended = true
	s.cond.Broadcast()
}

// broken takes the stream away from who serves it.
func (s *Stream) broken(err error) {
	if s.s == nil {
		return
	}
	s.s, s.err = nil, err
	if err == nil {
		s.err = ErrClosed
	}
	s.cancel()
	s.cond.Broadcast()
}

// served ends what Serve has left unfinished.
func (s *Stream) served() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	defer s.cancel()
	if st := s.s; st != nil {
		if st.toClient.done {
			st.toApp.done = true
			s.conn.settle(st)
		} else {
			s.conn.abort(st, http2.ErrCodeInternal, ErrClosed)
		}
	}
	s.conn.flushAll()
}

// Read takes of the request body: io.EOF at its end, ErrClient when the client
// reset the stream. Bytes are credited to the client as they are read.
func (s *Stream) Read(p []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	for {
		if s.s == nil {
			return 0, s.err
		}
		h := &s.s.toApp
		if n := copy(p, h.queue[h.off:]); n > 0 || len(p) == 0 {
			if h.off += n; h.queued() == 0 {
				h.queue, h.off = h.queue[:0], 0
			}
			s.conn.credit(s.conn.client, h, n)
			s.conn.flushAll()
			return n, nil
		}
		if h.ended {
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

// Trailers are the request's, without what a trailer may not carry; nil before
// Read has returned io.EOF.
func (s *Stream) Trailers() []Field {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.trailers
}

// WriteHead sends a response head. Statuses below 200 may precede another head.
// Connection-specific fields and l5d-orig-proto are left out. With end no body follows.
func (s *Stream) WriteHead(status int, fields []Field, end bool) error {
	if status < 100 || status > 999 || status < 200 && end {
		return errMisuse
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.s == nil {
		return s.err
	}
	if s.answered {
		return errMisuse
	}
	code := Field{staticTable[8].Name, strconv.AppendInt(nil, int64(status), 10)}
	if err := s.block(&code, fields, end); err != nil {
		return err
	}
	s.answered = status >= 200
	return nil
}

// block sends a head, or trailers when there is no code.
func (s *Stream) block(code *Field, fields []Field, end bool) error {
	p, h := s.conn.client, &s.s.toClient
	for i := range fields {
		f := Field{bytes.ToLower(fields[i].Name), fields[i].Value}
		if !wellFormed(&f) {
			return errMisuse
		}
	}
	o, from := p.beginHeaders()
	if code != nil {
		o.b = p.enc.field(o.b, code, meta{static: 8, form: indexed})
	}
	for i := range fields {
		f := Field{bytes.ToLower(fields[i].Name), fields[i].Value}
		if !hopByHop(f.Name) && text(f.Name) != nameOrigProto {
			o.b = p.enc.field(o.b, &f, metaOf(f.Name, indexed))
		}
	}
	o.b = endHeaders(o.b, from, h.stream.id, end)
	h.ended, h.done = end, end
	s.conn.flushAll()
	return nil
}

// Write sends body bytes as the client's windows allow, waiting for them.
func (s *Stream) Write(b []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	written := 0
	for {
		if s.s == nil {
			return written, s.err
		}
		p, h := s.conn.client, &s.s.toClient
		if !s.answered || h.done {
			return written, errMisuse
		}
		if len(b) == written {
			s.conn.flushAll()
			return written, nil
		}
		n := min(len(b)-written, h.window, p.window, maxFrame)
		if n <= 0 {
			s.conn.flushAll()
			if s.s != nil && min(s.s.toClient.window, p.window) <= 0 {
				s.cond.Wait()
			}
			continue
		}
		p.send(h, b[written:written+n], false)
		if written += n; p.pending() > highWater {
			s.conn.flushAll()
		}
	}
}

// End ends the response, with trailers when there are any.
func (s *Stream) End(trailers []Field) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	switch {
	case s.s == nil:
		return s.err
	case !s.answered || s.s.toClient.done:
		return errMisuse
	case len(trailers) > 0:
		return s.block(nil, trailers, true)
	}
	s.s.toClient.ended = true
	s.conn.client.send(&s.s.toClient, nil, true)
	s.conn.flushAll()
	return nil
}

// wakeWriters tells Streams that the client's windows have grown.
func (c *Conn) wakeWriters() {
	for _, s := range c.streams {
		if s.handed != nil {
			s.handed.cond.Broadcast()
		}
	}
}
