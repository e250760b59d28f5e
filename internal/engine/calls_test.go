package engine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

var began = time.Unix(1000, 0)

// seen is what a client saw, from its own address unless it is meshed.
func seen(kind clients.Kind) clients.Outcome {
	return clients.Outcome{Kind: kind, Protocol: "tcp", GRPCStatus: -1, LocalAddr: "10.1.1.1:5000", RequestID: "id", Start: began, End: began.Add(time.Millisecond)}
}

// recorded is a decision of the proxy about the client's connection.
func recorded(verdict string, change ...func(*decision)) []decision {
	d := decision{Seq: 1, Time: began, Client: "10.1.1.1:5000", TargetPort: 9090, Protocol: "opaque", Verdict: verdict, Server: "server/tcp", Authorization: "serverauthorization/a"}
	for _, f := range change {
		f(&d)
	}
	return []decision{d}
}

func TestADenialOnTCPNeedsASecondWitness(t *testing.T) {
	arrivedAtApp := []delivery{{ID: "id", Event: "line"}}
	for _, test := range []struct {
		name       string
		expect     scenarios.Expect
		saw        clients.Kind
		decisions  []decision
		echo       bool
		deliveries []delivery
		by         string
		want       result.Outcome
	}{
		{name: "closed, and the proxy says so", expect: scenarios.Expect{"denied"}, saw: clients.Closed, decisions: recorded("deny"), want: result.Passed},
		{name: "reset, and nothing arrived", expect: scenarios.Expect{"denied"}, saw: clients.Reset, echo: true, want: result.Passed},
		{name: "closed, and nobody knows why", expect: scenarios.Expect{"denied"}, saw: clients.Closed, want: result.Inconclusive},
		{name: "closed, and the record is another connection's", expect: scenarios.Expect{"denied"}, saw: clients.Closed,
			decisions: recorded("deny", func(d *decision) { d.Client = "10.1.1.1:5001" }), want: result.Inconclusive},
		{name: "closed, and the record is another port's", expect: scenarios.Expect{"denied"}, saw: clients.Closed,
			decisions: recorded("deny", func(d *decision) { d.TargetPort = 9091 }), want: result.Inconclusive},
		{name: "closed, and the record is old", expect: scenarios.Expect{"denied"}, saw: clients.Closed,
			decisions: recorded("deny", func(d *decision) { d.Time = began.Add(-time.Minute) }), want: result.Inconclusive},
		{name: "closed, but the proxy allowed it", expect: scenarios.Expect{"denied"}, saw: clients.Closed, decisions: recorded("allow"), want: result.Failed},
		{name: "closed, but the application got it", expect: scenarios.Expect{"denied"}, saw: clients.Closed, decisions: recorded("deny"), echo: true, deliveries: arrivedAtApp, want: result.Failed},
		{name: "timed out", expect: scenarios.Expect{"denied"}, saw: clients.Timeout, decisions: recorded("deny"), want: result.Inconclusive},
		{name: "timed out instead of allowed", expect: scenarios.Expect{"allowed"}, saw: clients.Timeout, want: result.Failed},
		{name: "allowed instead of denied", expect: scenarios.Expect{"denied"}, saw: clients.Allowed, decisions: recorded("allow"), want: result.Failed},
		{name: "403 instead of closed", expect: scenarios.Expect{"denied"}, saw: clients.Forbidden, decisions: recorded("deny"), want: result.Failed},
		{name: "allowed", expect: scenarios.Expect{"allowed"}, saw: clients.Allowed, want: result.Passed},
		{name: "answered, but by whom", expect: scenarios.Expect{"allowed"}, saw: clients.Allowed, echo: true, want: result.Failed},
		{name: "by the authorization", expect: scenarios.Expect{"allowed"}, saw: clients.Allowed, decisions: recorded("allow"), by: "serverauthorization/a", want: result.Passed},
		{name: "by another authorization", expect: scenarios.Expect{"allowed"}, saw: clients.Allowed, decisions: recorded("allow"), by: "serverauthorization/b", want: result.Failed},
		{name: "by an authorization nobody recorded", expect: scenarios.Expect{"allowed"}, saw: clients.Allowed, by: "serverauthorization/b", want: result.Inconclusive},
		{name: "lost as one of several right outcomes", expect: scenarios.Expect{"other", "closed"}, saw: clients.Closed, want: result.Passed},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &callJudge{claim: &scenarios.PlannedClaim{Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.TCP}, Expect: test.expect, By: test.by}},
				from: client{clientPod: &clientPod{address: netip.MustParseAddr("10.1.1.1")}}, target: scenarios.Target{Port: 9090}}
			logs := []*witnessLog{{meshed: true, echo: test.echo, decisions: decisions{Decisions: test.decisions}, deliveries: deliveries{Deliveries: test.deliveries}}}
			if got := unruled(j, seen(test.saw), logs); got.outcome != test.want {
				t.Errorf("got %s (%s), want %s", got.outcome, got.reason, test.want)
			}
		})
	}
}

