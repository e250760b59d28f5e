package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// chat is a gRPC application: unary, streaming both ways, failing, never ending.
var chat = grpc.ServiceDesc{
	ServiceName: "test.Chat", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(wrapperspb.StringValue)
		if err := decode(in); err != nil {
			return nil, err
		}
		if in.Value == "fail" {
			grpc.SetTrailer(ctx, metadata.Pairs("l5d-proxy-error", "told", "detail", "kept"))
			return nil, status.Error(codes.FailedPrecondition, "as asked: 100 %")
		}
		return wrapperspb.String("heard " + in.Value), nil
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				in := new(wrapperspb.StringValue)
				if err := stream.RecvMsg(in); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(wrapperspb.String("heard " + in.Value)); err != nil {
					return err
				}
			}
		}},
		{StreamName: "Wait", ServerStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
			if err := stream.SendHeader(nil); err != nil {
				return err
			}
			<-stream.Context().Done()
			srv.(chan struct{}) <- struct{}{}
			return stream.Context().Err()
		}},
	},
}

func TestGRPCPassesWithStreamsTrailersAndCancellation(t *testing.T) {
	for _, h := range []hint{meshedHTTP2, meshedPlain, meshedOpaque, unmeshed} {
		t.Run(fmt.Sprint(h), func(t *testing.T) {
			w := newWorld(t, nil)
			cancelled := make(chan struct{}, 1)
			server := grpc.NewServer()
			server.RegisterService(&chat, cancelled)
			defer server.Stop()
			p := w.newPod(2, votingID, func(conn net.Conn) {
				ended := make(chan struct{})
				one := &oneConn{conn: &endingConn{Conn: conn, ended: ended}, closed: make(chan struct{})}
				go server.Serve(one)
				<-ended
				one.Close()
			})
			w.destinations.service(p.describe(h))
			client, err := grpc.NewClient("passthrough:///voting-svc:80", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return w.dial(serviceAddr), nil }))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()

			out := new(wrapperspb.StringValue)
			if err := client.Invoke(ctx, "/test.Chat/Say", wrapperspb.String("hello"), out); err != nil || out.Value != "heard hello" {
				t.Fatalf("unary: %q, %v", out.Value, err)
			}

			var trailer metadata.MD
			err = client.Invoke(ctx, "/test.Chat/Say", wrapperspb.String("fail"), out, grpc.Trailer(&trailer))
			if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "as asked: 100 %" {
				t.Errorf("failing: %v", err)
			}
			if h != meshedOpaque && len(trailer["l5d-proxy-error"]) > 0 || len(trailer["detail"]) != 1 {
				t.Errorf("failing: trailer %v", trailer)
			}
			err = client.Invoke(ctx, "/test.Chat/Missing", wrapperspb.String(""), out)
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("trailers only: %v", err)
			}

			stream, err := client.NewStream(ctx, &chat.Streams[0], "/test.Chat/Talk")
			if err != nil {
				t.Fatal(err)
			}
			for i := range 50 {
				word := fmt.Sprint(i)
				if err := stream.SendMsg(wrapperspb.String(word)); err != nil {
					t.Fatal(err)
				}
				if err := stream.RecvMsg(out); err != nil || out.Value != "heard "+word {
					t.Fatalf("stream: %q, %v", out.Value, err)
				}
			}
			stream.CloseSend()
			if err := stream.RecvMsg(out); err != io.EOF {
				t.Errorf("stream ends with %v", err)
			}

			waitCtx, giveUp := context.WithCancel(ctx)
			stream, err = client.NewStream(waitCtx, &chat.Streams[1], "/test.Chat/Wait")
			if err != nil {
				t.Fatal(err)
			}
			stream.SendMsg(wrapperspb.String(""))
			stream.CloseSend()
			if _, err := stream.Header(); err != nil {
				t.Fatal(err)
			}
			giveUp()
			select {
			case <-cancelled:
			case <-ctx.Done():
				t.Error("the application was not told of the cancellation")
			}
		})
	}
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	<-l.closed
	return nil, errors.New("closed")
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// endingConn tells of its end.
type endingConn struct {
	net.Conn
	ended chan struct{}
	once  sync.Once
}

func (c *endingConn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}
