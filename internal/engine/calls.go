package engine

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// callsAtOnce bounds the calls that one client makes at a time: enough to be
// quick, few enough not to queue in a proxy.
const callsAtOnce = 16

// callJudge is a claim about a call on its way to a verdict.
type callJudge struct {
	claim    *scenarios.PlannedClaim
	from     client
	target   scenarios.Target
	requests []clients.Request
	outcomes []clients.Outcome
	verdict  verdict
}

// witnessLog is what was recorded at one target pod while calls were made.
type witnessLog struct {
	pod        types.NamespacedName
	meshed     bool
	echo       bool
	sinceProxy int64
	sinceEcho  int64
	decisions  decisions
	deliveries deliveries
	// clock is that of the pod's node.
	clock clock
	err   error
}

// judgeCalls makes all calls, those of each client together, and holds every
// outcome against what the target's proxy and application recorded.
func (s *scenarioRun) judgeCalls(ctx context.Context, batch []*callJudge) {
	if len(batch) == 0 {
		return
	}
	var ready []*callJudge
	for _, one := range batch {
		call := one.claim.Call
		one.target, _ = s.planned.Target(call.Target, call.Protocol)
		for range max(call.Repeat, 1) {
			request, from, err := s.request(ctx, &call.Request, uuid.NewString())
			if err != nil {
				one.verdict = unsure("the call was not made: %v", err)
				break
			}
			one.from = from
			one.requests = append(one.requests, request)
		}
		if len(one.requests) == max(call.Repeat, 1) {
			ready = append(ready, one)
		}
	}
	logs := s.openLogs(ctx, ready)
	s.makeCalls(ctx, ready)
	s.readLogs(ctx, logs)
	for _, one := range ready {
		if one.verdict.outcome == "" {
			one.verdict = one.decide(logs[one.target.Component])
		}
	}
}

// openLogs notes how far the records at each target have come.
func (s *scenarioRun) openLogs(ctx context.Context, batch []*callJudge) map[string][]*witnessLog {
	logs := map[string][]*witnessLog{}
	for _, one := range batch {
		if _, done := logs[one.target.Component]; done {
			continue
		}
		logs[one.target.Component] = []*witnessLog{}
		for _, pod := range s.componentPods(one.target.Component) {
			logs[one.target.Component] = append(logs[one.target.Component],
				&witnessLog{pod: nameOf(pod), meshed: meshed(pod), echo: one.target.Workload.Kind == scenarios.Echo})
		}
	}
	s.eachLog(logs, func(log *witnessLog) {
		if log.meshed {
			log.clock = readClock(func() (time.Time, error) {
				var page decisions
				page, log.err = s.e.decisionsSince(ctx, log.pod, math.MaxInt64, 0)
				log.sinceProxy = page.Last
				return page.Now, log.err
			})
		}
		if log.echo && log.err == nil {
			var page deliveries
			page, log.err = s.e.deliveriesSince(ctx, log.pod, 1<<62)
			log.sinceEcho = page.Last
		}
	})
	return logs
}

func (s *scenarioRun) readLogs(ctx context.Context, logs map[string][]*witnessLog) {
	s.eachLog(logs, func(log *witnessLog) {
		if log.err != nil {
			return
		}
		if log.meshed {
			log.decisions, log.err = s.e.decisionsSince(ctx, log.pod, log.sinceProxy, 0)
		}
		if log.echo && log.err == nil {
			log.deliveries, log.err = s.e.deliveriesSince(ctx, log.pod, log.sinceEcho)
		}
	})
}

func (s *scenarioRun) eachLog(logs map[string][]*witnessLog, f func(*witnessLog)) {
	var group sync.WaitGroup
	for _, list := range logs {
		for _, log := range list {
			group.Go(func() { f(log) })
		}
	}
	group.Wait()
}

