package html

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/timeline"
)

// madeLine makes up a scenario of n requests: alice is granted, revoked and
// granted again at two replicas, a fault cuts one of them off, and one of her
// requests is let through after the revocation.
func madeLine(name string, n int) timeline.Timeline {
	dice := rand.New(rand.NewPCG(1, uint64(n)))
	const second = int64(1_000_000)
	line := timeline.Timeline{Scenario: name, Began: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), End: 12 * second, Budget: 5 * second, Slack: 350,
		Texts: []string{"", "allowed (HTTP 200)", "denied (HTTP 403)", "timeout",
			"allow: Server/app-http, ServerAuthorization/alice", "deny: Server/app-http", "9f2c41", "77ab03",
			"the port has Server app-http\nServerAuthorization alice grants it: alice.shop is among its identities", "the port has Server app-http\nno authorization grants it"},
		Streams: []timeline.Stream{
			{Name: "alice", Client: "alice.shop", Class: "meshed", Target: "app:http", Protocol: "http1", Connection: "fresh", Rate: 100, Achieved: 99.8, Sent: int64(n / 2), Missed: 2,
				Windows: []timeline.Window{{Step: "revoke alice", Sent: 210, Informative: 208, Wanted: 20}, {Step: "grant again", Sent: 190, Informative: 187, Wanted: 20}}},
			{Name: "stranger", Client: "stranger", Class: "unmeshed", Target: "app:http", Protocol: "http2", Connection: "reused", Rate: 100, Achieved: 100, Sent: int64(n / 2),
				Windows: []timeline.Window{{Step: "revoke alice", Sent: 200, Informative: 200, Wanted: 20}}},
		},
		Proxies: []timeline.Proxy{{Pod: "shop/app-6d4f7-x2x9p"}, {Pod: "shop/app-6d4f7-q8k4t"}},
		Steps:   []timeline.Step{{Name: "grant alice", From: 0, To: 4 * second}, {Name: "revoke alice", From: 4 * second, To: 8 * second}, {Name: "grant again, controller away", From: 8 * second, To: 12 * second}},
		Writes: []timeline.Write{
			{Step: "grant alice", Group: 1, Verb: "applied", Object: "ServerAuthorization/alice", Call: second, Ack: second + 4000, Observed: second + 16000,
				InForce: []timeline.InForce{{Proxy: 0, Port: 8080, At: second + 31000}, {Proxy: 1, Port: 8080, At: second + 44000}}},
			{Step: "revoke alice", Group: 2, Verb: "deleted", Object: "ServerAuthorization/alice", Call: 5 * second, Ack: 5*second + 5000, Observed: 5*second + 21000,
				InForce: []timeline.InForce{{Proxy: 0, Port: 8080, At: 5*second + 38000}, {Proxy: 1, Port: 8080, At: 5*second + 90000}}},
			{Step: "grant again, controller away", Group: 3, Verb: "applied", Object: "ServerAuthorization/alice", Call: 8*second + 600000, Ack: 8*second + 606000, Observed: 10*second + 30000,
				InForce: []timeline.InForce{{Proxy: 0, Port: 8080, At: 10*second + 60000}, {Proxy: 1, Port: 8080, At: 10*second + 72000}}},
		},
		Faults: []timeline.Fault{{Name: "away", Kind: "controller-killed", From: 8*second + 300000, To: 10 * second}},
		Holds:  []timeline.Hold{{Name: "stream", Client: "alice", Proxy: 0, Opened: second * 2, Closed: 5*second + 52000, LastEcho: 5*second + 30000}},
	}
	for stream := range line.Streams {
		for proxy := range line.Proxies {
			for version := range 4 {
				e := timeline.Expected{Stream: stream, Proxy: proxy, Version: version, Outcome: 2, Why: 9}
				if stream == 0 && version%2 == 1 {
					e.Outcome, e.Why = 1, 8
				}
				line.Expected = append(line.Expected, e)
			}
		}
	}
	r, before, odd := &line.Requests, int64(0), -1
	for i := range n {
		at := line.End * int64(i) / int64(n)
		stream, proxy := i%2, dice.IntN(2)
		took := 700 + int64(dice.ExpFloat64()*600)
		version := 0
		for w, write := range line.Writes {
			if at+took/2 >= write.InForce[proxy].At {
				version = w + 1
			}
		}
		outcome, class, record, policy, delivered := 2, timeline.Denied, 5, 6, 0
		if stream == 0 && version%2 == 1 {
			outcome, class, record, policy, delivered = 1, timeline.Allowed, 4, 7, 1
		}
		if stream == 0 && odd < 0 && at > 6*second+300000 {
			odd = i
			outcome, class, record, policy, delivered = 1, timeline.Allowed, 4, 7, 1
		}
		if dice.IntN(600) == 0 {
			outcome, class, record, took = 3, timeline.Unclear, 0, 200_000
		}
		r.Call, r.Took, r.Stream, r.Proxy = append(r.Call, at-before), append(r.Took, took), append(r.Stream, stream), append(r.Proxy, proxy)
		r.Outcome, r.Class, r.Record, r.Hash = append(r.Outcome, outcome), append(r.Class, class), append(r.Record, record), append(r.Hash, policy)
		r.Delivered, r.ID = append(r.Delivered, delivered), append(r.ID, fmt.Sprintf("%s-%08x", line.Streams[stream].Name, dice.Uint32()))
		before = at
	}
	line.Findings = []timeline.Finding{{Request: odd, Kind: "stale", Harm: "leak", At: 6*second + 300000,
		Text: fmt.Sprintf("request %s was allowed 1.3 s after alice was revoked, at a proxy that had denied her before", r.ID[odd])}}
	line.Logs = madeLogs(&line)
	return line
}

