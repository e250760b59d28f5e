package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// peersHeader is the message as peers of another make declare it (T-32).
func peersHeader() (protoreflect.MessageDescriptor, error) {
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		if of != "" {
			f.TypeName = &of
		}
		return f
	}
	const message = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
	either := []*descriptorpb.FieldDescriptorProto{field("http_1", 1, message, ".Http1"), field("http_2", 2, message, ".Http2")}
	for _, f := range either {
		f.OneofIndex = proto.Int32(0)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("header.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Header"), Field: []*descriptorpb.FieldDescriptorProto{
				field("port", 1, descriptorpb.FieldDescriptorProto_TYPE_INT32, ""),
				field("name", 2, descriptorpb.FieldDescriptorProto_TYPE_STRING, ""),
				field("session_protocol", 3, message, ".SessionProtocol"),
			}},
			{Name: proto.String("SessionProtocol"), Field: either, OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: proto.String("kind")}}},
			{Name: proto.String("Http1")}, {Name: proto.String("Http2")},
		},
	}, nil)
	if err != nil {
		return nil, err
	}
	return file.Messages().ByName("Header"), nil
}

// FuzzRead: a header that is read means the same to the protobuf library, which
// finds nothing in it that was not understood; not a byte more is taken, wherever
// reads split it; and what the library writes of a header is read.
func FuzzRead(f *testing.F) {
	for _, h := range headers {
		f.Add(append(h.Append(nil), "GET / HTTP/1.1\r\n"...))
	}
	for _, message := range []string{"\x08\xd0\x00", "\x08\x50\x08\x51", "\x08\x50\x1a\x00", "\x08\x50\x1a\x04\x0a\x00\x12\x00", "\x08\x50\x20\x01", "\x08\x50\x1a\x04\x0a\x02\x08\x01", "\x08\xd0\x80\x80\x80\x10", "\x12\x01a\x08\x50"} {
		f.Add([]byte(wire(message)))
	}
	descriptor, err := peersHeader()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		got, err := Read(in)
		slow := bytes.NewReader(data)
		if again, againErr := Read(iotest.OneByteReader(slow)); again != got || (err == nil) != (againErr == nil) || errors.Is(err, ErrMalformed) != errors.Is(againErr, ErrMalformed) || in.Len() != slow.Len() {
			t.Fatalf("%+v, %v, %d left; in single bytes %+v, %v, %d left", got, err, in.Len(), again, againErr, slow.Len())
		}
		body, whole := strings.CutPrefix(string(data), preface)
		if !whole || len(body) < 4 || int(binary.BigEndian.Uint32([]byte(body))) > len(body)-4 {
			if err == nil {
				t.Fatalf("%+v is read of no header", got)
			}
			return
		}
		size := int(binary.BigEndian.Uint32([]byte(body)))
		body = body[4:]
		peers := dynamicpb.NewMessage(descriptor)
		peersErr := proto.Unmarshal([]byte(body[:size]), peers)
		want, understood := read(peers)
		if err == nil {
			if peersErr != nil || !understood || got != want || in.Len() != len(body)-size {
				t.Fatalf("%+v, of which the library makes %+v, %v, %v; %d bytes are left of %d", got, want, understood, peersErr, in.Len(), len(body)-size)
			}
			if again, err := Read(bytes.NewReader(got.Append(nil))); err != nil || again != got {
				t.Fatalf("%+v does not survive a round trip: %+v, %v", got, again, err)
			}
			return
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("a whole header: %v", err)
		}
		if peersErr != nil || !understood {
			return
		}
		written, err := proto.MarshalOptions{Deterministic: true}.Marshal(peers)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(strings.NewReader(wire(string(written)))); len(written) <= longestMessage && (err != nil || got != want) {
			t.Fatalf("a peer writes %x for %+v, read as %+v, %v", written, want, got, err)
		}
	})
}

// read is what the library makes of a header, and whether that is one that can be
// meant, in words that are known.
func read(m *dynamicpb.Message) (h Header, understood bool) {
	fields := m.Descriptor().Fields()
	port := m.Get(fields.ByName("port")).Int()
	h.Name = m.Get(fields.ByName("name")).String()
	understood = port > 0 && port < 1<<16 && len(m.GetUnknown()) == 0
	h.Port = uint16(port)
	if f := fields.ByName("session_protocol"); m.Has(f) {
		session := m.Get(f).Message()
		kind := session.WhichOneof(session.Descriptor().Oneofs().ByName("kind"))
		if kind == nil {
			return h, false
		}
		h.Protocol = SessionProtocol(kind.Number())
		understood = understood && len(session.GetUnknown()) == 0 && len(session.Get(kind).Message().GetUnknown()) == 0
	}
	return h, understood
}
