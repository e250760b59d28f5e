package http2

import (
	"slices"

	"golang.org/x/net/http2"
)

// stream is one request and its answer.
type stream struct {
	id uint32
	// up is where the request goes; nil for streams handed out.
	up *peer
	// toApp has the client's bytes, toClient the application's.
	toApp, toClient half
	// handed is set when the Handler has the stream to itself.
	handed *Stream
	token  any
	// status is 0 until the application's final head; grpc is -1 until it says.
	status, grpc int
	told         bool // the Handler knows how it ended
}

// half is one direction of a stream: what comes from one peer and goes to the other.
type half struct {
	stream *stream
	// window is what the receiver allows; room and credit are the sender's, as in peer.
	window, room, credit int
	// queue waits for the receiver's windows, queue[off:] is left of it; then trailers,
	// if any, then the end.
	queue    []byte
	off      int
	trailers *fields
	// ended: the sender has finished; done: so has been told the receiver.
	ended, done bool
	// left is what content-length announced and has not come, -1 without.
	left    int64
	waiting bool
}

func (h *half) queued() int { return len(h.queue) - h.off }

// push adds to the queue. What has left it makes room first, so that a stream that
// is never quite empty does not grow beyond its window.
func (h *half) push(b []byte) {
	if h.off > 0 && len(h.queue)+len(b) > cap(h.queue) {
		h.queue, h.off = h.queue[:copy(h.queue, h.queue[h.off:])], 0
	}
	h.queue = append(h.queue, b...)
}

// data passes body bytes on, or keeps them until there is a window. credited is
// what they count as, padding included.
func (c *Conn) data(from, to *peer, h *half, b []byte, credited int, end bool) {
	h.ended = end
	sent := 0
	if !h.waiting {
		sent = max(0, min(len(b), h.window, to.window))
	}
	if sent < len(b) || h.waiting {
		if sent > 0 {
			to.send(h, b[:sent], false)
		}
		h.push(b[sent:])
		c.wait(to, h)
	} else if sent > 0 || end {
		to.send(h, b, end)
	}
	c.credit(from, h, credited-(len(b)-sent))
}

// send writes one DATA frame.
func (p *peer) send(h *half, b []byte, end bool) {
	flags := http2.Flags(0)
	if end {
		flags, h.done = http2.FlagDataEndStream, true
	}
	h.window -= len(b)
	p.window -= len(b)
	if len(b) > 0 {
		p.answers += answersPerData
	}
	o := p.buf()
	o.b = append(appendFrameHeader(o.b, len(b), http2.FrameData, flags, h.stream.id), b...)
}

func (c *Conn) wait(to *peer, h *half) {
	if !h.waiting {
		h.waiting = true
		to.waiting = append(to.waiting, h)
	}
}

// credit gives the sender back what has left the relay (invariants 4 and 5).
func (c *Conn) credit(from *peer, h *half, n int) {
	if n <= 0 || from == nil {
		return
	}
	from.refund(n)
	if h.ended {
		return
	}
	if h.credit += n; h.credit >= streamWindow/2 {
		o := from.buf()
		o.b = appendCredit(o.b, h.stream.id, h.credit)
		h.room += h.credit
		h.credit = 0
	}
}

// pump sends what waits for p, a frame of each stream in turn, while there is a window.
func (c *Conn) pump(p *peer) {
	for moved := true; moved && len(p.waiting) > 0; {
		moved = false
		keep := p.waiting[:0]
		for _, h := range p.waiting {
			n := max(0, min(h.queued(), h.window, p.window, maxFrame))
			last := n == h.queued()
			if n == 0 && !last {
				keep = append(keep, h)
				continue
			}
			moved = true
			b := h.queue[h.off : h.off+n]
			h.off += n
			end := last && h.ended && h.trailers == nil
			if n > 0 || end {
				p.send(h, b, end)
			}
			c.credit(c.other(h), h, n)
			if !last {
				keep = append(keep, h)
				continue
			}
			h.queue, h.off, h.waiting = h.queue[:0], 0, false
			if h.trailers != nil {
				p.sendTrailers(h, h.trailers)
				h.trailers = nil
			}
			c.settle(h.stream)
		}
		clear(p.waiting[len(keep):])
		p.waiting = keep
	}
}

// other is the peer that h's bytes come from.
func (c *Conn) other(h *half) *peer {
	if h == &h.stream.toApp {
		return c.client
	}
	return h.stream.up
}

func (p *peer) sendTrailers(h *half, f *fields) {
	h.done = true
	o, from := p.beginHeaders()
	for i := range f.list {
		o.b = p.enc.field(o.b, &f.list[i], f.meta[i])
	}
	o.b = endHeaders(o.b, from, h.stream.id, true)
}

