package http2

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const method = "/a.Service/Echo"

func echo(t testing.TB, conn *grpc.ClientConn, payload []byte) {
	t.Helper()
	var got wrapperspb.BytesValue
	if err := conn.Invoke(t.Context(), method, wrapperspb.Bytes(payload), &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Value, payload) {
		t.Fatalf("%d bytes came back, not the %d sent", len(got.Value), len(payload))
	}
}

func TestCallsPassBothWays(t *testing.T) {
	h := &asked{}
	conn := dialGRPC(t, startRelay(t, startEcho(t), h, Limits{}, nil).addr)
	for _, size := range []int{0, 1, 100, 16 << 10, 300 << 10, 5 << 20} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			echo(t, conn, bytes.Repeat([]byte{'x'}, size))
		})
	}
	for _, e := range h.endings() {
		if e.status != 200 || e.grpc != 0 || e.err != nil {
			t.Errorf("a call ended with %+v", e)
		}
	}
	if n := len(h.endings()); n != 6 {
		t.Errorf("%d calls ended, not 6", n)
	}
}

func TestManyCallsAtATimeKeepApart(t *testing.T) {
	h := &asked{}
	conn := dialGRPC(t, startRelay(t, startEcho(t), h, Limits{}, nil).addr)
	var g errgroup.Group
	for worker := range 50 {
		g.Go(func() error {
			for i := range 20 {
				payload := bytes.Repeat(fmt.Appendf(nil, "%d-%d ", worker, i), 1+i*200)
				ctx := metadata.AppendToOutgoingContext(context.Background(), "x-worker", fmt.Sprint(worker), "x-call", fmt.Sprint(i))
				var got wrapperspb.BytesValue
				if err := conn.Invoke(ctx, method, wrapperspb.Bytes(payload), &got); err != nil {
					return err
				}
				if !bytes.Equal(got.Value, payload) {
					return fmt.Errorf("worker %d, call %d: another answer", worker, i)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(h.endings()); n != 1000 {
		t.Errorf("%d calls ended, not 1000", n)
	}
}

func TestADeniedCallIsAnsweredWithoutTheApplication(t *testing.T) {
	h := &asked{decide: func(head *Head, a *Action) {
		if !head.GRPC {
			t.Error("not taken for gRPC")
		}
		deny(a)
	}}
	conn := dialGRPC(t, startRelay(t, "127.0.0.1:1", h, Limits{}, nil).addr)
	for range 3 {
		err := conn.Invoke(t.Context(), method, wrapperspb.Bytes(make([]byte, 100<<10)), &wrapperspb.BytesValue{})
		if status.Code(err) != codes.PermissionDenied {
			t.Fatalf("denied call: %v", err)
		}
	}
	if want, got := (ending{status: 200, grpc: -1}), h.endings(); len(got) != 3 || got[0] != want {
		t.Errorf("the Handler was told of %+v", got)
	}
}

// deny fills what N-02 asks for.
func deny(a *Action) {
	a.Verdict, a.Status = Answer, 200
	a.Fields = append(a.Fields, Header{"content-type", "application/grpc"}, Header{"grpc-status", "7"}, Header{"content-length", "0"})
}