// makeCalls sends each client its calls in one batch.
func (s *scenarioRun) makeCalls(ctx context.Context, batch []*callJudge) {
	byPod := map[types.NamespacedName][]*callJudge{}
	for _, one := range batch {
		byPod[one.from.name] = append(byPod[one.from.name], one)
	}
	ctx, cancel := context.WithTimeout(ctx, agentBudget)
	defer cancel()
	var group sync.WaitGroup
	for _, mine := range byPod {
		group.Go(func() {
			var requests []clients.Request
			for _, one := range mine {
				requests = append(requests, one.requests...)
			}
			outcomes, err := mine[0].from.agent.Calls(ctx, requests, callsAtOnce)
			if err == nil && len(outcomes) != len(requests) {
				err = fmt.Errorf("%d answers to %d requests", len(outcomes), len(requests))
			}
			for _, one := range mine {
				if err != nil {
					one.verdict = unsure("the call was not made: %v", err)
					continue
				}
				one.outcomes, outcomes = outcomes[:len(one.requests)], outcomes[len(one.requests):]
			}
		})
	}
	group.Wait()
}

// decide compares every outcome with the expectation and the records.
func (j *callJudge) decide(logs []*witnessLog) verdict {
	var v verdict
	for i, outcome := range j.outcomes {
		v = j.decideOne(outcome, logs)
		v.call, v.samples = &j.outcomes[i], len(j.outcomes)
		if v.outcome != result.Passed {
			return v
		}
	}
	return v
}

func (j *callJudge) decideOne(outcome clients.Outcome, logs []*witnessLog) verdict {
	call := j.claim.Call
	v := verdict{outcome: result.Passed, observed: saw(outcome), expected: call.Expect.String()}
	if call.Status != nil {
		v.expected += fmt.Sprintf(" with status %d", *call.Status)
	}
	record, recordKnown := j.record(outcome, logs)
	delivered, deliveryKnown := arrived(outcome.RequestID, logs)
	// The proxy's own port is answered by the proxy.
	deliveryKnown = deliveryKnown && j.target.Port != adminPort
	if record != nil {
		v.details = append(v.details, record.String())
	}
	if outcome.Message != "" {
		v.details = append(v.details, "client: "+outcome.Message)
	}
	wrong := func(outcome result.Outcome, format string, args ...any) verdict {
		v.outcome, v.reason = outcome, fmt.Sprintf(format, args...)
		return v
	}
	kinds := call.Expect.Kinds(call.Protocol)
	switch {
	case !slices.Contains(kinds, outcome.Kind) && outcome.Kind == clients.Timeout && call.Expect.Denial():
		return wrong(result.Inconclusive, "expected %s, but the call timed out, which proves nothing", v.expected)
	case !slices.Contains(kinds, outcome.Kind):
		expected := v.expected
		if all := join(kinds); all != call.Expect.String() {
			expected += " (" + all + ")"
		}
		return wrong(result.Failed, "expected %s, observed %s", expected, v.observed)
	case call.Status != nil && *call.Status != status(outcome):
		return wrong(result.Failed, "expected %s, observed %s", v.expected, v.observed)
	case deliveryKnown && delivered && outcome.Kind != clients.Allowed && call.Expect.Denial():
		return wrong(result.Failed, "the client was refused (%s), but the application got the request", v.observed)
	case deliveryKnown && !delivered && outcome.Kind == clients.Allowed:
		return wrong(result.Failed, "the client got an answer, but the request never reached the application")
	}
	if told := whyTold(outcome); told != "" && !j.from.meshed {
		// N-06 holds for every denial, so every one is looked at.
		return wrong(result.Failed, "the proxy tells a client without an identity why it is denied: %q (N-06)", told)
	}
	if outcome.Kind.Denial() && call.Expect.Denial() {
		switch {
		case record != nil && record.Verdict != "allow":
			v.witness = record.String()
		case record != nil:
			return wrong(result.Failed, "the client was refused (%s), but the proxy recorded: %s", v.observed, record)
		case deliveryKnown:
			v.witness = "the application's log: nothing arrived"
		case !tcp(outcome.Kind):
			// 403 and PermissionDenied say themselves who spoke.
		default:
			return wrong(result.Inconclusive, "observed %s, and no second witness tells a denial from a lost connection", v.observed)
		}
	} else if deliveryKnown && delivered {
		v.witness = "the application's log: the request arrived"
	}
	if call.By != "" {
		switch {
		case !recordKnown || record == nil:
			return wrong(result.Inconclusive, "expected the authorization %s, and the proxy has no record of the call", call.By)
		case record.Authorization != call.By:
			return wrong(result.Failed, "expected the authorization %s, the proxy recorded: %s", call.By, record)
		}
		v.expected += " by " + call.By
	}
	return v
}

