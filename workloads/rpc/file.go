// Package rpc builds gRPC services from descriptors made at run time.
//
// The workloads' APIs are tables (a hundred rpcs that differ in their name
// only), so their descriptors are built from the same table that answers the
// calls, and no generated code is kept. What comes out is what protoc would
// give: a file descriptor that reflection serves, and a grpc.ServiceDesc.
//
// It knows proto3 files with strings, int32 and messages, which is what the
// workloads need, and no options, enums, maps or oneofs.
package rpc

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// MustFile builds the descriptor of a proto3 file with these messages and one
// service. Names of types are relative to pkg. It panics when the table is
// wrong, which is a mistake of the program and shows when the package loads.
func MustFile(path, pkg string, messages []*descriptorpb.DescriptorProto, service *descriptorpb.ServiceDescriptorProto) protoreflect.FileDescriptor {
	for _, message := range messages {
		for _, field := range message.Field {
			qualify(pkg, field.TypeName)
		}
	}
	for _, method := range service.Method {
		qualify(pkg, method.InputType)
		qualify(pkg, method.OutputType)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String(path), Package: proto.String(pkg), Syntax: proto.String("proto3"),
		MessageType: messages, Service: []*descriptorpb.ServiceDescriptorProto{service},
	}, protoregistry.GlobalFiles)
	if err != nil {
		panic(fmt.Errorf("build descriptor of %s: %w", path, err))
	}
	return file
}

func qualify(pkg string, name *string) {
	if name != nil && (*name)[0] != '.' {
		*name = "." + pkg + "." + *name
	}
}

// Message describes a message whose fields are numbered from 1 in order.
func Message(name string, fields ...*descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
	for i, field := range fields {
		field.Number = proto.Int32(int32(i + 1))
	}
	return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
}

// String is a string field.
func String(name string) *descriptorpb.FieldDescriptorProto {
	return field(name, descriptorpb.FieldDescriptorProto_TYPE_STRING)
}

// Int32 is an int32 field.
func Int32(name string) *descriptorpb.FieldDescriptorProto {
	return field(name, descriptorpb.FieldDescriptorProto_TYPE_INT32)
}

// Nested is a field that holds a message.
func Nested(name, message string) *descriptorpb.FieldDescriptorProto {
	f := field(name, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	f.TypeName = &message
	return f
}

// Repeated makes a field a list.
func Repeated(f *descriptorpb.FieldDescriptorProto) *descriptorpb.FieldDescriptorProto {
	f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	return f
}

func field(name string, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{Name: &name, Type: kind.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
}

// Service describes a service.
func Service(name string, methods ...*descriptorpb.MethodDescriptorProto) *descriptorpb.ServiceDescriptorProto {
	return &descriptorpb.ServiceDescriptorProto{Name: &name, Method: methods}
}

// Unary is an rpc with one message each way.
func Unary(name, in, out string) *descriptorpb.MethodDescriptorProto {
	return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: &in, OutputType: &out}
}

// ServerStream is an rpc that answers one message with many.
func ServerStream(name, in, out string) *descriptorpb.MethodDescriptorProto {
	method := Unary(name, in, out)
	method.ServerStreaming = proto.Bool(true)
	return method
}

// BidiStream is an rpc with many messages each way.
func BidiStream(name, in, out string) *descriptorpb.MethodDescriptorProto {
	method := ServerStream(name, in, out)
	method.ClientStreaming = proto.Bool(true)
	return method
}
