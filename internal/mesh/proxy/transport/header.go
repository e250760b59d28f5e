// Package transport is the transport header: the few bytes with which a mesh
// client that dials a proxy's own port says which port it is for, and whether
// an HTTP session follows (rule T-32).
//
// A Header is written before the first byte of the session, inside mesh TLS
// with the protocol name ALPN, and read by the other side. Reading consumes the
// header and not one byte more, reads a bounded number of bytes, and refuses
// whatever it does not understand: a header that means more than this code
// knows would be judged by the wrong policy.
//
// It sets no deadlines; who reads from the network bounds the time.
package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// ALPN is the application protocol of sessions that begin with a header.
const ALPN = "transport.l5d.io/v1"

const (
	preface = ALPN + "\r\n\r\n"
	// longestMessage bounds the encoded header: a port, a name as long as DNS
	// allows with a port after it, and a session protocol.
	longestMessage = 512
)

// ErrMalformed is wrapped by every error of Read that is not the reader's own.
var ErrMalformed = errors.New("malformed transport header")

// SessionProtocol is what the session after the header speaks.
type SessionProtocol uint8

// Opaque stands for an absent session_protocol: bytes of any kind (T-33).
const (
	Opaque SessionProtocol = iota
	HTTP1
	HTTP2
)

// String is the name used in logs.
func (p SessionProtocol) String() string {
	switch p {
	case Opaque:
		return "opaque"
	case HTTP1:
		return "http1"
	case HTTP2:
		return "http2"
	}
	return fmt.Sprintf("SessionProtocol(%d)", uint8(p))
}

// Header names the target.
type Header struct {
	// Port is the target port, 1 to 65535.
	Port uint16
	// Name is empty, or the target authority when the peer is a gateway (T-35).
	Name string
	// Protocol is the session's protocol.
	Protocol SessionProtocol
}

const (
	fieldPort     protowire.Number = 1
	fieldName     protowire.Number = 2
	fieldProtocol protowire.Number = 3
)

// Append appends the encoded header to b, for callers that put it into one
// write with what follows. The header must be valid: see Write.
func (h Header) Append(b []byte) []byte {
	var message []byte
	message = protowire.AppendTag(message, fieldPort, protowire.VarintType)
	message = protowire.AppendVarint(message, uint64(h.Port))
	if h.Name != "" {
		message = protowire.AppendTag(message, fieldName, protowire.BytesType)
		message = protowire.AppendString(message, h.Name)
	}
	if h.Protocol != Opaque {
		var kind []byte
		kind = protowire.AppendTag(kind, protowire.Number(h.Protocol), protowire.BytesType)
		kind = protowire.AppendBytes(kind, nil)
		message = protowire.AppendTag(message, fieldProtocol, protowire.BytesType)
		message = protowire.AppendBytes(message, kind)
	}
	b = append(b, preface...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

// Write writes the header in one call.
func (h Header) Write(w io.Writer) error {
	if h.Port == 0 || h.Protocol > HTTP2 || len(h.Name) > longestMessage/2 {
		return fmt.Errorf("write transport header %+v: not a valid header", h)
	}
	if _, err := w.Write(h.Append(nil)); err != nil {
		return fmt.Errorf("write transport header for port %d: %w", h.Port, err)
	}
	return nil
}

// Read reads one header. The error wraps ErrMalformed when the bytes are not
// one, io.EOF when nothing came at all, and is the reader's otherwise.
func Read(r io.Reader) (Header, error) {
	var start [len(preface) + 4]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return Header{}, fmt.Errorf("read transport header: %w", err)
	}
	if string(start[:len(preface)]) != preface {
		return Header{}, fmt.Errorf("%w: wrong preface", ErrMalformed)
	}
	length := binary.BigEndian.Uint32(start[len(preface):])
	if length > longestMessage {
		return Header{}, fmt.Errorf("%w: %d bytes announced, at most %d are read", ErrMalformed, length, longestMessage)
	}
	message := make([]byte, length)
	if _, err := io.ReadFull(r, message); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Header{}, fmt.Errorf("read transport header: %w", err)
	}
	header, err := parse(message)
	if err != nil {
		// Not wrapped: a message that ends too early is not a connection that does.
		return Header{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return header, nil
}

func parse(message []byte) (Header, error) {
	var h Header
	seen := map[protowire.Number]bool{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return h, protowire.ParseError(n)
		}
		message = message[n:]
		if seen[number] {
			return h, fmt.Errorf("field %d occurs twice", number)
		}
		seen[number] = true
		switch {
		case number == fieldPort && kind == protowire.VarintType:
			port, n := protowire.ConsumeVarint(message)
			if n < 0 {
				return h, protowire.ParseError(n)
			}
			if port == 0 || port > math.MaxUint16 {
				return h, fmt.Errorf("port %d", int64(port))
			}
			h.Port, message = uint16(port), message[n:]
		case number == fieldName && kind == protowire.BytesType:
			name, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return h, protowire.ParseError(n)
			}
			if !utf8.Valid(name) {
				return h, errors.New("name is not UTF-8")
			}
			h.Name, message = string(name), message[n:]
		case number == fieldProtocol && kind == protowire.BytesType:
			inner, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return h, protowire.ParseError(n)
			}
			protocol, err := parseProtocol(inner)
			if err != nil {
				return h, err
			}
			h.Protocol, message = protocol, message[n:]
		default:
			return h, fmt.Errorf("unknown field %d of type %d", number, kind)
		}
	}
	if h.Port == 0 {
		return h, errors.New("no port")
	}
	return h, nil
}

// parseProtocol reads the one-of. An empty message would be a protocol that is
// present and unknown, which must not pass for opaque.
func parseProtocol(message []byte) (SessionProtocol, error) {
	number, kind, n := protowire.ConsumeTag(message)
	if n < 0 {
		return 0, fmt.Errorf("session protocol: %w", protowire.ParseError(n))
	}
	protocol := SessionProtocol(number)
	if (number != protowire.Number(HTTP1) && number != protowire.Number(HTTP2)) || kind != protowire.BytesType {
		return 0, fmt.Errorf("unknown session protocol %d", number)
	}
	body, m := protowire.ConsumeBytes(message[n:])
	if m < 0 || len(body) > 0 || n+m != len(message) {
		return 0, errors.New("session protocol holds more than its kind")
	}
	return protocol, nil
}
