package inbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// service is the gRPC application: it echoes what it is sent.
type service struct {
	grpc_testing.UnimplementedTestServiceServer
	// ended gets how each full-duplex call ended.
	ended chan error
}

func (s *service) UnaryCall(ctx context.Context, in *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("saw-client", strings.Join(md.Get("l5d-client-id"), "|")))
	if want := in.GetResponseStatus(); want != nil {
		return nil, status.Error(codes.Code(want.Code), want.Message)
	}
	return &grpc_testing.SimpleResponse{Payload: in.Payload}, nil
}

func (s *service) FullDuplexCall(stream grpc_testing.TestService_FullDuplexCallServer) error {
	stream.SetTrailer(metadata.Pairs("left", "over"))
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err != nil || in == nil {
			if s.ended != nil {
				s.ended <- err
			}
			return err
		}
		if err := stream.Send(&grpc_testing.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

func grpcApplication(t *testing.T, s *service) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, s)
	var done sync.WaitGroup
	done.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); done.Wait() })
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// grpcClient calls through the proxy as c.
func grpcClient(t *testing.T, w *world, c client) grpc_testing.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///app", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return w.dial(c) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	t.Cleanup(cancel)
	return ctx
}

func payload(text string) *grpc_testing.Payload { return &grpc_testing.Payload{Body: []byte(text)} }

func TestGRPCUnaryAndItsStatuses(t *testing.T) {
	w := newWorld(t, grpcApplication(t, &service{}), nil)
	w.apply(server(grpcProtocol(), identities(t, "web", webName)))
	web := grpcClient(t, w, client{from: neighbourIP, tls: true, identity: webName})
	for _, text := range []string{"", "x", strings.Repeat("y", 1<<20)} {
		var header metadata.MD
		out, err := web.UnaryCall(within(t), &grpc_testing.SimpleRequest{Payload: payload(text)}, grpc.Header(&header))
		if err != nil || string(out.GetPayload().GetBody()) != text {
			t.Errorf("%d bytes: %v", len(text), err)
		}
		if got := header.Get("saw-client"); !slices.Equal(got, []string{webName}) {
			t.Errorf("application saw identity %q", got)
		}
	}
	// The application's own status, which the server sends without a body.
	_, err := web.UnaryCall(within(t), &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: 2, Message: "doughnut"}})
	if s := status.Convert(err); s.Code() != codes.Unknown || s.Message() != "doughnut" {
		t.Errorf("application's status: %v", err)
	}
	// One that ends with its head.
	var header metadata.MD
	if _, err := web.EmptyCall(within(t), &grpc_testing.Empty{}, grpc.Header(&header)); status.Code(err) != codes.Unimplemented {
		t.Errorf("trailers-only: %v", err)
	}
	eventually(t, "the failure is counted", func() bool {
		return w.counter("response_total", map[string]string{"classification": "failure", "grpc_status": "2", "authz_name": "web", "direction": "inbound"}) == 1
	})
	if got := w.counter("response_total", map[string]string{"classification": "success", "grpc_status": "0", "tls": "true", "client_id": webName}); got != 3 {
		t.Errorf("successes: %v", got)
	}
	eventually(t, "each answer's time is counted", func() bool {
		return w.counter("response_latency_ms", map[string]string{"srv_name": "srv"}) == 5
	})
	// Denied: PermissionDenied; why is told to the identified only.
	for _, c := range []client{{from: neighbourIP}, {from: neighbourIP, tls: true}, {from: neighbourIP, tls: true, identity: otherName}} {
		_, err := grpcClient(t, w, c).UnaryCall(within(t), &grpc_testing.SimpleRequest{})
		s := status.Convert(err)
		if s.Code() != codes.PermissionDenied || (s.Message() != "") != (c.identity != "") {
			t.Errorf("%s: %v", c, err)
		}
	}
	if got := w.counter("inbound_http_authz_deny_total", map[string]string{"route_kind": "default", "route_name": "default"}); got != 3 {
		t.Errorf("denials: %v", got)
	}
	if got := w.counter("request_total", nil); got != 5 {
		t.Errorf("request_total counts denials too: %v", got)
	}
}

func TestGRPCStreamsBothWaysMessageByMessage(t *testing.T) {
	app := &service{ended: make(chan error, 2)}
	w := newWorld(t, grpcApplication(t, app), nil)
	w.apply(server(grpcProtocol(), anyone(t, "all")))
	web := grpcClient(t, w, client{from: neighbourIP})
	stream, err := web.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		text := fmt.Sprint("message ", i)
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(text)}); err != nil {
			t.Fatal(err)
		}
		out, err := stream.Recv() // each comes back before the next is sent
		if err != nil || string(out.Payload.Body) != text {
			t.Fatalf("%q: %v, %v", text, out, err)
		}
	}
	stream.CloseSend()
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end: %v", err)
	}
	if got := stream.Trailer().Get("left"); !slices.Equal(got, []string{"over"}) {
		t.Errorf("trailer: %q", got)
	}
	<-app.ended

	// Cancellation reaches the application.
	ctx, cancel := context.WithCancel(within(t))
	if stream, err = web.FullDuplexCall(ctx); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-app.ended:
		if status.Code(err) != codes.Canceled {
			t.Errorf("application saw %v", err)
		}
	case <-time.After(soon):
		t.Error("the application never heard of the cancellation")
	}
}

// Each request reads the policy in force (H-11); an open stream keeps its verdict
// unless its port becomes opaque or TLS (section 19.1).
func TestPolicyChangesOnOpenHTTPConnections(t *testing.T) {
	app := &service{ended: make(chan error, 2)}
	w := newWorld(t, grpcApplication(t, app), nil)
	granted, revoked := server(grpcProtocol(), identities(t, "web", webName)), server(grpcProtocol(), identities(t, "web", otherName))
	w.apply(granted)
	web := grpcClient(t, w, client{from: neighbourIP, tls: true, identity: webName})
	stream, err := web.FullDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() error {
		if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload("x")}); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	}
	call := func() codes.Code {
		_, err := web.UnaryCall(within(t), &grpc_testing.SimpleRequest{})
		return status.Code(err)
	}
	if err := exchange(); err != nil || call() != codes.OK {
		t.Fatal(err)
	}
	w.apply(revoked)
	if err := exchange(); err != nil || call() != codes.PermissionDenied {
		t.Errorf("after the revocation: open stream %v, new call not denied", err)
	}
	w.apply(granted)
	if got := call(); got != codes.OK {
		t.Errorf("after the grant: %v", got)
	}
	// Opaque and covered: the connection stays, following requests have no route (L-08).
	w.apply(server(opaque(), identities(t, "web", webName)))
	if err := exchange(); err != nil || call() != codes.NotFound {
		t.Errorf("after opaque: open stream %v, new call not 404", err)
	}
	// Opaque and not covered: cut.
	w.apply(server(opaque(), identities(t, "web", otherName)))
	if err := exchange(); err == nil {
		t.Error("stream survived on an opaque port that does not cover it")
	}
	if got := w.counter("inbound_tcp_authz_terminate_total", nil); got != 1 {
		t.Errorf("terminations: %v", got)
	}
	<-app.ended
}
