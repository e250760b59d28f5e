package clients

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// TransportALPN is the protocol name of direct connections between proxies. It
// is also, followed by two line ends, what the header begins with.
const TransportALPN = "transport.l5d.io/v1"

// Field numbers of the header's message (rule T-32).
const (
	headerPort    protowire.Number = 1
	headerName    protowire.Number = 2
	headerSession protowire.Number = 3
	sessionHTTP1  protowire.Number = 1
	sessionHTTP2  protowire.Number = 2
)

// encode returns the bytes that follow the handshake: preface, length, message.
// The codec is this package's own, so that a mistake in a proxy's is not made
// twice.
func (h TransportHeader) encode() []byte {
	var message []byte
	if h.Port != 0 {
		message = protowire.AppendTag(message, headerPort, protowire.VarintType)
		message = protowire.AppendVarint(message, uint64(h.Port))
	}
	if h.Name != "" {
		message = protowire.AppendTag(message, headerName, protowire.BytesType)
		message = protowire.AppendString(message, h.Name)
	}
	if kind := h.session(); kind != 0 {
		inner := protowire.AppendBytes(protowire.AppendTag(nil, kind, protowire.BytesType), nil)
		message = protowire.AppendTag(message, headerSession, protowire.BytesType)
		message = protowire.AppendBytes(message, inner)
	}
	out := fmt.Appendf(nil, "%s\r\n\r\n", TransportALPN)
	out = binary.BigEndian.AppendUint32(out, uint32(len(message)))
	return append(out, message...)
}

func (h TransportHeader) session() protowire.Number {
	switch h.Session {
	case HTTP1:
		return sessionHTTP1
	case HTTP2:
		return sessionHTTP2
	}
	return 0
}
