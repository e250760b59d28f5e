package http2

import (
	"slices"

	"golang.org/x/net/http2"
)

// clientFrame handles one frame from the client.
func (c *Conn) clientFrame(f *frame) *connError {
	p := c.client
	if p.settled && p.fragments == 0 {
		p.headSince = 0 // the head that it began with, if any, is here
	}
	switch {
	case !p.settled && (f.kind != http2.FrameSettings || f.flags&http2.FlagSettingsAck != 0):
		return &connError{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
	case p.fragments > 0 && (f.kind != http2.FrameContinuation || f.stream != p.begun.stream):
		return &connError{http2.ErrCodeProtocol, "a header block is not continued"}
	}
	switch f.kind {
	case http2.FrameData:
		return c.clientData(f)
	case http2.FrameHeaders:
		block, err := p.beginBlock(f)
		if block == nil || err != nil {
			return err
		}
		return c.clientBlock(&p.begun, block)
	case http2.FrameContinuation:
		block, err := p.continueBlock(f, &c.limits)
		if err != nil && err.code == http2.ErrCodeEnhanceYourCalm {
			c.bite(LimitBlock)
		}
		if block == nil || err != nil {
			return err
		}
		return c.clientBlock(&p.begun, block)
	case http2.FrameRSTStream:
		return c.clientReset(f)
	case http2.FramePushPromise:
		return &connError{http2.ErrCodeProtocol, "a client cannot push"}
	}
	return c.control(p, f)
}

// beginBlock takes a HEADERS frame; block is nil while it is incomplete.
func (p *peer) beginBlock(f *frame) (block []byte, err *connError) {
	if f.stream == 0 || f.stream%2 == 0 {
		return nil, &connError{http2.ErrCodeProtocol, "HEADERS on a stream that no client opens"}
	}
	if block, err = f.unpad(); err != nil {
		return nil, err
	}
	p.begun = begun{stream: f.stream, end: f.flags&http2.FlagHeadersEndStream != 0}
	if f.flags&http2.FlagHeadersPriority != 0 {
		if len(block) < 5 {
			return nil, &connError{http2.ErrCodeFrameSize, "HEADERS too short for its priority"}
		}
		p.begun.selfDepends = dependsOn(block) == f.stream
		block = block[5:]
	}
	if f.flags&http2.FlagHeadersEndHeaders == 0 {
		p.block = append(p.block[:0], block...)
		p.fragments = 1
		return nil, nil
	}
	if block == nil {
		block = []byte{}
	}
	return block, nil
}

// continueBlock takes a CONTINUATION frame likewise.
func (p *peer) continueBlock(f *frame, l *Limits) (block []byte, err *connError) {
	if p.fragments == 0 {
		return nil, &connError{http2.ErrCodeProtocol, "CONTINUATION of nothing"}
	}
	if p.fragments++; p.fragments > maxFragments || len(p.block)+len(f.payload) > blockFactor*l.HeadBytes {
		return nil, &connError{http2.ErrCodeEnhanceYourCalm, "header block is too large"}
	}
	p.block = append(p.block, f.payload...)
	if f.flags&http2.FlagContinuationEndHeaders == 0 {
		return nil, nil
	}
	block, p.fragments, p.block = p.block, 0, nil
	return block, nil
}

// clientData passes a body on, or drops it when nobody wants it.
func (c *Conn) clientData(f *frame) *connError {
	n := len(f.payload)
	b, err := f.unpad()
	switch {
	case err != nil:
		return err
	case f.stream == 0:
		return &connError{http2.ErrCodeProtocol, "DATA on stream 0"}
	case !c.client.taken(n):
		return &connError{http2.ErrCodeFlowControl, "DATA beyond the connection's window"}
	}
	end := f.flags&http2.FlagDataEndStream != 0
	if len(b) == 0 && !end {
		if err := c.calm(); err != nil {
			return err
		}
	}
	s := c.streams[f.stream]
	if s == nil {
		c.client.refund(n)
		if end {
			c.cameWhole(f.stream)
		}
		return c.stray(f.stream)
	}
	h := &s.toApp
	if h.ended {
		c.client.refund(n)
		return c.strike(s, f.stream, http2.ErrCodeStreamClosed)
	}
	if h.room -= n; h.room < 0 {
		c.client.refund(n)
		return c.strike(s, f.stream, http2.ErrCodeFlowControl)
	}
	if h.left >= 0 {
		if h.left -= int64(len(b)); h.left < 0 || end && h.left > 0 {
			c.client.refund(n)
			return c.strike(s, f.stream, http2.ErrCodeProtocol) // content-length lied
		}
	}
	switch {
	case h.done: // the application wants no more
		h.ended = end
		c.client.refund(n)
	case s.handed != nil:
		s.handed.feed(b, n, end)
	default:
		c.data(c.client, s.up, h, b, n, end)
	}
	c.settle(s)
	return nil
}

// cameWhole: the client need not be told to stop.
func (c *Conn) cameWhole(id uint32) {
	c.stopping = slices.DeleteFunc(c.stopping, func(s uint32) bool { return s == id })
}

// stray judges a frame for a stream that is not open.
func (c *Conn) stray(id uint32) *connError {
	switch {
	case id%2 == 0 || id > c.lastID:
		return &connError{http2.ErrCodeProtocol, "frame on an idle stream"}
	case id > c.goAway || c.wasReset.has(id):
		return nil
	}
	return &connError{http2.ErrCodeStreamClosed, "frame on a closed stream"}
}

// clientReset breaks a stream off that the client no longer wants.
func (c *Conn) clientReset(f *frame) *connError {
	switch {
	case len(f.payload) != 4:
		return &connError{http2.ErrCodeFrameSize, "RST_STREAM of a wrong size"}
	case f.stream == 0 || f.stream%2 == 0 || f.stream > c.lastID:
		return &connError{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	}
	if s := c.streams[f.stream]; s != nil {
		c.ended.add(f.stream)
		c.leave(s, http2.ErrCodeCancel, ErrClient)
	}
	if !c.client.resets.spend(c.limits.Resets) {
		c.bite(LimitResets)
		return &connError{http2.ErrCodeEnhanceYourCalm, "too many resets"}
	}
	return nil
}

// strike resets a stream for what the client did; that counts like its own resets.
func (c *Conn) strike(s *stream, id uint32, code ErrCode) *connError {
	if code != http2.ErrCodeRefusedStream && code != http2.ErrCodeEnhanceYourCalm { // limits
		c.malformed(code, "a stream is broken")
	}
	if s != nil {
		c.abort(s, code, ErrClient)
	} else {
		c.breakClient(id, code)
	}
	if !c.client.resets.spend(c.limits.Resets) {
		c.bite(LimitResets)
		return &connError{http2.ErrCodeEnhanceYourCalm, "too many streams broken"}
	}
	return nil
}

// calm counts frames that carry nothing.
func (c *Conn) calm() *connError {
	if !c.client.control.spend(c.limits.Control) {
		c.bite(LimitControl)
		return &connError{http2.ErrCodeEnhanceYourCalm, "too many frames that carry nothing"}
	}
	return nil
}

// clientBlock handles a complete header block: a request head or trailers.
func (c *Conn) clientBlock(b *begun, block []byte) *connError {
	id := b.stream
	s := c.streams[id]
	if s == nil && id <= c.lastID && !c.wasReset.has(id) && id <= c.goAway {
		if c.ended.has(id) {
			return &connError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
		}
		return &connError{http2.ErrCodeProtocol, "stream numbers must rise"}
	}
	in := &c.client.in
	if err := c.client.dec.decode(block, in, &c.limits); err != nil {
		return &connError{http2.ErrCodeCompression, err.Error()}
	}
	switch {
	case s != nil:
		return c.clientTrailers(s, b, in)
	case id <= c.lastID:
		c.cameWhole(id)
		return nil // trailers of a stream that was reset
	}
	c.lastID = id
	switch {
	case id > c.goAway:
		return nil
	case b.selfDepends:
		return c.strike(nil, id, http2.ErrCodeProtocol)
	case in.over:
		if len(in.list) >= c.limits.HeadFields {
			c.bite(LimitHeadFields)
		} else {
			c.bite(LimitHeadBytes)
		}
		c.reply(id, b.end, &tooLarge)
		return nil
	case len(c.streams) >= c.limits.Streams:
		c.bite(LimitStreams)
		return c.strike(nil, id, http2.ErrCodeRefusedStream)
	case !c.pseudo.parse(in, &c.head):
		return c.strike(nil, id, http2.ErrCodeProtocol)
	case b.end && c.head.ContentLength > 0:
		return c.strike(nil, id, http2.ErrCodeProtocol)
	case !all(c.pseudo.path.Value, inTarget):
		c.malformed(http2.ErrCodeProtocol, "a path with bytes that none has")
		c.reply(id, b.end, &badTarget)
		return nil
	}
	c.head.StreamID, c.head.EndStream = id, b.end
	return c.judge()
}

// Answers to heads that the Handler is not asked about.
var (
	tooLarge  = Action{Status: 431, Fields: []Header{{"content-length", "0"}}}
	badTarget = Action{Status: 400, Fields: []Header{{"content-length", "0"}}}
)

func (c *Conn) clientTrailers(s *stream, b *begun, in *fields) *connError {
	h := &s.toApp
	switch {
	case h.ended:
		return c.strike(s, s.id, http2.ErrCodeStreamClosed)
	case !b.end || b.selfDepends || h.left > 0 || !parseTrailers(in):
		return c.strike(s, s.id, http2.ErrCodeProtocol)
	case in.over:
		c.bite(LimitHeadBytes)
		return c.strike(s, s.id, http2.ErrCodeEnhanceYourCalm)
	case h.done:
		h.ended = true
	case s.handed != nil:
		s.handed.finish(in)
	default:
		c.trailers(s.up, h, in)
	}
	c.settle(s)
	return nil
}
