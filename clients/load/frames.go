package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/meshproof/meshproof/clients/load/frame"
)

// frames are unary gRPC calls of which everything was encoded beforehand. The
// answers' heads are decoded: a proxy that denies is quicker than one that
// forwards, and must not be measured for it.
type frames struct {
	head    *frame.Block
	message []byte
	out     []byte

	reader  frame.Reader
	decoder *hpack.Decoder
	credit  frame.Credit
	// block gathers a header block that is continued; ends says that its stream
	// ends with it.
	block []byte
	ends  bool

	next uint32
	// window is what may be sent on the connection.
	window int64
	// most is how many streams the peer allows.
	most  uint32
	calls map[uint32]*call
	spare []*call
	// answering is the call whose head is being decoded; nil for one given up.
	answering *call
}

type call struct {
	due          time.Duration
	status, grpc string
}

// greet begins HTTP/2 and waits for the peer's settings, since header blocks
// depend on them.
func greet(conn net.Conn, p Plan) (*frames, error) {
	f := &frames{next: 1, window: frame.InitialWindow, most: 100, calls: map[uint32]*call{}, message: grpcMessage(p.Payload)}
	f.decoder = hpack.NewDecoder(4096, f.field)
	conn.SetDeadline(time.Now().Add(dialLimit))
	defer conn.SetDeadline(time.Time{})
	if _, err := conn.Write(frame.Greeting(nil, true)); err != nil {
		return nil, fmt.Errorf("begin HTTP/2: %w", err)
	}
	table := uint32(4096)
	greeted := false
	buffer := make([]byte, 4<<10)
	for !greeted {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("wait for the peer's settings: %w", err)
		}
		err = f.reader.Feed(buffer[:n], func(in frame.Frame) error {
			if in.Type == http2.FrameSettings && !in.Flags.Has(http2.FlagSettingsAck) {
				greeted = true
				frame.Settings(in.Payload, func(s http2.Setting) {
					if s.ID == http2.SettingHeaderTableSize {
						table = min(s.Val, table)
					}
				})
			}
			return f.frame(in, func(time.Duration, error) {})
		})
		if err != nil {
			return nil, err
		}
	}
	scheme := "http"
	if p.TLS != nil {
		scheme = "https"
	}
	fields := []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme}, {Name: ":path", Value: Method},
		{Name: ":authority", Value: p.Authority}, {Name: "content-type", Value: "application/grpc"}, {Name: "user-agent", Value: "meshproof-load"}, {Name: "te", Value: "trailers"}}
	for name, value := range p.Header {
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	f.head = frame.NewEncoder(table).Encode(fields...)
	return f, nil
}

// grpcMessage is a BytesValue of n zeros, framed as gRPC does.
func grpcMessage(n int) []byte {
	var message []byte
	if n > 0 {
		message = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, n))
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func (f *frames) begin(due time.Duration) bool {
	if f.window < int64(len(f.message)) || uint32(len(f.calls)) >= f.most {
		return false
	}
	f.window -= int64(len(f.message))
	var c *call
	if n := len(f.spare); n > 0 {
		c, f.spare = f.spare[n-1], f.spare[:n-1]
	} else {
		c = &call{}
	}
	*c = call{due: due}
	f.calls[f.next] = c
	f.out = frame.Append(f.out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, f.next, f.head.Next())
	f.out = frame.Append(f.out, http2.FrameData, http2.FlagDataEndStream, f.next, f.message)
	f.next += 2
	return true
}

func (f *frames) take() []byte {
	out := f.out
	f.out = f.out[:0]
	return out
}

func (f *frames) feed(arrived []byte, done func(time.Duration, error)) error {
	return f.reader.Feed(arrived, func(in frame.Frame) error { return f.frame(in, done) })
}

var errAway = errors.New("the peer wants no more calls on this connection")

func (f *frames) frame(in frame.Frame, done func(time.Duration, error)) error {
	switch in.Type {
	case http2.FrameHeaders, http2.FrameContinuation:
		return f.headers(in, done)
	case http2.FrameData:
		f.out = f.credit.Swallow(f.out, len(in.Payload))
		if in.Flags.Has(http2.FlagDataEndStream) {
			f.end(in.Stream, done)
		}
	case http2.FrameRSTStream:
		if c := f.calls[in.Stream]; c != nil && len(in.Payload) == 4 {
			delete(f.calls, in.Stream)
			done(c.due, fmt.Errorf("stream reset: %v", http2.ErrCode(binary.BigEndian.Uint32(in.Payload))))
		}
	case http2.FrameSettings:
		if in.Flags.Has(http2.FlagSettingsAck) {
			return nil
		}
		frame.Settings(in.Payload, func(s http2.Setting) {
			if s.ID == http2.SettingMaxConcurrentStreams {
				f.most = s.Val
			}
		})
		f.out = frame.Append(f.out, http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	case http2.FramePing:
		if !in.Flags.Has(http2.FlagPingAck) {
			f.out = frame.Append(f.out, http2.FramePing, http2.FlagPingAck, 0, in.Payload)
		}
	case http2.FrameWindowUpdate:
		if in.Stream == 0 && len(in.Payload) == 4 {
			f.window += int64(binary.BigEndian.Uint32(in.Payload))
		}
	case http2.FrameGoAway:
		return errAway
	}
	return nil
}

func (f *frames) headers(in frame.Frame, done func(time.Duration, error)) error {
	part := in.Payload
	if in.Type == http2.FrameHeaders {
		var err error
		if part, err = in.Content(); err != nil {
			return err
		}
		f.ends = in.Flags.Has(http2.FlagHeadersEndStream)
	}
	if len(f.block) > 0 || !in.Flags.Has(http2.FlagHeadersEndHeaders) {
		f.block = append(f.block, part...)
		part = f.block
	}
	if !in.Flags.Has(http2.FlagHeadersEndHeaders) {
		return nil
	}
	f.answering = f.calls[in.Stream]
	if _, err := f.decoder.Write(part); err != nil {
		return fmt.Errorf("decode an answer's head: %w", err)
	}
	f.block = f.block[:0]
	if err := f.decoder.Close(); err != nil {
		return fmt.Errorf("decode an answer's head: %w", err)
	}
	if f.ends {
		f.end(in.Stream, done)
	}
	return nil
}

func (f *frames) field(h hpack.HeaderField) {
	if f.answering == nil {
		return
	}
	switch h.Name {
	case ":status":
		f.answering.status = h.Value
	case "grpc-status":
		f.answering.grpc = h.Value
	}
}

func (f *frames) end(stream uint32, done func(time.Duration, error)) {
	c := f.calls[stream]
	if c == nil {
		return
	}
	delete(f.calls, stream)
	f.spare = append(f.spare, c)
	if c.status != "200" || c.grpc != "0" {
		done(c.due, fmt.Errorf("answered with status %s and gRPC status %q", c.status, c.grpc))
		return
	}
	done(c.due, nil)
}