// trailers end a half, behind what waits of it.
func (c *Conn) trailers(to *peer, h *half, f *fields) {
	h.ended = true
	if h.waiting {
		h.trailers = f.clone()
		return
	}
	to.sendTrailers(h, f)
}

// settle forgets a stream of which both halves are done.
func (c *Conn) settle(s *stream) {
	if s.toClient.done && s.handed == nil && !s.told {
		c.tell(s, nil)
	}
	if !s.toApp.done || !s.toClient.done {
		return
	}
	if !s.toApp.ended {
		c.stop(s.id) // nobody wants the rest of the request
	} else {
		c.ended.add(s.id)
	}
	if s.handed != nil {
		s.handed.broken(nil)
	}
	c.forget(s)
}

// tell the Handler how a forwarded stream has ended (invariant 7).
func (c *Conn) tell(s *stream, err error) {
	if s.handed == nil && !s.told {
		s.told = true
		status := s.status
		if status < 200 {
			status = 0 // an interim head is no answer
		}
		c.handler.Responded(s.token, status, s.grpc, err)
	}
}

// forget gives a stream back. What it still held was never passed on: the
// connections are credited for it.
func (c *Conn) forget(s *stream) {
	for _, h := range [...]*half{&s.toApp, &s.toClient} {
		c.drop(h)
	}
	if s.up != nil {
		s.up.open--
	}
	delete(c.streams, s.id)
	toApp, toClient := s.toApp.queue[:0], s.toClient.queue[:0]
	if cap(toApp)+cap(toClient) > keepQueue {
		toApp, toClient = nil, nil
	}
	*s = stream{toApp: half{queue: toApp}, toClient: half{queue: toClient}}
	if len(c.free) < maxFree {
		c.free = append(c.free, s)
	}
	c.drained()
}

const (
	// maxFree is how many streams are kept for the next requests, each with no more
	// than keepQueue bytes of queue.
	maxFree   = 32
	keepQueue = 1 << 10
)

// drop forgets what waits in a half.
func (c *Conn) drop(h *half) {
	if from := c.other(h); from != nil {
		from.refund(h.queued())
	}
	h.queue, h.off, h.trailers = h.queue[:0], 0, nil
	if !h.waiting {
		return
	}
	h.waiting = false
	to := c.client
	if h == &h.stream.toApp {
		to = h.stream.up
	}
	to.waiting = slices.DeleteFunc(to.waiting, func(w *half) bool { return w == h })
}

// breakClient resets a stream towards the client and remembers it (invariant 6).
func (c *Conn) breakClient(id uint32, code ErrCode) {
	c.client.reset(id, code)
	c.wasReset.add(id)
}

// stop asks the client not to send the rest of a request that has its answer, unless
// the rest has come by the time that the answer is written.
func (c *Conn) stop(id uint32) {
	c.wasReset.add(id)
	c.stopping = append(c.stopping, id)
}

func (c *Conn) sendStops() {
	for _, id := range c.stopping {
		c.client.reset(id, http2.ErrCodeNo)
	}
	c.stopping = c.stopping[:0]
}

// abort breaks a stream off both ways.
func (c *Conn) abort(s *stream, code ErrCode, err error) {
	c.breakClient(s.id, code)
	c.leave(s, code, err)
}

// leave ends a stream that is over for the client.
func (c *Conn) leave(s *stream, code ErrCode, err error) {
	if s.up != nil && !(s.toApp.done && s.toClient.ended) && !s.up.lost {
		s.up.reset(s.id, code)
	}
	if s.handed != nil {
		s.handed.broken(err)
	}
	c.tell(s, err)
	c.forget(s)
}

// overfull breaks the streams off of which most waits that has come from p, until p
// has a window again for the others.
func (c *Conn) overfull(p *peer) {
	for p.room < maxFrame && !p.lost {
		var most *half
		for _, s := range c.streams {
			h := &s.toClient
			if !p.app {
				h = &s.toApp
			}
			if c.other(h) == p && h.queued() > 0 && (most == nil || h.queued() > most.queued()) {
				most = h
			}
		}
		if most == nil {
			return
		}
		err := ErrClient
		if !p.app {
			err = &ResetError{http2.ErrCodeCancel}
		}
		c.abort(most.stream, http2.ErrCodeCancel, err)
	}
}

// widen applies a change of SETTINGS_INITIAL_WINDOW_SIZE.
func (c *Conn) widen(p *peer, by int) *connError {
	for _, s := range c.streams {
		h := &s.toClient
		if p.app {
			if s.up != p {
				continue
			}
			h = &s.toApp
		}
		if h.window += by; h.window > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "a window exceeds its maximum"}
		}
	}
	if by > 0 {
		c.pump(p)
		c.wakeWriters()
	}
	return nil
}
