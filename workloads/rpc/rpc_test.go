package rpc_test

import (
	"context"
	"net"
	"slices"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshproof/meshproof/workloads/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file() *descriptorpb.ServiceDescriptorProto {
	return rpc.Service("Greeter", rpc.Unary("Greet", "Name", "Name"), rpc.ServerStream("Repeat", "Name", "Name"))
}

var greeter = rpc.MustFile("greeter.proto", "test.v1", []*descriptorpb.DescriptorProto{rpc.Message("Name", rpc.String("text"))}, file())

func start(t *testing.T, handlers rpc.Handlers) *grpc.ClientConn {
	server := grpc.NewServer()
	rpc.Register(server, greeter, handlers)
	healthpb.RegisterHealthServer(server, health.NewServer())
	rpc.Reflect(server, greeter)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop(); <-done })
	return conn
}

func TestADescribedServiceAnswersLikeAGeneratedOne(t *testing.T) {
	conn := start(t, rpc.Handlers{Unary: func(_ context.Context, method string, in, out *dynamicpb.Message) error {
		rpc.SetString(out, "text", method+" "+rpc.GetString(in, "text"))
		return nil
	}})
	method := greeter.Services().Get(0).Methods().ByName("Greet")
	out, err := rpc.Call(t.Context(), conn, method, func(in *dynamicpb.Message) { rpc.SetString(in, "text", "you") })
	if err != nil || rpc.GetString(out, "text") != "Greet you" {
		t.Errorf("got %v, %v", out, err)
	}
	// The stream has no handler.
	if err := conn.Invoke(t.Context(), "/test.v1.Greeter/Repeat", dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())); status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v, want Unimplemented", err)
	}
	if _, err := rpc.Call(t.Context(), start(t, rpc.Handlers{}), method, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v, want Unimplemented", err)
	}
}

func TestReflectionKnowsDescribedAndLinkedServicesInBothItsVersions(t *testing.T) {
	conn := start(t, rpc.Handlers{})
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var names []string
	for _, service := range ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	want := []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "test.v1.Greeter"}
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("services %v, want %v", names, want)
	}
	for _, symbol := range []string{"test.v1.Greeter", "test.v1.Name", "grpc.health.v1.Health"} {
		answer := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol}})
		if len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("%s: %v", symbol, answer)
		}
	}
	old, err := reflectionv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_FileByFilename{FileByFilename: "greeter.proto"}})
	if answer, err := old.Recv(); err != nil || len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("v1alpha: %v, %v", answer, err)
	}
}
