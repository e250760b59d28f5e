// Package frame reads and writes what little of HTTP/2 both ends of a load need:
// frames out of a stream of bytes, and header blocks encoded once.
//
// Bytes go in as they arrive, whole frames come out; it keeps no stream's state
// and checks nothing that a peer of this project's own making would not get
// wrong. It is not for peers who are not trusted.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// headLength is that of a frame's head.
const headLength = 9

// maxLength of a frame's payload: what a peer may send that was not told otherwise.
const maxLength = 16 << 10

// ErrLength is the cause when a frame is longer than was agreed.
var ErrLength = errors.New("frame longer than agreed")

// Frame is one frame; Payload is valid until the reader is fed again.
type Frame struct {
	Type    http2.FrameType
	Flags   http2.Flags
	Stream  uint32
	Payload []byte
}

// Reader cuts bytes into frames. The zero value is ready.
type Reader struct{ kept []byte }

// Feed calls each for every frame that is complete, and keeps the rest.
func (r *Reader) Feed(arrived []byte, each func(Frame) error) error {
	in := arrived
	if len(r.kept) > 0 {
		r.kept = append(r.kept, arrived...)
		in = r.kept
	}
	for len(in) >= headLength {
		length := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
		if length > maxLength {
			return ErrLength
		}
		if len(in) < headLength+length {
			break
		}
		f := Frame{Type: http2.FrameType(in[3]), Flags: http2.Flags(in[4]), Stream: binary.BigEndian.Uint32(in[5:]) &^ (1 << 31),
			Payload: in[headLength : headLength+length]}
		in = in[headLength+length:]
		if err := each(f); err != nil {
			return err
		}
	}
	r.kept = append(r.kept[:0], in...)
	return nil
}

// Content is the payload of HEADERS or DATA without padding and priority.
func (f Frame) Content() ([]byte, error) {
	p, pad := f.Payload, 0
	if f.Flags.Has(http2.FlagDataPadded) {
		if len(p) == 0 {
			return nil, ErrLength
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.Type == http2.FrameHeaders && f.Flags.Has(http2.FlagHeadersPriority) {
		const priority = 5
		if len(p) < priority {
			return nil, ErrLength
		}
		p = p[priority:]
	}
	if pad > len(p) {
		return nil, ErrLength
	}
	return p[:len(p)-pad], nil
}

// Append adds a frame to what is to be written.
func Append(to []byte, kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	n := len(payload)
	to = append(to, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	to = binary.BigEndian.AppendUint32(to, stream)
	return append(to, payload...)
}

// AppendWindow adds a WINDOW_UPDATE.
func AppendWindow(to []byte, stream, by uint32) []byte {
	return Append(to, http2.FrameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, by))
}

// AppendSettings adds SETTINGS.
func AppendSettings(to []byte, settings ...http2.Setting) []byte {
	var payload []byte
	for _, s := range settings {
		payload = binary.BigEndian.AppendUint16(payload, uint16(s.ID))
		payload = binary.BigEndian.AppendUint32(payload, s.Val)
	}
	return Append(to, http2.FrameSettings, 0, 0, payload)
}

// Settings reads the payload of SETTINGS.
func Settings(payload []byte, each func(http2.Setting)) {
	const size = 6
	for ; len(payload) >= size; payload = payload[size:] {
		each(http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(payload)), Val: binary.BigEndian.Uint32(payload[2:])})
	}
}

// Size limits of a connection's flow control.
const (
	// InitialWindow is that of both directions before anybody says otherwise.
	InitialWindow = 65535
	// wide is what a receiver raises its windows to, so that they never matter.
	wide = 1 << 30
	// topUp is how much is swallowed before the window is raised again.
	topUp = wide / 2
)

// Greeting is what both ends say first, the client after its preface: wide
// windows and no push.
func Greeting(to []byte, client bool) []byte {
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: wide}, {ID: http2.SettingMaxConcurrentStreams, Val: 1 << 20}}
	if client {
		to = append(to, http2.ClientPreface...)
		settings[1] = http2.Setting{ID: http2.SettingEnablePush}
	}
	return AppendWindow(AppendSettings(to, settings...), 0, wide-InitialWindow)
}

// Credit counts what was swallowed on a connection.
type Credit struct{ owed uint32 }

// Swallow adds a WINDOW_UPDATE when one is due.
func (c *Credit) Swallow(to []byte, n int) []byte {
	if c.owed += uint32(n); c.owed < topUp {
		return to
	}
	to = AppendWindow(to, 0, c.owed)
	c.owed = 0
	return to
}

// Block is a header block that is sent over and over on one connection. The
// first time its fields enter the peer's table, as with any client; from then on
// the same few bytes name them.
type Block struct{ first, again []byte }

// Encoder makes the blocks of one connection.
type Encoder struct {
	buffer  bytes.Buffer
	encoder *hpack.Encoder
}

// NewEncoder is for a peer whose table has that size.
func NewEncoder(table uint32) *Encoder {
	e := &Encoder{}
	e.encoder = hpack.NewEncoder(&e.buffer)
	e.encoder.SetMaxDynamicTableSizeLimit(table)
	return e
}

// Encode must be called for all blocks of a connection before any is sent, and
// they must be sent for the first time in the order of these calls.
func (e *Encoder) Encode(fields ...hpack.HeaderField) *Block {
	b := &Block{}
	for _, into := range []*[]byte{&b.first, &b.again} {
		e.buffer.Reset()
		for _, field := range fields {
			e.encoder.WriteField(field) // into memory
		}
		*into = bytes.Clone(e.buffer.Bytes())
	}
	return b
}

// Next returns the bytes to send now.
func (b *Block) Next() []byte {
	if b.first != nil {
		first := b.first
		b.first = nil
		return first
	}
	return b.again
}