func TestAMeshedClientIsFoundByItsPodsAddressAndProtocol(t *testing.T) {
	j := &callJudge{claim: &scenarios.PlannedClaim{Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.HTTP1, Path: "/b"}}},
		from: client{clientPod: &clientPod{meshed: true, address: netip.MustParseAddr("10.1.1.1")}}, target: scenarios.Target{Port: 8080}}
	log := &witnessLog{meshed: true, decisions: decisions{Decisions: []decision{
		{Seq: 1, Time: began, Client: "10.1.1.1:41000", TargetPort: 8080, Protocol: "grpc", Verdict: "deny"},
		{Seq: 2, Time: began, Client: "10.1.1.1:41001", TargetPort: 8080, Protocol: "http2", Verdict: "deny", Path: "/a"},
		{Seq: 3, Time: began, Client: "10.1.1.1:41001", TargetPort: 8080, Protocol: "http2", Verdict: "deny", Path: "/b"},
		{Seq: 4, Time: began, Client: "10.1.1.2:41001", TargetPort: 8080, Protocol: "http2", Verdict: "deny", Path: "/b"},
	}}}
	outcome := seen(clients.Forbidden)
	outcome.LocalAddr = "127.0.0.1:9999"
	record, _, known := j.record(outcome, []*witnessLog{log})
	if !known || record == nil || record.Seq != 3 {
		t.Errorf("got %v, %v, want decision 3", record, known)
	}
}

func TestAStatusIsPartOfTheExpectation(t *testing.T) {
	status := 500
	j := &callJudge{claim: &scenarios.PlannedClaim{Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.HTTP1}, Expect: scenarios.Expect{"allowed"}, Status: &status}},
		from: client{clientPod: &clientPod{}}}
	for http, want := range map[int]result.Outcome{500: result.Passed, 200: result.Failed} {
		outcome := seen(clients.Allowed)
		outcome.Protocol, outcome.HTTPStatus = "http1", http
		if got := unruled(j, outcome, nil); got.outcome != want {
			t.Errorf("status %d: got %s, want %s", http, got.outcome, want)
		}
	}
}

func TestAnUnidentifiedClientMustNotLearnWhyItIsDenied(t *testing.T) {
	for _, test := range []struct {
		meshed bool
		change func(*clients.Outcome)
		want   result.Outcome
	}{
		{false, func(o *clients.Outcome) {}, result.Passed},
		{false, func(o *clients.Outcome) { o.Message = "unauthorized request on route" }, result.Failed},
		{false, func(o *clients.Outcome) { o.ProxyError = "unauthorized request on route" }, result.Failed},
		{true, func(o *clients.Outcome) { o.Message = "unauthorized request on route" }, result.Passed},
	} {
		j := &callJudge{claim: &scenarios.PlannedClaim{Call: &scenarios.Call{Request: scenarios.Request{Protocol: scenarios.GRPC}, Expect: scenarios.Expect{"denied"}}},
			from: client{Client: scenarios.Client{Kind: map[bool]scenarios.ClientKind{true: scenarios.Meshed, false: scenarios.Unmeshed}[test.meshed]}, clientPod: &clientPod{meshed: test.meshed}}}
		outcome := seen(clients.PermissionDenied)
		test.change(&outcome)
		if got := unruled(j, outcome, nil); got.outcome != test.want {
			t.Errorf("meshed %v, %q, %q: got %s (%s), want %s", test.meshed, outcome.Message, outcome.ProxyError, got.outcome, got.reason, test.want)
		}
	}
}

// unruled decides a call without asking the rules.
func unruled(j *callJudge, outcome clients.Outcome, logs []*witnessLog) verdict {
	j.claim.Claim, j.outcomes = &scenarios.Claim{NoOracle: "this is about witnesses"}, []clients.Outcome{outcome}
	return j.decide(logs)
}
