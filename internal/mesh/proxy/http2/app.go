package http2

import (
	"fmt"

	"golang.org/x/net/http2"
)

// upstream returns the connection to the application for a new stream. The lock is
// not held while it dials: this is the client's reader, so that no other stream
// can begin meanwhile. What others have been answered does not wait for it.
func (c *Conn) upstream() (*peer, error) {
	if c.app != nil && !c.app.gone {
		return c.app, nil
	}
	c.dialing = true
	c.flushAll()
	c.mu.Unlock()
	conn, err := c.cfg.Dial(c.ctx)
	c.mu.Lock()
	c.dialing = false
	if err != nil {
		return nil, &DialError{err}
	}
	if c.finished {
		conn.Close()
		return nil, nil
	}
	p := newPeer(conn, true)
	p.greet(&c.limits)
	c.app = p
	c.apps = append(c.apps, p)
	c.wg.Go(func() { c.readApp(p) })
	return p, nil
}

// appFrame handles one frame from an application.
func (c *Conn) appFrame(p *peer, f *frame) *connError {
	switch {
	case !p.settled && (f.kind != http2.FrameSettings || f.flags&http2.FlagSettingsAck != 0):
		return &connError{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
	case p.fragments > 0 && (f.kind != http2.FrameContinuation || f.stream != p.begun.stream):
		return &connError{http2.ErrCodeProtocol, "a header block is not continued"}
	}
	switch f.kind {
	case http2.FrameData:
		return c.appData(p, f)
	case http2.FrameHeaders:
		block, err := p.beginBlock(f)
		if block == nil || err != nil {
			return err
		}
		return c.appBlock(p, &p.begun, block)
	case http2.FrameContinuation:
		block, err := p.continueBlock(f, &c.limits)
		if block == nil || err != nil {
			return err
		}
		return c.appBlock(p, &p.begun, block)
	case http2.FrameRSTStream:
		if len(f.payload) != 4 || f.stream == 0 {
			return &connError{http2.ErrCodeProtocol, "bad RST_STREAM"}
		}
		if s := c.ofApp(p, f.stream); s != nil {
			c.appReset(s, ErrCode(number(f.payload)))
		}
		return nil
	case http2.FramePushPromise:
		return &connError{http2.ErrCodeProtocol, "push is switched off"}
	}
	return c.control(p, f)
}

// ofApp finds a stream that goes over p; what p says of others is too late.
func (c *Conn) ofApp(p *peer, id uint32) *stream {
	if s := c.streams[id]; s != nil && s.up == p {
		return s
	}
	return nil
}

func (c *Conn) appData(p *peer, f *frame) *connError {
	n := len(f.payload)
	b, err := f.unpad()
	if err != nil {
		return err
	}
	if !p.taken(n) {
		return &connError{http2.ErrCodeFlowControl, "DATA beyond the connection's window"}
	}
	s := c.ofApp(p, f.stream)
	if s == nil {
		p.refund(n)
		return nil
	}
	h := &s.toClient
	if h.room -= n; s.status < 200 || h.ended || h.room < 0 {
		p.refund(n)
		c.badAnswer(s)
		return nil
	}
	c.data(p, c.client, h, b, n, f.flags&http2.FlagDataEndStream != 0)
	c.settle(s)
	return nil
}

// appBlock passes a head or trailers of an answer on.
func (c *Conn) appBlock(p *peer, b *begun, block []byte) *connError {
	in := &p.in
	if err := p.dec.decode(block, in, &c.limits); err != nil {
		return &connError{http2.ErrCodeCompression, err.Error()}
	}
	s := c.ofApp(p, b.stream)
	if s == nil {
		return nil
	}
	head := s.status < 200
	status, grpc, ok := parseAnswer(in, head)
	if !ok || in.over || s.toClient.ended || !b.end && !head || b.end && head && status < 200 {
		c.badAnswer(s)
		return nil
	}
	if grpc >= 0 && b.end {
		s.grpc = grpc
	}
	if !head {
		c.trailers(c.client, &s.toClient, in)
		c.settle(s)
		return nil
	}
	s.status = status
	o, from := c.client.beginHeaders()
	for i := range in.list {
		o.b = c.client.enc.field(o.b, &in.list[i], in.meta[i])
	}
	o.b = endHeaders(o.b, from, s.id, b.end)
	s.toClient.ended, s.toClient.done = b.end, b.end
	c.settle(s)
	return nil
}

// badAnswer breaks a stream off whose application does not speak HTTP.
func (c *Conn) badAnswer(s *stream) {
	if !s.up.lost {
		s.up.reset(s.id, http2.ErrCodeProtocol)
	}
	c.unanswered(s, &ResetError{http2.ErrCodeProtocol}, http2.ErrCodeInternal)
}

// unanswered ends a stream, over for the application, that its client has not got
// a complete answer to.
func (c *Conn) unanswered(s *stream, err error, code ErrCode) {
	id, ended, token := s.id, s.toApp.ended, s.token
	if s.status >= 200 || s.told {
		c.breakClient(id, code)
		c.tell(s, err)
		c.forget(s)
		return
	}
	s.told = true // failed tells
	c.forget(s)
	c.failed(id, ended, token, err)
}

// appReset passes a reset on. One without an error after the whole answer only
// means that the rest of the request is not wanted.
func (c *Conn) appReset(s *stream, code ErrCode) {
	if s.toClient.ended && code == http2.ErrCodeNo {
		c.drop(&s.toApp)
		s.toApp.done = true
		c.settle(s)
		return
	}
	c.breakClient(s.id, code)
	c.tell(s, &ResetError{code})
	c.forget(s)
}

// appGone ends what went over a connection that has ended.
func (c *Conn) appGone(p *peer, err error) {
	if p.lost {
		return
	}
	p.lost, p.gone = true, true
	p.conn.Close()
	for i, other := range c.apps {
		if other == p {
			c.apps = append(c.apps[:i], c.apps[i+1:]...)
			break
		}
	}
	for _, s := range c.streams {
		if s.up != p {
			continue
		}
		if s.toClient.ended {
			// The answer is whole, though the client has not got all of it yet.
			c.drop(&s.toApp)
			s.toApp.done = true
			c.settle(s)
			continue
		}
		c.unanswered(s, fmt.Errorf("%w: %w", ErrApplication, err), http2.ErrCodeInternal)
	}
	c.allow()
}

// allow tells the client how many streams it may have open: no more than the
// application takes, so that it waits with the others instead of losing them. One
// it may always have, to be told what becomes of it.
func (c *Conn) allow() {
	n := c.limits.Streams
	if c.app != nil && !c.app.gone {
		n = max(1, min(n, c.app.maxStreams))
	}
	if n == c.allowed {
		return
	}
	c.allowed = n
	o := c.client.buf()
	o.b = appendFrameHeader(o.b, settingSize, http2.FrameSettings, 0, 0)
	o.b = appendSetting(o.b, http2.SettingMaxConcurrentStreams, uint32(n))
}

// appGoAway: streams above last were not begun; their clients may send them again.
// When the others have ended the connection is closed (flushAll).
func (c *Conn) appGoAway(p *peer, last uint32) {
	p.gone = true
	for _, s := range c.streams {
		if s.up == p && s.id > last {
			c.breakClient(s.id, http2.ErrCodeRefusedStream)
			c.tell(s, &ResetError{http2.ErrCodeRefusedStream})
			c.forget(s)
		}
	}
	c.allow()
}
