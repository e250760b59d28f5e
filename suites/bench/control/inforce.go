package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// Watched is what a proxy of InForce watches: workload, and port.
const (
	Workload = watched + ":proxy-0"
	Port     = port
)

// InForce is C11: changes at a steady pace, each until it is in force at a proxy.
// start starts a proxy that asks a controller at the address for the policy of
// Workload, and returns a function that waits until the policy with a hash is in
// force on Port.
func InForce(ctx context.Context, p Program, size Size, start func(ctx context.Context, controller string) (await func(ctx context.Context, hash string) error, stop func(), err error)) (float64, error) {
	r, err := p.start()
	if err != nil {
		return 0, err
	}
	defer r.stop()
	for _, o := range []Order{{Do: "fill", Size: size}, {Do: "watched", Namespace: watched, Pods: 1}} {
		if _, err := r.do(o); err != nil {
			return 0, err
		}
	}
	hashes, err := hashesOf(ctx, r)
	if err != nil {
		return 0, err
	}
	await, stop, err := start(ctx, r.Policy)
	if err != nil {
		return 0, err
	}
	defer stop()
	var took []time.Duration
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for turn := range revisions {
		a, err := r.do(Order{Do: "change", Namespace: watched, Turn: turn})
		if err == nil {
			err = await(ctx, hashes[turn&1])
		}
		if err != nil {
			return 0, fmt.Errorf("change %d: %w", turn, err)
		}
		took = append(took, time.Duration(time.Now().UnixNano()-a.At))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return float64(p99(took)) / float64(time.Millisecond), nil
}

// hashesOf are those of the two policies that changes alternate between. The
// second one is in force afterwards.
func hashesOf(ctx context.Context, r *process) (hashes [2]string, err error) {
	conn, err := grpc.NewClient("passthrough:///"+r.Policy, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return hashes, err
	}
	defer conn.Close()
	client := inboundpb.NewInboundServerPoliciesClient(conn)
	for turn := range hashes {
		if _, err := r.do(Order{Do: "change", Namespace: watched, Turn: turn}); err != nil {
			return hashes, err
		}
		server, err := client.GetPort(ctx, &inboundpb.PortSpec{Workload: Workload, Port: Port})
		if err != nil {
			return hashes, err
		}
		if hashes[turn], err = policy.Hash(server); err != nil {
			return hashes, err
		}
	}
	if hashes[0] == hashes[1] {
		return hashes, errors.New("a change changes nothing")
	}
	return hashes, nil
}
