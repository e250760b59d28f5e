package paper

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/probed"
)

// claim puts what can be computed to the oracle.
func (p *Play) claim(c scenarios.Claim) {
	switch {
	case c.Skip != "":
		p.LeftOut[skippedItself]++
	case !p.Dialect.For(c.Dialects):
		p.LeftOut[aboutDialects]++
	case c.NoOracle != "":
		p.LeftOut[notAsked]++
	case c.Call != nil:
		p.call(c, c.Call)
	case c.Matrix != nil:
		for _, call := range c.Matrix.Calls() {
			p.call(c, call)
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
		p.LeftOut[aboutTraffic]++
	case c.Rate != nil:
		p.rate(c)
	case c.Authz != nil, c.Metric != nil, c.Log != nil:
		p.LeftOut[aboutCounting]++
	case c.Command != nil:
		p.LeftOut[aboutCommands]++
	case c.Certify != nil, c.Event != nil, c.Healthy != nil, c.Pods != nil, c.Status != nil:
		p.LeftOut[aboutCluster]++
	default:
		failf("%s: the claim is of a kind that is not known here", c.Name)
	}
}

// holds: a connection of TCP that was let in stays open exactly as long as its
// client would be let in (L-09), one of HTTP stays open and has its next request
// decided (H-11).
func (p *Play) holds(c scenarios.Claim) {
	r, there := p.held[c.Held.Connection]
	if !there {
		failf("%s: no connection is called %s", c.Name, c.Held.Connection)
	}
	if r.Protocol == scenarios.GRPCStream || r.Protocol.Repeats() && len(c.Held.Next) == 0 {
		p.LeftOut[aboutGoingOn]++
		return
	}
	port, pod := p.target(r.Target, r.Protocol)
	verdict := p.oracle().Judge(pod, port, p.caller(r), p.request(r))
	p.Asked["held"]++
	if r.Protocol.Repeats() {
		fits := func(kind clients.Kind) bool {
			return asked.CanBe(kind, verdict, p.caller(r), p.request(r).Protocol)
		}
		if !slices.ContainsFunc(c.Held.Next.Kinds(r.Protocol), fits) {
			p.Differs(c, fmt.Sprintf("the next request is said to be %s, and the oracle says %s\n%s", c.Held.Next, verdict.Outcome, chain(verdict)))
		}
		return
	}
	if verdict.Allowed() != (c.Held.State == scenarios.Open) {
		p.Differs(c, fmt.Sprintf("it is said to be %s, and the oracle says %s\n%s", c.Held.State, verdict.Outcome, chain(verdict)))
	}
}

// probe: what the kubelet asks comes from the node, without a mesh.
func (p *Play) probe(c scenarios.Claim) {
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
		p.Asked["probe"]++
		if verdict.Allowed() != (c.Probe.Answered > 0) {
			p.Differs(c, fmt.Sprintf("the oracle says %s of a %s probe\n%s", verdict.Outcome, kind.kind, chain(verdict)))
		}
	}
	if !asked {
		p.LeftOut[aboutOthers]++
	}
}

// admission: what a cluster refuses, reading a manifest refuses too.
func (p *Play) admission(c scenarios.Claim) {
	version, _ := c.Admission.Object.Content["apiVersion"].(string)
	if group, _, _ := strings.Cut(version, "/"); group != api.Group && group != api.GatewayGroup {
		p.LeftOut[aboutCluster]++
		return
	}
	text, err := json.Marshal(c.Admission.Object.Content)
	if err != nil {
		failf("%w", err)
	}
	_, err = objects.Read([]objects.Source{{Name: c.Name, Stream: strings.NewReader(p.named(string(text)))}}, objects.Options{Namespace: p.real(""), WebhookAway: p.passedOver(p.real(""))})
	p.Asked["admission"]++
	if (err != nil) != (c.Admission.Expect == scenarios.AdmissionRefused) {
		p.Differs(c, fmt.Sprintf("it is said to be %s: %v", c.Admission.Expect, err))
	}
}

