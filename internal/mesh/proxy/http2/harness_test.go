package http2

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// asked is a Handler made of functions; nil ones have the plainest behaviour.
type asked struct {
	decide func(*Head, *Action)
	failed func(any, error, *Action)
	serve  func(*Stream)

	mu    sync.Mutex
	ended []ending
}

type ending struct {
	token        any
	status, grpc int
	err          error
}

func (h *asked) Decide(head *Head, a *Action) {
	a.Verdict = Forward
	if h.decide != nil {
		h.decide(head, a)
	}
}

func (h *asked) Failed(token any, err error, a *Action) {
	if h.failed != nil {
		h.failed(token, err, a)
		return
	}
	a.Status = 502
	a.Fields = append(a.Fields, Header{"content-length", "0"})
}

func (h *asked) Responded(token any, status, grpc int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = append(h.ended, ending{token, status, grpc, err})
}

func (h *asked) Serve(s *Stream) {
	if h.serve != nil {
		h.serve(s)
	}
}

func (h *asked) endings() []ending {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]ending(nil), h.ended...)
}

// relay serves connections on a loopback address until the test ends, when it
// waits for all of them.
type relay struct {
	addr string
	mu   sync.Mutex
	all  []*Conn
	errs []error
}

func startRelay(t testing.TB, app string, h Handler, limits Limits, bite func(Limit)) *relay {
	t.Helper()
	l := listen(t)
	r := &relay{addr: l.Addr().String()}
	cfg := &Config{Limits: limits, Bite: bite, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", app)
	}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := New(conn, h, cfg)
			r.mu.Lock()
			r.all = append(r.all, c)
			r.mu.Unlock()
			wg.Go(func() {
				err := c.Serve()
				r.mu.Lock()
				defer r.mu.Unlock()
				r.errs = append(r.errs, err)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.all {
			c.Cut()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

func (r *relay) conns() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Conn(nil), r.all...)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startEcho is a gRPC application that has every method: each sends back every
// message it gets.
func startEcho(t testing.TB) string {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		for {
			var m wrapperspb.BytesValue
			if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}), grpc.MaxRecvMsgSize(64<<20))
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func dialGRPC(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// raw is a client or an application made of frames.
type raw struct {
	*http2.Framer
	conn net.Conn
}
