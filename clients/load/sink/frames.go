package sink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/clients/load/frame"
)

// framed is one connection of unary gRPC calls. Requests' heads are decoded, as any
// application would: a proxy that garbles them must not be measured.
type framed struct {
	conn          net.Conn
	reader        frame.Reader
	credit        frame.Credit
	head, trailer *frame.Block
	out           []byte
	// window is what may be sent on the connection; answers wait for it in held.
	window  int64
	held    []answer
	decoder *hpack.Decoder
	// block gathers a head that is continued; ends says that its stream ends with
	// it.
	block []byte
	ends  bool
	// asked is set by a head that asks for the method.
	asked bool
	// bodies are the messages of requests that have not ended.
	bodies map[uint32][]byte
}

type answer struct {
	stream uint32
	body   []byte
}

var errPreface = errors.New("no HTTP/2 client")

// answerFrames echoes messages. All answers to what came with one read go out
// with one write.
func answerFrames(conn net.Conn) error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return err
	}
	if string(preface) != http2.ClientPreface {
		return errPreface
	}
	f := &framed{conn: conn, window: frame.InitialWindow, bodies: map[uint32][]byte{}, out: frame.Greeting(nil, false)}
	f.decoder = hpack.NewDecoder(4096, func(h hpack.HeaderField) {
		f.asked = f.asked || h.Name == ":path" && h.Value == load.Method
	})
	buffer := make([]byte, bufferSize)
	for {
		if len(f.out) > 0 {
			if _, err := conn.Write(f.out); err != nil {
				return err
			}
			f.out = f.out[:0]
		}
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		if err := f.reader.Feed(buffer[:n], f.frame); err != nil {
			return err
		}
	}
}

func (f *framed) frame(in frame.Frame) error {
	switch in.Type {
	case http2.FrameSettings:
		f.settings(in)
	case http2.FramePing:
		if !in.Flags.Has(http2.FlagPingAck) {
			f.out = frame.Append(f.out, http2.FramePing, http2.FlagPingAck, 0, in.Payload)
		}
	case http2.FrameWindowUpdate:
		if in.Stream == 0 && len(in.Payload) == 4 {
			f.window += int64(binary.BigEndian.Uint32(in.Payload))
			f.release()
		}
	case http2.FrameHeaders, http2.FrameContinuation:
		return f.request(in)
	case http2.FrameData:
		body, err := in.Content()
		if err != nil {
			return err
		}
		f.out = f.credit.Swallow(f.out, len(in.Payload))
		if len(f.bodies) > 0 || !in.Flags.Has(http2.FlagDataEndStream) {
			f.bodies[in.Stream] = append(f.bodies[in.Stream], body...)
			body = f.bodies[in.Stream]
		}
		if in.Flags.Has(http2.FlagDataEndStream) {
			delete(f.bodies, in.Stream)
			f.answer(answer{in.Stream, body})
		}
	case http2.FrameRSTStream:
		delete(f.bodies, in.Stream)
	}
	return nil
}

// errOther ends a connection that asks for something else.
var errOther = errors.New("a call of another method, or none")

func (f *framed) request(in frame.Frame) error {
	part := in.Payload
	if in.Type == http2.FrameHeaders {
		var err error
		if part, err = in.Content(); err != nil {
			return err
		}
		f.ends = in.Flags.Has(http2.FlagHeadersEndStream)
	}
	if !in.Flags.Has(http2.FlagHeadersEndHeaders) || len(f.block) > 0 {
		f.block = append(f.block, part...)
		part = f.block
	}
	if !in.Flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	f.asked = false
	_, err := f.decoder.Write(part)
	f.block = f.block[:0]
	if err = errors.Join(err, f.decoder.Close()); err != nil {
		return err
	}
	if !f.asked {
		return errOther
	}
	if f.ends {
		f.answer(answer{stream: in.Stream})
	}
	return nil
}

// settings are acknowledged; the first say how header blocks may be encoded.
func (f *framed) settings(in frame.Frame) {
	if in.Flags.Has(http2.FlagSettingsAck) {
		return
	}
	if f.head == nil {
		table := uint32(4096)
		frame.Settings(in.Payload, func(s http2.Setting) {
			if s.ID == http2.SettingHeaderTableSize {
				table = min(table, s.Val)
			}
		})
		encoder := frame.NewEncoder(table)
		f.head = encoder.Encode(hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		f.trailer = encoder.Encode(hpack.HeaderField{Name: "grpc-status", Value: "0"}, hpack.HeaderField{Name: "grpc-message", Value: ""})
	}
	f.out = frame.Append(f.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
}

func (f *framed) answer(a answer) {
	if len(f.held) > 0 || f.window < int64(len(a.body)) {
		f.held = append(f.held, answer{a.stream, bytes.Clone(a.body)})
		return
	}
	f.window -= int64(len(a.body))
	f.out = frame.Append(f.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, a.stream, f.head.Next())
	f.out = frame.Append(f.out, http2.FrameData, 0, a.stream, a.body)
	f.out = frame.Append(f.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, a.stream, f.trailer.Next())
}

// release sends what waited for the window.
func (f *framed) release() {
	held := f.held
	f.held = nil
	for _, a := range held {
		f.answer(a)
	}
}
