package abuse

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is an HTTP/2 client that may do anything wrong: frames go out as they are
// written, and answers are noted as they come.
type h2 struct {
	*client
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	// streams are the answers; goAway is set when the server has said so or broken off.
	streams map[uint32]*stream
	goAway  *http2.ErrCode
	ended   error
	pings   int
	// last is the data of the newest answered ping.
	last [8]byte
	// window and streamWindow are what may be sent, for cases that send much;
	// credited is the newest update of a stream's.
	window, streamWindow int64
	credited             struct{ stream, by uint32 }
	// settings are the server's.
	settings map[http2.SettingID]uint32
}

// stream is the answer on one stream.
type stream struct {
	fields map[string]string
	body   []byte
	reset  *http2.ErrCode
	ended  bool
}

func (s *stream) status() int { n, _ := strconv.Atoi(s.fields[":status"]); return n }

// firstWindow is what may be sent before any update; openFrames the largest frame taken.
const (
	firstWindow = 65535
	openFrames  = 1 << 20
)

// speak begins HTTP/2 over a connection.
func speak(c *client) *h2 {
	io.WriteString(c.Conn, http2.ClientPreface)
	return speakOn(c)
}

// speakOn is speak after the preface.
func speakOn(c *client) *h2 {
	h := &h2{client: c, next: 1, window: firstWindow, streams: map[uint32]*stream{}, settings: map[http2.SettingID]uint32{}}
	h.framer = http2.NewFramer(c.Conn, c.in)
	h.framer.AllowIllegalWrites = true
	h.framer.SetMaxReadFrameSize(openFrames)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.framer.MaxHeaderListSize = openFrames
	h.encoder = hpack.NewEncoder(&h.block)
	h.framer.WriteSettings()
	return h
}

func (w *world) h2() *h2 { w.Helper(); return speak(w.dial()) }

// fields are the head of a GET of this path, with more fields as pairs; a pair
// named like a pseudo-header takes its place.
func head(path string, pairs ...string) [][2]string {
	fields := [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "app"}, {":path", path}}
pairs:
	for i := 0; i+1 < len(pairs); i += 2 {
		for j := range fields {
			if fields[j][0] == pairs[i] {
				fields[j][1] = pairs[i+1]
				continue pairs
			}
		}
		fields = append(fields, [2]string{pairs[i], pairs[i+1]})
	}
	return fields
}

func without(fields [][2]string, name string) [][2]string {
	var kept [][2]string
	for _, f := range fields {
		if f[0] != name {
			kept = append(kept, f)
		}
	}
	return kept
}

func (h *h2) encode(fields [][2]string) []byte {
	h.block.Reset()
	for _, f := range fields {
		h.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return bytes.Clone(h.block.Bytes())
}

// open begins a stream.
func (h *h2) open(fields [][2]string, end bool) uint32 {
	id := h.next
	h.next += 2
	h.streams[id] = &stream{fields: map[string]string{}}
	h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.encode(fields), EndStream: end, EndHeaders: true})
	return id
}

// step takes one frame; false when the connection has ended.
func (h *h2) step() bool {
	frame, err := h.framer.ReadFrame()
	var broken http2.StreamError
	if errors.As(err, &broken) {
		return true
	}
	if err != nil {
		h.ended = err
		return false
	}
	s := h.streams[frame.Header().StreamID]
	if s == nil {
		s = &stream{fields: map[string]string{}}
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		for _, field := range f.Fields {
			if field.Name == ":status" && field.Value[0] == '1' {
				break
			}
			s.fields[field.Name] = field.Value
		}
		s.ended = s.ended || f.StreamEnded()
	case *http2.DataFrame:
		s.body = append(s.body, f.Data()...)
		s.ended = s.ended || f.StreamEnded()
		if n := uint32(len(f.Data())); n > 0 {
			h.framer.WriteWindowUpdate(0, n)
			if !s.ended {
				h.framer.WriteWindowUpdate(f.StreamID, n)
			}
		}
	case *http2.RSTStreamFrame:
		code := f.ErrCode
		s.reset, s.ended = &code, true
	case *http2.GoAwayFrame:
		code := f.ErrCode
		if h.goAway == nil || code != http2.ErrCodeNo {
			h.goAway = &code
		}
	case *http2.PingFrame:
		if f.IsAck() {
			h.pings++
			h.last = f.Data
		} else {
			h.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			h.window += int64(f.Increment)
		} else {
			h.credited.stream, h.credited.by = f.StreamID, f.Increment
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			f.ForeachSetting(func(s http2.Setting) error { h.settings[s.ID] = s.Val; return nil })
			h.framer.WriteSettingsAck()
		}
	}
	return true
}

// wait takes frames until the stream has ended, or the connection has.
func (h *h2) wait(id uint32) *stream {
	s := h.streams[id]
	for !s.ended && h.step() {
	}
	return s
}

// drain takes frames until the connection has ended, and tells with what.
func (h *h2) drain() (code http2.ErrCode, told bool) {
	for h.step() {
	}
	if h.goAway == nil {
		return 0, false
	}
	return *h.goAway, true
}

// initialWindow is what a new stream of ours may send.
func (h *h2) initialWindow() uint32 {
	if n, ok := h.settings[http2.SettingInitialWindowSize]; ok {
		return n
	}
	return firstWindow
}

// sync is a round trip: all frames before it have been read by the server.
func (h *h2) sync() bool {
	before := h.pings
	h.framer.WritePing(false, [8]byte{1})
	for h.pings == before && h.step() {
	}
	return h.pings > before
}

// get is a request without body on a new stream, and its answer.
func (h *h2) get(path string, pairs ...string) *stream {
	return h.wait(h.open(head(path, pairs...), true))
}

// broke tells whether the server has ended the connection; that nothing came in
// time is not that.
func (h *h2) broke() bool { return h.ended != nil && !errors.Is(h.ended, os.ErrDeadlineExceeded) }

// refusedStream tells whether a malformed request was refused: an error of the stream or of the connection, or a 4xx answer.
func (h *h2) refusedStream(id uint32) bool {
	s := h.wait(id)
	return s.reset != nil || h.goAway != nil || h.broke() || s.status() >= http.StatusBadRequest && s.status() < http.StatusInternalServerError
}

// patient extends the deadline for what takes long.
func (c *client) patient(d time.Duration) { c.SetDeadline(time.Now().Add(d)) }