// madeLogs are the lines that the proxies wrote for what they denied, as many as
// a page of many requests holds, and what the controller wrote for each change.
func madeLogs(line *timeline.Timeline) []timeline.Log {
	const most = 5000 // as much as is kept of one log
	logs := []timeline.Log{{Proxy: -1, Pod: "linkerd/linkerd-destination-7c9f4", File: "scenarios/revoke-alice/bundle/linkerd/linkerd-destination-7c9f4/policy.log"}}
	before := make([]int64, len(line.Proxies)+1)
	put := func(log int, at int64, text int) {
		logs[log].At, logs[log].Text = append(logs[log].At, at-before[log]), append(logs[log].Text, text)
		before[log] = at
	}
	text := func(s string) int {
		line.Texts = append(line.Texts, s)
		return len(line.Texts) - 1
	}
	for _, w := range line.Writes {
		put(0, w.Call+3000, text(fmt.Sprintf(`{"level":"INFO","msg":"%s %s was seen"}`, w.Object, w.Verb)))
	}
	for p, proxy := range line.Proxies {
		logs = append(logs, timeline.Log{Proxy: p, Pod: proxy.Pod, File: "scenarios/revoke-alice/bundle/" + proxy.Pod + "/linkerd-proxy.log"})
		denied := text(fmt.Sprintf(`{"level":"INFO","msg":"Request denied","target":"linkerd_app_inbound::policy","server.kind":"server","server.name":"app-http","client.tls":"no_identity","client.ip":"10.244.0.%d"}`, 9+p))
		put(p+1, 40_000, text(`{"level":"INFO","msg":"proxy starts","identity":"app.shop"}`))
		put(p+1, 45_000, -3)
		at, r := int64(0), &line.Requests
		for i := range r.Call {
			at += r.Call[i]
			if r.Proxy[i] == p && r.Class[i] == timeline.Denied && at > 50_000 && len(logs[p+1].At) < most {
				put(p+1, at+r.Took[i]/2, denied)
			}
		}
	}
	return logs
}

