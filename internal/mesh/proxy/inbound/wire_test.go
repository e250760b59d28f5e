package inbound

import (
	"context"
	"maps"
	"slices"
	"testing"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy/policytest"
)

// W-05, W-06 to W-24, N-09, over the wire: a controller sends every form of
// message, one after the other on one stream. What is valid is in force; of what
// is not, dialect documented keeps the policy before it, and dialect linkerd makes
// one that denies everything.
func TestEveryShapeOfAMessageIsTakenOffTheWire(t *testing.T) {
	for name, dialect := range map[string]policy.Dialect{"documented": {}, "linkerd": policy.Linkerd} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, application(t, nil), func(c *Config) {
				c.Dialect, c.Default = dialect, func(uint16) *policy.Port { return nil }
			})
			port := w.app.Port()
			shapes := policytest.Shapes()
			for _, shape := range slices.Sorted(maps.Keys(shapes)) {
				row := shapes[shape]
				before := server(opaque(), anyone(t, "before"))
				w.apply(before)
				invalid := w.counter("inbound_policy_invalid_total", nil)
				msg := proto.CloneOf(row.Message)
				if msg.Labels == nil {
					msg.Labels = map[string]string{}
				}
				msg.Labels["shape"] = shape // so that no two messages are the same
				valid := row.Documented
				if dialect == policy.Linkerd {
					valid = row.Linkerd
				}
				if valid || dialect == policy.Linkerd {
					w.apply(msg)
				} else {
					w.policies.Set(port, msg)
				}
				eventually(t, shape+" is counted as invalid or not", func() bool {
					return (w.counter("inbound_policy_invalid_total", nil) == invalid) == valid
				})
				c, err := w.server.store.acquire(port)
				if err != nil {
					t.Fatal(err)
				}
				view, snap := c.view()
				w.server.store.release(c)
				want := hashOf(t, msg)
				if !valid && dialect != policy.Linkerd {
					want = hashOf(t, before)
				}
				if view.Hash != want {
					t.Errorf("%s: in force is %+v", shape, view)
				}
				if denies := snap.port.Server.Name == "invalid"; denies != (!valid && dialect == policy.Linkerd) {
					t.Errorf("%s: the Server is called %s", shape, snap.port.Server.Name)
				}
			}
		})
	}
}

// W-02: the question names the workload as the proxy was told, and the port.
func TestTheQuestionNamesWorkloadAndPort(t *testing.T) {
	const workload = `{"ns":"apps","pod":"app-0"}`
	asked := make(chan *pb.PortSpec, 8)
	w := newWorld(t, application(t, nil), func(c *Config) {
		c.Workload = workload
		c.Policies = &listening{InboundServerPoliciesClient: c.Policies, asked: asked}
	})
	w.apply(server(opaque(), anyone(t, "all")))
	seen := map[uint32]bool{}
	for range 2 { // the admin port's, from start, and the application's
		spec := <-asked
		seen[spec.Port] = true
		if spec.Workload != workload {
			t.Errorf("asked for workload %s", spec.Workload)
		}
	}
	if !seen[uint32(w.app.Port())] || !seen[uint32(w.server.cfg.AdminPort)] {
		t.Errorf("asked for ports %v", seen)
	}
}

// listening is a client of the controller that tells what is asked.
type listening struct {
	pb.InboundServerPoliciesClient
	asked chan *pb.PortSpec
}

func (l *listening) WatchPort(ctx context.Context, spec *pb.PortSpec, options ...grpc.CallOption) (grpc.ServerStreamingClient[pb.Server], error) {
	l.asked <- spec
	return l.InboundServerPoliciesClient.WatchPort(ctx, spec, options...)
}