// whyTold is what a denial gives away.
func whyTold(outcome clients.Outcome) string {
	switch outcome.Kind {
	case clients.Forbidden:
		return outcome.ProxyError
	case clients.PermissionDenied:
		return outcome.ProxyError + outcome.Message
	}
	return ""
}

func tcp(kind clients.Kind) bool {
	return kind == clients.Refused || kind == clients.Reset || kind == clients.Closed
}

// status is the HTTP status of an outcome, or the gRPC status of a gRPC call.
func status(outcome clients.Outcome) int {
	if outcome.Protocol == string(clients.GRPC) || outcome.Protocol == string(clients.GRPCStream) {
		return outcome.GRPCStatus
	}
	return outcome.HTTPStatus
}

// saw describes an outcome.
func saw(outcome clients.Outcome) string {
	switch {
	case outcome.GRPCStatus >= 0:
		return fmt.Sprintf("%s (grpc-status %d)", outcome.Kind, outcome.GRPCStatus)
	case outcome.HTTPStatus > 0:
		return fmt.Sprintf("%s (HTTP %d)", outcome.Kind, outcome.HTTPStatus)
	case outcome.Kind == clients.Allowed:
		return fmt.Sprintf("%s (%d bytes)", outcome.Kind, outcome.Bytes)
	}
	return string(outcome.Kind)
}

func join(kinds []clients.Kind) string {
	var out []string
	for _, kind := range kinds {
		out = append(out, string(kind))
	}
	return strings.Join(out, " or ")
}

// clockSlack is how far a proxy's clock may be off the client's when a record is
// matched to a call, beside what is known of their difference.
const clockSlack = 100 * time.Millisecond

// record finds the proxy's decision about a call: by the connection's address,
// which is the client's own when it has no proxy, and the pod's with any port
// otherwise. Times are compared as this machine's clock shows them. known is
// false when no proxy could be asked.
func (j *callJudge) record(outcome clients.Outcome, logs []*witnessLog) (found *decision, known bool) {
	ip, _, _ := net.SplitHostPort(outcome.LocalAddr)
	if j.from.proxied() {
		ip = j.from.address.String()
	}
	score := 0
	for _, log := range logs {
		if log.err != nil || !log.meshed {
			continue
		}
		known = true
		slack := clockSlack + j.from.clock.slack + log.clock.slack
		from, to := j.from.clock.local(outcome.Start).Add(-slack), j.from.clock.local(outcome.End).Add(slack)
		for i := range log.decisions.Decisions {
			d := &log.decisions.Decisions[i]
			clientIP, _, _ := net.SplitHostPort(d.Client)
			if d.TargetPort != j.target.Port || clientIP != ip {
				continue
			}
			if at := log.clock.local(d.Time); at.Before(from) || at.After(to) {
				continue
			}
			fits := 1
			if d.Client == outcome.LocalAddr {
				fits += 8
			} else if !j.from.proxied() {
				continue // another connection of the same pod
			}
			if sameProtocol(j.claim.Call.Protocol, d.Protocol) {
				fits += 4
			} else if j.from.proxied() {
				continue
			}
			if path := j.claim.Call.Path; path != "" && d.Path == path {
				fits += 2
			}
			if fits > score {
				found, score = d, fits
			}
		}
	}
	return found, known
}

// sameProtocol compares what a client spoke with what a proxy recorded. Meshed
// HTTP/1 travels as HTTP/2 (H-01), and a proxy may record either.
func sameProtocol(spoken scenarios.Protocol, recorded string) bool {
	switch spoken {
	case scenarios.HTTP1, scenarios.HTTP2:
		return recorded == "http1" || recorded == "http2"
	case scenarios.GRPC:
		return recorded == "grpc"
	}
	return recorded == "opaque" || recorded == "tls" || recorded == "tcp"
}

// arrived says whether a request reached the application of any pod; known is
// false when the application keeps no log or it could not be read.
func arrived(id string, logs []*witnessLog) (delivered, known bool) {
	for _, log := range logs {
		if !log.echo || log.err != nil || log.deliveries.Missed > 0 {
			return false, false
		}
		known = true
		for _, d := range log.deliveries.Deliveries {
			if d.ID == id {
				return true, true
			}
		}
	}
	return false, known
}
