package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/explain"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// ErrClient is wrapped by the refusal of clients that cannot be made.
var ErrClient = errors.New("no such client can be made on a cluster")

// ErrWorkload is wrapped by the refusal of workloads that do not run.
var ErrWorkload = errors.New("there is no pod that is ready")

// callsAtOnce bounds the calls of one client that are under way.
const callsAtOnce = 8

// Visit is a stay on the cluster, with the clients made up to now. It must be
// closed.
type Visit struct {
	cluster  *Cluster
	standing *engine.Standing
	callers  map[string]*engine.Caller
}

// Visit begins a stay. Of the options those count that engine.OpenStanding names.
func (c *Cluster) Visit(ctx context.Context, options engine.Options) (*Visit, error) {
	standing, err := engine.OpenStanding(ctx, c.config, options)
	if err != nil {
		return nil, err
	}
	return &Visit{cluster: c, standing: standing, callers: map[string]*engine.Caller{}}, nil
}

// Close removes the clients.
func (v *Visit) Close(ctx context.Context) error { return v.standing.Close(ctx) }

// kindOf is the kind of pod that calls as the client does.
func kindOf(c explain.Client) (kind scenarios.ClientKind, namespace, account string, err error) {
	switch {
	case !c.Assumed:
		return "", "", "", fmt.Errorf("client %q: %w: leave out the address, the pods of the cluster have theirs", c.Name, ErrClient)
	case c.Self || strings.HasPrefix(c.Identity, "spiffe://"):
		return "", "", "", fmt.Errorf("client %q: %w: want NAMESPACE/SERVICEACCOUNT, unmeshed or tls-no-identity", c.Name, ErrClient)
	case c.Way == oracle.Plain:
		return scenarios.Unmeshed, "", "", nil
	case c.Way == oracle.TLSNoIdentity:
		return scenarios.TLSNoIdentity, "", "", nil
	}
	namespace, account, _ = strings.Cut(c.Name, "/")
	return scenarios.Meshed, namespace, account, nil
}

// Clients makes the clients, all at once, and gives each the address that it has.
func (v *Visit) Clients(ctx context.Context, asking []explain.Client) error {
	for _, c := range asking {
		if _, _, _, err := kindOf(c); err != nil {
			return err
		}
	}
	callers, errs := make([]*engine.Caller, len(asking)), make([]error, len(asking))
	var making sync.WaitGroup
	for i, c := range asking {
		making.Go(func() {
			kind, namespace, account, _ := kindOf(c) // looked at above
			callers[i], errs[i] = v.standing.Client(ctx, kind, namespace, account)
		})
	}
	making.Wait()
	for i, c := range callers {
		if errs[i] == nil {
			v.callers[asking[i].Name] = c
			asking[i].Address, asking[i].Assumed = c.Address(), false
		}
	}
	return errors.Join(errs...)
}

// spoken are the oracle's protocols in the language of scenarios.
var spoken = map[oracle.Protocol]scenarios.Protocol{
	oracle.HTTP1: scenarios.HTTP1, oracle.HTTP2: scenarios.HTTP2, oracle.GRPC: scenarios.GRPC, oracle.TCP: scenarios.TCP, oracle.Silent: scenarios.TCPSilent,
}

// ask calls, and holds what was seen against the verdict. That the application
// itself answers with an error is no difference.
func (v *Visit) ask(ctx context.Context, workload string, port uint16, client explain.Client, r oracle.Request, verdict oracle.Verdict) (*explain.Observed, error) {
	pod := v.cluster.pods[workload]
	if pod == nil {
		return nil, fmt.Errorf("%s: %w", workload, ErrWorkload)
	}
	outcome, err := v.callers[client.Name].Call(ctx, pod, port, scenarios.Request{Protocol: spoken[r.Protocol], Method: r.Method, Path: r.Path, Host: r.Host, Headers: r.Headers})
	if err != nil {
		return nil, err
	}
	seen := &explain.Observed{Outcome: string(outcome.Kind), Agrees: asked.Fits(outcome.Kind, verdict, client.Client, r.Protocol, verdict.Allowed())}
	switch {
	case r.Protocol == oracle.GRPC && outcome.GRPCStatus >= 0:
		seen.Outcome += fmt.Sprintf(" (grpc-status %d)", outcome.GRPCStatus)
	case outcome.HTTPStatus > 0:
		seen.Outcome += fmt.Sprintf(" (HTTP %d)", outcome.HTTPStatus)
	}
	// A time-out says nothing, and an application that hears nothing it knows ends a
	// connection just as a proxy does that denies it: there is no second witness.
	ended := outcome.Kind == clients.Closed || outcome.Kind == clients.Reset
	if outcome.Kind == clients.Timeout || !r.Protocol.HTTP() && ended {
		seen.Agrees, seen.Unsure = false, true
	}
	return seen, nil
}

// authority is what a client calls that names no host.
func authority(pod *corev1.Pod, port uint16) string {
	if pod == nil {
		return ""
	}
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port)))
}
