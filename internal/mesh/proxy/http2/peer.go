package http2

import (
	"encoding/binary"
	"net"
	"sync"

	"golang.org/x/net/http2"
)

const (
	readSize = 32 << 10 // a frame of maxFrame fits in
	keepSize = 64 << 10 // larger write buffers are not kept
	// defaultWindow is every window's size until settings change it.
	defaultWindow = 65535
	maxWindow     = 1<<31 - 1
)

type buffer struct{ b []byte }

var (
	readBuffers  = sync.Pool{New: func() any { return &buffer{make([]byte, readSize)} }}
	writeBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, readSize/4)} }}
)

// peer is one of the two connections of a relay and what HTTP/2 keeps for it.
// Conn.mu guards it, the read buffer aside, which its reader owns.
type peer struct {
	conn net.Conn
	app  bool
	// out has whole frames to be written; flushing: somebody writes them.
	out      *buffer
	flushing bool
	// err is why nothing can be written any more.
	err error

	enc encoder
	dec decoder
	// in is the header block being decoded or just decoded.
	in fields

	// block collects fragments while a block is incomplete, fragments of them; then
	// nothing but CONTINUATION of the HEADERS frame that begun is may follow.
	block     []byte
	begun     begun
	fragments int

	// window is what may be sent to the peer, over all streams; initial what each
	// new stream begins with.
	window  int
	initial int
	// room is what the peer may still send; credit what it has sent and not been
	// credited for yet.
	room, credit int
	// waiting are the streams that have something for the peer but no window.
	waiting []*half

	settled bool // its SETTINGS have come
	// open counts streams forwarded to an application, which takes maxStreams;
	// last is the highest number it has been sent.
	open, maxStreams int
	last             uint32
	gone             bool // GOAWAY has come, or the connection has ended
	lost             bool // the connection has ended

	// In ticks: since when a write, or a head that is not complete, has lasted, or
	// the peer has had no window left for a frame; 0 for not at all.
	writeSince, headSince, fullSince int

	control, resets budget
	// answers is how many small credits and pings DATA frames sent to the peer may
	// still bring.
	answers int
}

func newPeer(conn net.Conn, app bool) *peer {
	p := &peer{conn: conn, app: app, window: defaultWindow, initial: defaultWindow, room: connWindow, maxStreams: maxWindow}
	p.enc.table.max, p.dec.table.max = tableSize, tableSize
	return p
}

// begun is what the HEADERS frame of a block said.
type begun struct {
	stream      uint32
	end         bool
	selfDepends bool
}

// buf returns where to append frames to.
func (p *peer) buf() *buffer {
	if p.out == nil {
		p.out = writeBuffers.Get().(*buffer)
	}
	return p.out
}

func (p *peer) pending() int {
	if p.out == nil {
		return 0
	}
	return len(p.out.b)
}

func recycle(b *buffer) {
	if cap(b.b) <= keepSize {
		b.b = b.b[:0]
		writeBuffers.Put(b)
	}
}

func (p *peer) reset(stream uint32, code ErrCode) {
	o := p.buf()
	o.b = appendReset(o.b, stream, code)
}

// beginHeaders makes room for a frame header; fields and endHeaders follow.
func (p *peer) beginHeaders() (o *buffer, from int) {
	o = p.buf()
	from = len(o.b)
	var room [frameHeader]byte
	o.b = p.enc.begin(append(o.b, room[:]...))
	return o, from
}

// taken accounts for DATA that has arrived; false when the peer had no window.
func (p *peer) taken(n int) bool {
	p.room -= n
	return p.room >= 0
}

// refund credits the connection (invariant 4), in steps.
func (p *peer) refund(n int) {
	if p.credit += n; p.credit >= creditStep {
		p.fullSince = 0
		o := p.buf()
		o.b = appendCredit(o.b, 0, p.credit)
		p.room += p.credit
		p.credit = 0
	}
}

// greet sends the relay's own preface and settings.
func (p *peer) greet(l *Limits) {
	o := p.buf()
	from := len(o.b)
	if p.app {
		o.b = append(o.b, http2.ClientPreface...)
		from = len(o.b)
	}
	o.b = appendFrameHeader(o.b, 0, http2.FrameSettings, 0, 0)
	if p.app {
		o.b = appendSetting(o.b, http2.SettingEnablePush, 0)
	} else {
		o.b = appendSetting(o.b, http2.SettingMaxConcurrentStreams, uint32(l.Streams))
	}
	o.b = appendSetting(o.b, http2.SettingInitialWindowSize, streamWindow)
	o.b = appendSetting(o.b, http2.SettingMaxHeaderListSize, uint32(l.HeadBytes))
	o.b[from+2] = byte(len(o.b) - from - frameHeader)
	o.b = appendCredit(o.b, 0, connWindow-defaultWindow)
}

// settings takes the peer's SETTINGS over; changed is by how much streams' windows
// change.
func (p *peer) settings(f *frame) (changed int, err *connError) {
	for b := f.payload; len(b) > 0; b = b[settingSize:] {
		value := binary.BigEndian.Uint32(b[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(b)) {
		case http2.SettingHeaderTableSize:
			p.enc.limit(value)
		case http2.SettingEnablePush:
			if value > 1 || p.app && value == 1 {
				return 0, &connError{http2.ErrCodeProtocol, "bad ENABLE_PUSH"}
			}
		case http2.SettingMaxConcurrentStreams:
			p.maxStreams = int(min(value, maxWindow))
		case http2.SettingInitialWindowSize:
			if value > maxWindow {
				return 0, &connError{http2.ErrCodeFlowControl, "bad INITIAL_WINDOW_SIZE"}
			}
			changed += int(value) - p.initial
			p.initial = int(value)
		case http2.SettingMaxFrameSize:
			if value < maxFrame || value > 1<<24-1 {
				return 0, &connError{http2.ErrCodeProtocol, "bad MAX_FRAME_SIZE"}
			}
		}
	}
	return changed, nil
}
