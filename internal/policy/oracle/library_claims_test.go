package oracle_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/probed"
)

// claim puts what can be computed to the oracle.
func (p *paper) claim(c scenarios.Claim) {
	switch {
	case c.Skip != "":
		p.leftOut[skippedItself]++
	case c.Call != nil:
		p.call(c.Name, c.Call.Request, c.Call.Expect, c.Call.By)
	case c.Matrix != nil:
		for _, row := range c.Matrix.Rows {
			protocols := c.Matrix.Protocols
			if row.Protocols != nil {
				protocols = row.Protocols
			}
			for _, cell := range row.Expect {
				for _, protocol := range protocols {
					p.call(c.Name, scenarios.Request{Client: cell.Client, Target: row.Target, Protocol: protocol, Path: c.Matrix.Path, Method: c.Matrix.Method}, cell.Expect, "")
				}
			}
		}
	case c.Policy != nil:
		p.policy(c)
	case c.Held != nil:
		p.holds(c)
	case c.Probe != nil:
		p.probe(c)
	case c.Admission != nil:
		p.admission(c)
	case c.Traffic != nil:
		p.leftOut[aboutTraffic]++
	case c.Authz != nil, c.Metric != nil, c.Log != nil:
		p.leftOut[aboutCounting]++
	case c.Command != nil:
		p.leftOut[aboutCommands]++
	case c.Event != nil, c.Healthy != nil, c.Pods != nil, c.Status != nil:
		p.leftOut[aboutCluster]++
	default:
		p.t.Errorf("%s: the claim is of a kind that is not known here", c.Name)
	}
}

// holds: a connection that was let in stays open exactly as long as its client
// would be let in (L-09).
func (p *paper) holds(c scenarios.Claim) {
	r, there := p.held[c.Held.Connection]
	if !there {
		p.t.Fatalf("%s: no connection is called %s", c.Name, c.Held.Connection)
	}
	port, pod := p.target(r.Target, r.Protocol)
	verdict := p.oracle().Judge(pod, port, p.client(r.Client), p.request(r))
	p.asked["held"]++
	if verdict.Allowed() != (c.Held.State == scenarios.Open) {
		p.t.Errorf("%s: it is said to be %s, and the oracle says %s\n%s", c.Name, c.Held.State, verdict.Outcome, chain(verdict))
	}
}

// probe: what the kubelet asks comes from the node, without a mesh.
func (p *paper) probe(c scenarios.Claim) {
	w := p.workload(c.Probe.Workload)
	pod := p.pods[w.Name]
	asked := false
	for _, kind := range []struct {
		kind scenarios.ProbeKind
		port string
	}{{w.Readiness, "ready"}, {w.Liveness, "live"}} {
		var request oracle.Request
		switch kind.kind {
		case scenarios.ProbeHTTP:
			request = oracle.Request{Protocol: oracle.HTTP1, Path: probed.Path}
		case scenarios.ProbeGRPC:
			request = oracle.Request{Protocol: oracle.GRPC, Path: "/grpc.health.v1.Health/Check"}
		default:
			continue
		}
		if c.Probe.Answered == 0 && c.Probe.Denied == 0 {
			continue
		}
		port, _ := p.target(fmt.Sprintf("%s:%s-%s", w.Name, kind.kind, kind.port), "")
		verdict := p.oracle().Judge(pod, port, oracle.Client{Way: oracle.Plain, Address: insideAddress}, request)
		asked = true
		p.asked["probe"]++
		if verdict.Allowed() != (c.Probe.Answered > 0) {
			p.t.Errorf("%s: the oracle says %s of a %s probe\n%s", c.Name, verdict.Outcome, kind.kind, chain(verdict))
		}
	}
	if !asked {
		p.leftOut[aboutOthers]++
	}
}

// admission: what a cluster refuses, reading a manifest refuses too.
func (p *paper) admission(c scenarios.Claim) {
	version, _ := c.Admission.Object.Content["apiVersion"].(string)
	if group, _, _ := strings.Cut(version, "/"); group != api.Group && group != api.GatewayGroup {
		p.leftOut[aboutCluster]++
		return
	}
	text, err := json.Marshal(c.Admission.Object.Content)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = objects.Read([]objects.Source{{Name: c.Name, Stream: strings.NewReader(p.named(string(text)))}}, objects.Options{Namespace: p.real("")})
	p.asked["admission"]++
	if (err != nil) != (c.Admission.Expect == scenarios.AdmissionRefused) {
		p.t.Errorf("%s: it is said to be %s: %v", c.Name, c.Admission.Expect, err)
	}
}

