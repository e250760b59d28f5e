package inbound

import (
	"google.golang.org/grpc/encoding"
	// Registers the codec that this one falls back to.
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// codec is the usual one, except that what is told is sent as it was encoded: ten
// thousand proxies with one policy cost one encoding.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if t, ok := v.(told); ok {
		// A slice buffer is neither changed nor pooled by the transport.
		if t.revision == nil {
			return mem.BufferSlice{mem.SliceBuffer(t.Encoded)}, nil
		}
		return mem.BufferSlice{mem.SliceBuffer(t.Encoded), mem.SliceBuffer(t.revision)}, nil
	}
	return c.CodecV2.Marshal(v)
}