// madeRun is a run with such a scenario of n requests, and all parts of the page.
func madeRun(n int) *result.Run {
	claim := func(name string, o result.Outcome, client, target, observed string) result.Claim {
		c := result.Claim{Name: name, Outcome: o, Shows: []string{"A-01"}, Client: client, Target: target, Protocol: "http1", Expected: observed, Observed: observed, Source: result.Source{File: "scenarios/library/transitions/revoke.yaml", Line: 31}}
		if o == result.Failed {
			c.Expected, c.Reason = "denied", "1 of 400 requests was answered as no policy that can have been in force answers: a leak"
			c.Details = []string{"first at 6.300 s, 1.3 s after the write", "the port has Server app-http", "no authorization grants it"}
		}
		return c
	}
	const passed, failed = result.Passed, result.Failed
	run := &result.Run{SchemaVersion: 1, ID: "20261122-120000-7f3a", Outcome: failed, ExitCode: 1, Seed: 8412, Started: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Cluster: result.Cluster{Provider: "embedded", Kubernetes: "v1.36.3"}, Mesh: result.Mesh{Name: "builtin", Version: "dev", Dialect: "documented", DefaultPolicy: "all-unauthenticated"},
		Features: []result.Feature{{Name: "transitions", Profile: "extended"}},
		Figures:  []result.Figure{{Name: "cluster ready", Unit: "s", N: 1, Value: 4.2, Target: 10}},
		Timings:  []result.Timing{{Name: "total", Seconds: 31.2}},
		WallTime: []result.Spent{{On: "cluster", Seconds: 4.2}, {On: "pods", Seconds: 9.1, Work: 11.4}, {On: "in force", Seconds: 1.4, Work: 1.6}, {On: "windows", Seconds: 14.4, Work: 15}, {On: "rest", Seconds: 2.1}},
		Scenarios: []result.Scenario{
			{Name: "revoke-alice", Summary: "A revocation reaches every replica, with the controller away in between", Labels: []string{"transitions", "revocation"}, Outcome: failed, Duration: 12.4,
				Source: result.Source{File: "scenarios/library/transitions/revoke.yaml", Line: 3}, Reason: "1 claim failed",
				WallTime: []result.Spent{{On: "pods", Seconds: 5.1}, {On: "in force", Seconds: 1.2}, {On: "windows", Seconds: 6.1}},
				Steps: []result.Step{
					{Name: "grant alice", Outcome: passed, Duration: 4, Source: result.Source{Line: 22}, Actions: []string{"apply ServerAuthorization/alice"}, Claims: []result.Claim{
						claim("alice after: allowed", passed, "alice", "app:http", "allowed"), claim("stranger after: denied", passed, "stranger", "app:http", "denied")}},
					{Name: "revoke alice", Outcome: failed, Duration: 4, Source: result.Source{Line: 29}, Actions: []string{"delete ServerAuthorization/alice"}, Claims: []result.Claim{
						claim("alice after: denied", failed, "alice", "app:http", "allowed"), claim("stranger after: denied", passed, "stranger", "app:http", "denied")}},
				}},
			{Name: "walk-through", Summary: "The walk through the documents", Labels: []string{"conformance"}, Outcome: passed, Duration: 3.1, Source: result.Source{File: "scenarios/library/walk-through.yaml", Line: 1},
				WallTime: []result.Spent{{On: "pods", Seconds: 2.9}},
				Steps:    []result.Step{{Name: "first", Outcome: passed, Claims: []result.Claim{claim("web may call", passed, "web", "voting", "allowed")}}}},
		}}
	run.Summary = run.Count()
	line := madeLine("revoke-alice", n)
	bad := &run.Scenarios[0].Steps[1].Claims[0]
	bad.Details = append(bad.Details, "stale, leak: "+line.Findings[0].Text)
	run.Evidence = &timeline.Evidence{Timelines: []timeline.Timeline{line}, Coverage: madeCoverage()}
	dice := rand.New(rand.NewPCG(7, 7))
	for _, kind := range []struct {
		name string
		base float64
	}{{"grant added", 14}, {"grant removed", 18}, {"Server created", 22}, {"route added", 35}} {
		for i := range 60 {
			late := int64((kind.base + dice.ExpFloat64()*12) * 1000)
			class := []string{"meshed", "unmeshed"}[i%2]
			run.Evidence.Changes = append(run.Evidence.Changes, timeline.Change{Scenario: "revoke-alice", Kind: kind.name, Class: class, Old: max(late-5000-dice.Int64N(5000), 500), New: late})
		}
	}
	return run
}

func madeCoverage() *timeline.Coverage {
	c := &timeline.Coverage{Transitions: []timeline.Count{{Name: "grant added", N: 60}, {Name: "grant removed", N: 60}, {Name: "Server renamed"}}}
	for _, class := range []string{"meshed", "unmeshed", "tls-no-identity"} {
		for _, protocol := range []string{"http1", "http2", "grpc", "tcp"} {
			c.Columns = append(c.Columns, timeline.Column{Class: class, Protocol: protocol})
		}
	}
	dice := rand.New(rand.NewPCG(3, 3))
	for _, feature := range []string{"servers", "server-authorizations", "authorization-policies", "http-routes", "rate-limits"} {
		for i := range 6 {
			rule := timeline.Rule{ID: fmt.Sprintf("%c-%02d", feature[0]-32, i+1), Text: "What " + feature + " say", Feature: feature, Cells: make([]timeline.Cell, len(c.Columns))}
			for j := range rule.Cells {
				if dice.IntN(3) > 0 {
					rule.Cells[j] = timeline.Cell{Allowed: dice.IntN(200) * (i % 5), Denied: dice.IntN(3) * dice.IntN(60) * (i % 4)}
				}
			}
			c.Rules = append(c.Rules, rule)
		}
	}
	return c
}
