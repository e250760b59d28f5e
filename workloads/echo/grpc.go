package echo

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshproof/meshproof/workloads/rpc"
)

const (
	// listLength is how many messages List sends.
	listLength = 3
	// watchInterval is the pause between two messages of Watch: far below the
	// budgets in which a cut stream has to be noticed.
	watchInterval = 50 * time.Millisecond
)

// File describes meshproof.echo.v1.Echo. Every rpc takes and gives Message:
//
//	Say   unary: the message comes back
//	List  server streaming: the message comes back three times, then the end
//	Watch server streaming: the message comes back until the client leaves
//	Chat  both ways: each message comes back until the client half-closes
var File = rpc.MustFile("meshproof/echo/v1/echo.proto", "meshproof.echo.v1",
	[]*descriptorpb.DescriptorProto{rpc.Message("Message", rpc.String("text"))},
	rpc.Service("Echo",
		rpc.Unary("Say", "Message", "Message"),
		rpc.ServerStream("List", "Message", "Message"),
		rpc.ServerStream("Watch", "Message", "Message"),
		rpc.BidiStream("Chat", "Message", "Message")))

// newGRPC returns the server of PortGRPC; more options take the place of its own.
func newGRPC(recorder *Recorder, port int, more ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			d := delivery(ctx, info.FullMethod, port)
			recorder.Add(d)
			grpc.SetHeader(ctx, metadata.Pairs(HeaderID, d.ID))
			return next(ctx, in)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			d := delivery(stream.Context(), info.FullMethod, port)
			recorder.Add(d)
			stream.SetHeader(metadata.Pairs(HeaderID, d.ID))
			return next(srv, stream)
		}),
		// A call of anything else reached the application, too.
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			return status.Errorf(codes.Unimplemented, "unknown method %s", method)
		})}, more...)...)
	rpc.Register(server, File, rpc.Handlers{
		Unary: func(_ context.Context, _ string, in, out *dynamicpb.Message) error {
			rpc.SetString(out, "text", rpc.GetString(in, "text"))
			return nil
		},
		Stream: func(stream *rpc.Stream) error { return serveStream(stream, recorder, port) },
	})
	checks := health.NewServer()
	checks.SetServingStatus(string(File.Services().Get(0).FullName()), healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, checks)
	rpc.Reflect(server, File)
	return server
}

func serveStream(stream *rpc.Stream, recorder *Recorder, port int) error {
	in := stream.NewInput()
	if err := stream.RecvMsg(in); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	switch stream.Method() {
	case "List":
		for range listLength {
			if err := stream.SendMsg(in); err != nil {
				return err
			}
		}
		return nil
	case "Watch":
		ticker := time.NewTicker(watchInterval)
		defer ticker.Stop()
		for {
			if err := stream.SendMsg(in); err != nil {
				return err
			}
			select {
			case <-stream.Context().Done():
				return stream.Context().Err()
			case <-ticker.C:
			}
		}
	}
	line := delivery(stream.Context(), "/meshproof.echo.v1.Echo/"+stream.Method(), port)
	line.Event, line.Headers = EventLine, nil
	for {
		text := rpc.GetString(in, "text")
		line.Bytes = len(text)
		recorder.Add(line)
		if err := stream.SendMsg(in); err != nil {
			return err
		}
		err := stream.RecvMsg(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func delivery(ctx context.Context, method string, port int) Delivery {
	d := Delivery{Event: EventRequest, Protocol: "grpc", Port: port, Method: "POST", Path: method}
	if p, ok := peer.FromContext(ctx); ok {
		d.Peer = p.Addr.String()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	d.Host, d.Headers = first(md.Get(":authority")), flatten(md)
	d.ID, d.ClientID = first(md.Get(HeaderID)), first(md.Get(HeaderClientID))
	return d
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
