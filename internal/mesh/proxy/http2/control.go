package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

func number(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func dependsOn(b []byte) uint32 { return number(b) &^ (1 << 31) }

// drainPing is the ping that follows the first GOAWAY of a drain: its answer shows
// that the client has seen that.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n', 0, 0, 1}

// reasonable tells of a client's frame that it need not be counted: it ends
// something, widens a window by much, or is what a client says that credits each DATA
// frame by itself and measures round trips with them, as gRPC's do.
func (p *peer) reasonable(f *frame) bool {
	switch f.kind {
	case http2.FrameGoAway:
		return true
	case http2.FrameWindowUpdate:
		if len(f.payload) == 4 && number(f.payload)&^(1<<31) >= smallCredit {
			return true
		}
	case http2.FramePing:
	default:
		return false
	}
	if p.answers == 0 {
		return false
	}
	p.answers--
	return true
}

// control handles the frames that concern a connection or its windows.
func (c *Conn) control(p *peer, f *frame) *connError {
	if !p.app && !p.reasonable(f) {
		if err := c.calm(); err != nil {
			return err
		}
	}
	switch f.kind {
	case http2.FrameSettings:
		return c.settings(p, f)
	case http2.FramePing:
		return c.ping(p, f)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(p, f)
	case http2.FramePriority:
		switch {
		case f.stream == 0:
			return &connError{http2.ErrCodeProtocol, "PRIORITY on stream 0"}
		case p.app:
			return nil
		case len(f.payload) != 5:
			return c.strike(c.streams[f.stream], f.stream, http2.ErrCodeFrameSize)
		case dependsOn(f.payload) == f.stream:
			return c.strike(c.streams[f.stream], f.stream, http2.ErrCodeProtocol)
		}
	case http2.FrameGoAway:
		if f.stream != 0 || len(f.payload) < 8 {
			return &connError{http2.ErrCodeProtocol, "bad GOAWAY"}
		}
		if p.app {
			c.appGoAway(p, number(f.payload)&^(1<<31))
		}
	}
	return nil
}

func (c *Conn) settings(p *peer, f *frame) *connError {
	ack := f.flags&http2.FlagSettingsAck != 0
	switch {
	case f.stream != 0:
		return &connError{http2.ErrCodeProtocol, "SETTINGS on a stream"}
	case ack && len(f.payload) > 0 || len(f.payload)%settingSize != 0:
		return &connError{http2.ErrCodeFrameSize, "SETTINGS of a wrong size"}
	case ack:
		return nil
	}
	changed, err := p.settings(f)
	if err != nil {
		return err
	}
	p.settled = true
	o := p.buf()
	o.b = appendFrameHeader(o.b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	if p.app {
		c.allow()
	}
	if changed != 0 {
		return c.widen(p, changed)
	}
	return nil
}

func (c *Conn) ping(p *peer, f *frame) *connError {
	switch {
	case f.stream != 0:
		return &connError{http2.ErrCodeProtocol, "PING on a stream"}
	case len(f.payload) != 8:
		return &connError{http2.ErrCodeFrameSize, "PING of a wrong size"}
	case f.flags&http2.FlagPingAck == 0:
		o := p.buf()
		o.b = append(appendFrameHeader(o.b, 8, http2.FramePing, http2.FlagPingAck, 0), f.payload...)
	case !p.app && c.draining && [8]byte(f.payload) == drainPing:
		c.goAwayAfter(c.lastID)
	}
	return nil
}

func (c *Conn) windowUpdate(p *peer, f *frame) *connError {
	if len(f.payload) != 4 {
		return &connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE of a wrong size"}
	}
	n := int(number(f.payload) &^ (1 << 31))
	if f.stream == 0 {
		if n == 0 {
			return &connError{http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
		}
		if p.window += n; p.window > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "the window exceeds its maximum"}
		}
		c.pump(p)
		c.wakeWriters()
		return nil
	}
	if !p.app && (f.stream > c.lastID || f.stream%2 == 0) {
		return &connError{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	}
	s := c.streams[f.stream]
	if s == nil || p.app && s.up != p {
		return nil // it crossed the stream's end
	}
	h := &s.toClient
	if p.app {
		h = &s.toApp
	}
	code := http2.ErrCodeFlowControl
	if n == 0 {
		code = http2.ErrCodeProtocol
	} else if h.window += n; h.window <= maxWindow {
		if h.waiting {
			c.pump(p)
		}
		if s.handed != nil {
			s.handed.cond.Broadcast()
		}
		return nil
	}
	if p.app {
		c.badAnswer(s)
		return nil
	}
	return c.strike(s, s.id, code)
}
