// Package sink is what a load is made against: it answers as quickly as can be,
// so that next to nothing of what is measured is its own.
//
// It answers HTTP/1 with a fixed body, unary gRPC calls with the message they
// sent, once by frames encoded beforehand and once with grpc-go, and it swallows
// bytes. One port speaks one of them. It is no server for anything else: of a
// request it looks at what is asked for and at where it ends, and it hangs up on
// whoever asks for something else.
package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshproof/meshproof/clients/load"
)

// BodySize is the length of an HTTP/1 answer's body.
const BodySize = 128

const bufferSize = 64 << 10

// Serve answers on the listener until ctx ends, and returns when no connection
// is served any more. Protocol Connect is served as HTTP1.
func Serve(ctx context.Context, l net.Listener, protocol load.Protocol) error {
	if protocol == load.GRPC {
		return serveGRPC(ctx, l)
	}
	serve := map[load.Protocol]func(net.Conn) error{load.HTTP1: answerHTTP1, load.Connect: answerHTTP1, load.Frames: answerFrames, load.Bulk: swallow}[protocol]
	if serve == nil {
		return fmt.Errorf("nothing answers %q", protocol)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		handlers.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			_ = serve(conn) // the client finds out for itself
		})
	}
}

var (
	headEnd  = []byte("\r\n\r\n")
	request  = []byte("GET " + load.Path + " HTTP/1.1\r\n")
	response = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", BodySize, bytes.Repeat([]byte("x"), BodySize))
)

// errEndless ends a connection whose request has no end within the buffer.
var errEndless = errors.New("endless request")

// requests are buffers of connections that are over: a connection for each request
// is a load, too.
var requests = sync.Pool{New: func() any { buffer := make([]byte, 16<<10); return &buffer }}

// answerHTTP1 takes requests without a body.
func answerHTTP1(conn net.Conn) error {
	lent := requests.Get().(*[]byte)
	defer requests.Put(lent)
	buffer, filled := *lent, 0
	var out []byte
	for {
		n, err := conn.Read(buffer[filled:])
		if err != nil {
			return err
		}
		in := buffer[:filled+n]
		out = out[:0]
		for end := bytes.Index(in, headEnd); end >= 0; end = bytes.Index(in, headEnd) {
			if !bytes.HasPrefix(in, request) {
				return errOther
			}
			in = in[end+len(headEnd):]
			out = append(out, response...)
		}
		if filled = copy(buffer, in); filled == len(buffer) {
			return errEndless
		}
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
	}
}

func swallow(conn net.Conn) error {
	buffer := make([]byte, 2*bufferSize)
	for {
		if _, err := conn.Read(buffer); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// serveGRPC answers with the message that came.
func serveGRPC(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "meshproof.bench.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			message := &wrapperspb.BytesValue{}
			return message, decode(message)
		}}},
	}, struct{}{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}
