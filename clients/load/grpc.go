package load

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// overGRPC calls with grpc-go, as an application would. Each connection has as
// many callers as it has streams.
func (g *gauge) overGRPC(ctx context.Context) error {
	creds := insecure.NewCredentials()
	if g.plan.TLS != nil {
		config := g.plan.TLS.Clone()
		config.NextProtos = []string{"h2"}
		creds = credentials.NewTLS(config)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if len(g.plan.Header) > 0 {
		ctx = metadata.NewOutgoingContext(ctx, metadata.New(g.plan.Header))
	}
	due := make(chan time.Duration)
	var callers sync.WaitGroup
	for range g.plan.Connections {
		conn, err := grpc.NewClient("passthrough:///"+g.plan.Address, grpc.WithTransportCredentials(creds),
			grpc.WithContextDialer(g.plan.dial), grpc.WithAuthority(g.plan.Authority), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
		if err != nil {
			return err
		}
		defer conn.Close()
		for range g.plan.Streams {
			callers.Go(func() { g.call(ctx, conn, due) })
		}
	}
	if g.plan.Rate > 0 {
		callers.Go(func() {
			g.pace(ctx, func(at time.Duration) {
				select {
				case due <- at:
				case <-ctx.Done():
				}
			})
		})
	}
	err := g.count(ctx)
	cancel()
	callers.Wait()
	return err
}

// call makes calls until ctx ends: at a rate when one is due, otherwise at once.
func (g *gauge) call(ctx context.Context, conn *grpc.ClientConn, due <-chan time.Duration) {
	in, out := &wrapperspb.BytesValue{Value: make([]byte, g.plan.Payload)}, &wrapperspb.BytesValue{}
	for ctx.Err() == nil {
		at := g.now()
		if g.plan.Rate > 0 {
			select {
			case at = <-due:
			case <-ctx.Done():
				return
			}
		}
		err := conn.Invoke(ctx, Method, in, out, grpc.WaitForReady(true))
		switch {
		case err == nil:
			g.answered(at)
		case ctx.Err() == nil:
			g.failed(err)
			if g.errors.Load() > connectErrors {
				return
			}
		}
	}
}
