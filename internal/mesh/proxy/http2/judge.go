package http2

import (
	"errors"
	"strconv"

	"golang.org/x/net/http2"
)

// judge has the Handler decide on c.head and carries the decision out.
func (c *Conn) judge() *connError {
	a, head := &c.action, &c.head
	a.clear()
	c.handler.Decide(head, a)
	switch a.Verdict {
	case Forward:
		c.forward()
	case HandOut:
		c.handOut()
	case Answer:
		c.reply(head.StreamID, head.EndStream, a)
		c.handler.Responded(a.Token, a.Status, -1, nil)
	default:
		c.breakClient(head.StreamID, http2.ErrCodeInternal)
		c.handler.Responded(a.Token, 0, -1, errUndecided)
	}
	return nil
}

var errUndecided = errors.New("the handler has not decided")

func (a *Action) clear() {
	*a = Action{Remove: a.Remove[:0], Set: a.Set[:0], Append: a.Append[:0], Fields: a.Fields[:0]}
}

// reply answers a stream that is not open, or not any more. Its fields go into no
// table. A client that is still sending is asked to stop; what it sends until it
// sees that is dropped and credited.
func (c *Conn) reply(id uint32, ended bool, a *Action) {
	p := c.client
	o, from := p.beginHeaders()
	var digits [3]byte
	status := Field{staticTable[8].Name, strconv.AppendInt(digits[:0], int64(a.Status), 10)}
	o.b = p.enc.field(o.b, &status, meta{static: 8, form: literal, whole: a.Status == 200})
	for _, f := range a.Fields {
		o.b = p.enc.own(o.b, f, literal)
	}
	o.b = endHeaders(o.b, from, id, true)
	if ended {
		c.ended.add(id)
	} else {
		c.stop(id)
	}
	if a.Close {
		c.goAwayAfter(c.lastID)
	}
}

// newStream opens a stream. up is nil when it is handed out.
func (c *Conn) newStream(up *peer) *stream {
	var s *stream
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
	} else {
		s = &stream{}
	}
	s.id, s.up, s.token, s.grpc = c.head.StreamID, up, c.action.Token, -1
	s.toApp.stream, s.toClient.stream = s, s
	s.toApp.room, s.toClient.room = streamWindow, streamWindow
	s.toApp.left, s.toClient.left = c.head.ContentLength, -1
	s.toClient.window = c.client.initial
	if up != nil {
		s.toApp.window = up.initial
		up.open++
		up.last = s.id
	}
	c.streams[s.id] = s
	return s
}

// forward opens the stream on the connection to the application.
func (c *Conn) forward() {
	defer c.drained() // when it has come to no stream, and was the last
	id, token, end := c.head.StreamID, c.action.Token, c.head.EndStream
	up, err := c.upstream()
	switch {
	case c.finished:
		c.handler.Responded(token, 0, -1, ErrClient)
		return
	case err != nil:
		c.failed(id, end, token, err)
		return
	case up.open >= up.maxStreams:
		c.bite(LimitStreams)
		c.breakClient(id, http2.ErrCodeRefusedStream)
		c.handler.Responded(token, 0, -1, &ResetError{http2.ErrCodeRefusedStream})
		return
	}
	s := c.newStream(up)
	o, from := up.beginHeaders()
	o.b = c.requestHead(&up.enc, o.b)
	o.b = endHeaders(o.b, from, id, end)
	s.toApp.ended, s.toApp.done = end, end
}

// failed answers for an application that did not (N-10).
func (c *Conn) failed(id uint32, ended bool, token any, err error) {
	a := &c.failure
	a.clear()
	c.handler.Failed(token, err, a)
	if a.Status == 0 {
		c.breakClient(id, http2.ErrCodeInternal)
	} else {
		c.reply(id, ended, a)
	}
	c.handler.Responded(token, a.Status, -1, err)
}

// requestHead encodes c.head as c.action changed it.
func (c *Conn) requestHead(e *encoder, b []byte) []byte {
	for _, f := range [...]*field{&c.pseudo.method, &c.pseudo.scheme, &c.pseudo.authority} {
		if f.Name != nil {
			b = e.field(b, &f.Field, f.meta)
		}
	}
	if f := &c.pseudo.path; f.Name != nil {
		if c.action.Path != nil {
			c.path = append(c.path[:0], c.action.Path...)
			if c.head.HasQuery {
				c.path = append(append(c.path, '?'), c.head.Query...)
			}
			f.Value, f.whole = c.path, false
		}
		b = e.field(b, &f.Field, f.meta)
	}
	in := &c.client.in
	for i := range in.list {
		if !c.action.leavesOut(in.list[i].Name) {
			b = e.field(b, &in.list[i], in.meta[i])
		}
	}
	for _, f := range c.action.Set {
		b = e.own(b, f, indexed)
	}
	for _, f := range c.action.Append {
		b = e.own(b, f, indexed)
	}
	return b
}

func (a *Action) leavesOut(name []byte) bool {
	for _, r := range a.Remove {
		if r == text(name) {
			return true
		}
	}
	for i := range a.Set {
		if a.Set[i].Name == text(name) {
			return true
		}
	}
	return false
}