func (p *Play) policy(c scenarios.Claim) {
	target, pod := p.target(c.Policy.Target, "")
	found := p.oracle().Resolve(pod, target)
	p.Asked["policy"]++
	if c.Policy.Enforced != nil && *c.Policy.Enforced == found.Unpoliced {
		p.Differs(c, fmt.Sprintf("enforced is said to be %v", *c.Policy.Enforced))
	}
	if want := c.Policy.Server; want != "" && found.Server.String() != want {
		p.Differs(c, fmt.Sprintf("the server is said to be %s, and the oracle says %s", want, found.Server))
	}
}

// chain is a verdict's reasons, a line each.
func chain(v oracle.Verdict) string {
	var lines strings.Builder
	for _, s := range v.Steps {
		fmt.Fprintf(&lines, "%v %s %s %s\n", s.Holds, s.Topic, s.Rule, s.Text)
	}
	return lines.String()
}

func (p *Play) target(text string, protocol scenarios.Protocol) (uint16, *corev1.Pod) {
	target, err := p.Scenario.Target(text, protocol)
	if err != nil {
		failf("%w", err)
	}
	pod := p.pods[target.Component]
	if pod == nil {
		failf("%s is called and was not deployed", text)
	}
	return uint16(target.Port), pod
}

func (p *Play) call(c scenarios.Claim, call *scenarios.Call) {
	port, pod := p.target(call.Target, call.Protocol)
	client, request := p.caller(call.Request), p.request(call.Request)
	verdict := p.oracle().Judge(pod, port, client, request)
	p.Asked["call"]++
	if p.Saw != nil {
		p.Saw(c, verdict)
	}
	if len(call.Expect) == 0 {
		return // the rules decide
	}
	what := fmt.Sprintf("%s to %s by %s", call.Client, call.Target, call.Protocol)
	fits := func(kind clients.Kind) bool { return asked.CanBe(kind, verdict, client, request.Protocol) }
	if !slices.ContainsFunc(call.Expect.Kinds(call.Protocol), fits) {
		p.Differs(c, fmt.Sprintf("%s: %s is expected, and the oracle says %s\n%s", what, call.Expect, verdict.Outcome, chain(verdict)))
	}
	by := func(label oracle.Label) bool { return label.String() == call.By }
	if call.By != "" && !by(verdict.Authorization) && (p.reads().NamedCreditedFirst || !slices.ContainsFunc(verdict.Fitting, by)) {
		p.Differs(c, fmt.Sprintf("%s: by %s is expected, and the oracle says %s", what, call.By, verdict.Authorization))
	}
	if call.Status != nil && verdict.Status != 0 && call.Protocol != scenarios.GRPC && *call.Status != verdict.Status {
		p.Differs(c, fmt.Sprintf("%s: status %d is expected, and the oracle says %d", what, *call.Status, verdict.Status))
	}
}

func (p *Play) client(name string) oracle.Client {
	at := slices.IndexFunc(p.Scenario.Spec.Clients, func(c scenarios.Client) bool { return c.Name == name })
	if at < 0 {
		failf("no client is called %s", name)
	}
	c := p.Scenario.Spec.Clients[at]
	address := insideAddress
	if c.Network == scenarios.Outside {
		address = outsideAddress
	}
	namespace := p.real(c.Namespace)
	if c.Shared {
		namespace = paperClients
	}
	account := cmp.Or(c.ServiceAccount, "default")
	identity := fmt.Sprintf("%s.%s.serviceaccount.identity.linkerd.cluster.local", account, namespace)
	if c.Kind == scenarios.SPIFFE {
		identity = cmp.Or(p.named(c.Identity), fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", namespace, account))
	}
	out, err := asked.Client(c, address, identity)
	if err != nil {
		failf("%w", err)
	}
	return out
}

// caller is the client of a request, from where it calls.
func (p *Play) caller(r scenarios.Request) oracle.Client {
	c := p.client(r.Client)
	c.Address = asked.From(&r, c.Address)
	return c
}

func (p *Play) request(r scenarios.Request) oracle.Request {
	out, err := asked.Request(&r, "10.244.0.9:80")
	if err != nil {
		failf("%w", err)
	}
	return out
}