func (p *paper) policy(c scenarios.Claim) {
	target, pod := p.target(c.Policy.Target, "")
	found := p.oracle().Resolve(pod, target)
	p.asked["policy"]++
	if c.Policy.Enforced != nil && *c.Policy.Enforced == found.Unpoliced {
		p.t.Errorf("%s: enforced is said to be %v", c.Name, *c.Policy.Enforced)
	}
	if want := c.Policy.Server; want != "" && found.Server.String() != want {
		p.t.Errorf("%s: the server is said to be %s, and the oracle says %s", c.Name, want, found.Server)
	}
}

func (p *paper) target(text string, protocol scenarios.Protocol) (uint16, *corev1.Pod) {
	target, err := p.scenario.Target(text, protocol)
	if err != nil {
		p.t.Fatal(err)
	}
	pod := p.pods[target.Component]
	if pod == nil {
		p.t.Fatalf("%s is called and was not deployed", text)
	}
	return uint16(target.Port), pod
}

// seenAs are the outcomes that a client may see when the oracle says so.
var seenAs = map[oracle.Outcome][]clients.Kind{
	oracle.Delivered: {clients.Allowed}, oracle.Unpoliced: {clients.Allowed}, oracle.Redirected: {clients.Redirected},
	oracle.Forbidden: {clients.Forbidden}, oracle.PermissionDenied: {clients.PermissionDenied},
	oracle.NotFound: {clients.NotFound}, oracle.GRPCNotFound: {clients.NotFound},
	oracle.Closed: {clients.Closed, clients.Reset, clients.Refused}, oracle.HandshakeFailed: {clients.TLSFailure},
	oracle.ProtocolError: {clients.ProtocolError, clients.Closed, clients.Reset}, oracle.BadRequest: {clients.BadRequest},
}

func TestEveryOutcomeIsSeenAsSomething(t *testing.T) {
	for _, outcome := range oracle.Outcomes() {
		if len(seenAs[outcome]) == 0 {
			t.Errorf("%s is seen as nothing", outcome)
		}
	}
}

func (p *paper) call(claim string, r scenarios.Request, expect scenarios.Expect, by string) {
	port, pod := p.target(r.Target, r.Protocol)
	verdict := p.oracle().Judge(pod, port, p.client(r.Client), p.request(r))
	p.asked["call"]++
	what := fmt.Sprintf("%s: %s to %s by %s", claim, r.Client, r.Target, r.Protocol)
	kinds := expect.Kinds(r.Protocol)
	if !slices.ContainsFunc(seenAs[verdict.Outcome], func(k clients.Kind) bool { return slices.Contains(kinds, k) }) {
		p.t.Errorf("%s: %s is expected, and the oracle says %s\n%s", what, expect, verdict.Outcome, chain(verdict))
	}
	if by != "" && verdict.Authorization.String() != by {
		p.t.Errorf("%s: by %s is expected, and the oracle says %s", what, by, verdict.Authorization)
	}
}

func (p *paper) client(name string) oracle.Client {
	at := slices.IndexFunc(p.scenario.Spec.Clients, func(c scenarios.Client) bool { return c.Name == name })
	if at < 0 {
		p.t.Fatalf("no client is called %s", name)
	}
	c := p.scenario.Spec.Clients[at]
	out := oracle.Client{Address: insideAddress, Way: map[scenarios.ClientKind]oracle.Way{
		scenarios.Meshed: oracle.Meshed, scenarios.Unmeshed: oracle.Plain, scenarios.TLSNoIdentity: oracle.TLSNoIdentity, scenarios.ForeignRoot: oracle.ForeignRoot,
	}[c.Kind]}
	if out.Way == "" {
		p.t.Fatalf("client %s is of kind %s, which is none of the oracle's", name, c.Kind)
	}
	if c.Network == scenarios.Outside {
		out.Address = outsideAddress
	}
	if c.Kind == scenarios.Meshed {
		namespace := p.real(c.Namespace)
		if c.Shared {
			namespace = paperClients
		}
		out.Identity = fmt.Sprintf("%s.%s.serviceaccount.identity.linkerd.cluster.local", cmp.Or(c.ServiceAccount, "default"), namespace)
	}
	return out
}

func (p *paper) request(r scenarios.Request) oracle.Request {
	out := oracle.Request{Method: r.Method, Path: r.Path, Headers: r.Headers, Protocol: map[scenarios.Protocol]oracle.Protocol{
		scenarios.HTTP1: oracle.HTTP1, scenarios.HTTP2: oracle.HTTP2, scenarios.GRPC: oracle.GRPC, scenarios.TCP: oracle.TCP,
		scenarios.TCPServerFirst: oracle.Silent, scenarios.TCPSilent: oracle.Silent,
	}[r.Protocol]}
	if out.Protocol == "" {
		p.t.Fatalf("protocol %s is none of the oracle's", r.Protocol)
	}
	return out
}
