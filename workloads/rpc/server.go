package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Handlers answers a service's rpcs. Each function gets the rpc's plain name.
type Handlers struct {
	// Unary fills out from in. A nil Unary leaves unary rpcs unimplemented.
	Unary func(ctx context.Context, method string, in, out *dynamicpb.Message) error
	// Stream serves a streaming rpc to its end. It receives into messages from
	// NewInput and sends messages from NewOutput.
	Stream func(stream *Stream) error
}

// Stream is one streaming rpc being served.
type Stream struct {
	grpc.ServerStream
	descriptor protoreflect.MethodDescriptor
}

// Method is the rpc's plain name.
func (s *Stream) Method() string { return string(s.descriptor.Name()) }

// NewInput returns an empty message of the kind the client sends.
func (s *Stream) NewInput() *dynamicpb.Message { return dynamicpb.NewMessage(s.descriptor.Input()) }

// NewOutput returns an empty message of the kind the server sends.
func (s *Stream) NewOutput() *dynamicpb.Message { return dynamicpb.NewMessage(s.descriptor.Output()) }

// Register adds the file's services to server.
func Register(server *grpc.Server, file protoreflect.FileDescriptor, handlers Handlers) {
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		description := grpc.ServiceDesc{ServiceName: string(service.FullName()), Metadata: file.Path(), HandlerType: (*any)(nil)}
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			if method.IsStreamingClient() || method.IsStreamingServer() {
				description.Streams = append(description.Streams, stream(method, handlers))
			} else {
				description.Methods = append(description.Methods, unary(method, handlers))
			}
		}
		server.RegisterService(&description, struct{}{})
	}
}

func unary(method protoreflect.MethodDescriptor, handlers Handlers) grpc.MethodDesc {
	name := string(method.Name())
	call := func(ctx context.Context, in any) (any, error) {
		if handlers.Unary == nil {
			return nil, status.Error(codes.Unimplemented, name)
		}
		out := dynamicpb.NewMessage(method.Output())
		if err := handlers.Unary(ctx, name, in.(*dynamicpb.Message), out); err != nil {
			return nil, err
		}
		return out, nil
	}
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := dynamicpb.NewMessage(method.Input())
		if err := decode(in); err != nil {
			return nil, err
		}
		if intercept == nil {
			return call(ctx, in)
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{FullMethod: FullMethod(method)}, call)
	}}
}

func stream(method protoreflect.MethodDescriptor, handlers Handlers) grpc.StreamDesc {
	return grpc.StreamDesc{StreamName: string(method.Name()), ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer(),
		Handler: func(_ any, s grpc.ServerStream) error {
			if handlers.Stream == nil {
				return status.Error(codes.Unimplemented, string(method.Name()))
			}
			return handlers.Stream(&Stream{s, method})
		}}
}

// FullMethod is the path of an rpc: "/emojivoto.v1.VotingService/VoteDog".
func FullMethod(method protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
}

// Reflect registers reflection, in both its versions, for everything that has
// been registered on server; files holds the descriptors that are not linked
// into the program.
func Reflect(server *grpc.Server, files ...protoreflect.FileDescriptor) {
	resolver := &resolver{}
	for _, file := range files {
		if err := resolver.own.RegisterFile(file); err != nil {
			panic(fmt.Errorf("register %s for reflection: %w", file.Path(), err))
		}
	}
	options := reflection.ServerOptions{Services: server, DescriptorResolver: resolver}
	reflectionv1.RegisterServerReflectionServer(server, reflection.NewServerV1(options))
	reflectionv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(options))
}

// resolver looks into its own files first, then into the linked ones, so that
// nothing has to be put into the process-wide registry.
type resolver struct{ own protoregistry.Files }

var _ protodesc.Resolver = (*resolver)(nil)

func (r *resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	file, err := r.own.FindFileByPath(path)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalFiles.FindFileByPath(path)
	}
	return file, err
}

func (r *resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	descriptor, err := r.own.FindDescriptorByName(name)
	if errors.Is(err, protoregistry.NotFound) {
		return protoregistry.GlobalFiles.FindDescriptorByName(name)
	}
	return descriptor, err
}

// Call makes one unary call over conn and returns the answer.
func Call(ctx context.Context, conn grpc.ClientConnInterface, method protoreflect.MethodDescriptor, fill func(in *dynamicpb.Message)) (*dynamicpb.Message, error) {
	in, out := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if fill != nil {
		fill(in)
	}
	if err := conn.Invoke(ctx, FullMethod(method), in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// SetString sets the string field of that name.
func SetString(m protoreflect.Message, name protoreflect.Name, value string) {
	m.Set(m.Descriptor().Fields().ByName(name), protoreflect.ValueOfString(value))
}

// GetString reads the string field of that name.
func GetString(m protoreflect.Message, name protoreflect.Name) string {
	return m.Get(m.Descriptor().Fields().ByName(name)).String()
}
