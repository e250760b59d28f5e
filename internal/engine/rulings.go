package engine

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/workloads/probed"
)

// This file puts claims that are no calls to the rules: whose policy a port has,
// and what becomes of probes.

// ruled completes a verdict with what the rules say. expected are the questions
// with what the claim expects in place of what was observed: where the rules are
// at odds with that, the expectation contradicts them. A claim that has passed has
// observed what it expects, and goes into the history so.
func (s *scenarioRun) ruled(ctx context.Context, c *scenarios.PlannedClaim, base *baseline, v verdict, expected []*history.Question, pods ...*corev1.Pod) verdict {
	if c.Claim.NoOracle != "" || len(expected) == 0 || len(pods) == 0 || v.outcome != result.Passed && v.outcome != result.Failed {
		return v
	}
	recorded, _, err := base.world.of(ctx, s, pods[0])
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	for _, q := range expected {
		differences, err := recorded.Differences(q, oracle.DefaultRules())
		if err != nil {
			return unsure("the rules could not be asked: %v", err)
		}
		if len(differences) > 0 {
			return failing(v, "the expectation contradicts the rule book: %s", strings.Join(differences, "; "))
		}
	}
	if v.outcome == result.Passed {
		if err := s.e.history.Add(recorded, expected...); err != nil {
			return unsure("%v", err)
		}
	}
	return v
}

// servedBy begins what is observed of whose policy a port has.
const servedBy = "policy of "

// rulePolicy asks whose policy a port has.
func (s *scenarioRun) rulePolicy(ctx context.Context, c *scenarios.PlannedClaim, base *baseline, v verdict) verdict {
	claim := c.Claim.Policy
	target, err := s.planned.Target(claim.Target, "")
	if err != nil {
		return unsure("%v", err)
	}
	pods := s.componentPods(target.Component)
	if len(pods) == 0 {
		return v
	}
	server := claim.Server
	if claim.Enforced != nil {
		server, _ = strings.CutPrefix(v.observed, servedBy)
		if !strings.HasPrefix(v.observed, servedBy) {
			server = ""
		}
	}
	q := &history.Question{Claim: c.ID, Shows: c.Shows, Form: history.Policy, Pod: nameOf(pods[0]).String(), Port: uint16(target.Port), Observed: history.Observed{Server: server}}
	return s.ruled(ctx, c, base, v, []*history.Question{q}, pods...)
}

// ruleProbe asks about the requests that the kubelet makes, where the claim says
// whether all of them are let in or that the only one is not.
func (s *scenarioRun) ruleProbe(ctx context.Context, c *scenarios.PlannedClaim, base *baseline, v verdict) verdict {
	claim := c.Claim.Probe
	if (claim.Answered > 0) == (claim.Denied > 0) {
		return v
	}
	w := s.workload(claim.Workload)
	pods := s.componentPods(claim.Workload)
	if w == nil || len(pods) == 0 {
		return v
	}
	var questions []*history.Question
	for port, request := range s.probeRequests(w, pods[0]) {
		q := &history.Question{Claim: c.ID, Shows: c.Shows, Form: history.Probe, Pod: nameOf(pods[0]).String(), Port: port, Request: request}
		address, err := netip.ParseAddr(pods[0].Status.HostIP)
		if err != nil {
			return v // it runs nowhere yet
		}
		q.Client = oracle.Client{Way: oracle.Plain, Address: address}
		q.Observed.Kind = clients.Closed
		if claim.Answered > 0 {
			q.Observed.Kind = clients.Allowed
		}
		questions = append(questions, q)
	}
	if claim.Denied > 0 && len(questions) != 1 {
		return v
	}
	return s.ruled(ctx, c, base, v, questions, pods...)
}

// probeRequests are the requests of a workload's probes that proxies judge, by the
// port that they go to.
func (s *scenarioRun) probeRequests(w *scenarios.Workload, pod *corev1.Pod) map[uint16]oracle.Request {
	out := map[uint16]oracle.Request{}
	for _, one := range []struct {
		kind scenarios.ProbeKind
		port string
	}{{w.Readiness, "ready"}, {w.Liveness, "live"}} {
		target, err := s.planned.Target(fmt.Sprintf("%s:%s-%s", w.Name, one.kind, one.port), "")
		if err != nil {
			continue
		}
		switch one.kind {
		case scenarios.ProbeHTTP:
			out[uint16(target.Port)] = oracle.Request{Protocol: oracle.HTTP1, Path: probed.Path}
		case scenarios.ProbeGRPC:
			out[uint16(target.Port)] = oracle.Request{Protocol: oracle.GRPC, Path: "/grpc.health.v1.Health/Check"}
		}
	}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if container.Name == api.ProxyContainer || !w.Declares() {
			continue
		}
		for _, probe := range []*corev1.Probe{container.ReadinessProbe, container.LivenessProbe, container.StartupProbe} {
			if probe == nil || probe.HTTPGet == nil || probe.InitialDelaySeconds > 0 {
				continue
			}
			if port, known := oracle.ProbePort(probe.HTTPGet.Port, container); known {
				out[port] = oracle.Request{Protocol: oracle.HTTP1, Path: probe.HTTPGet.Path}
			}
		}
	}
	return out
}

// auditRule is the one of which a call's claim wants to know whether it was logged.
const auditRule = "N-14"

// audits says whether any claim of the batch is about what is logged.
func audits(batch []*callJudge) bool {
	return slices.ContainsFunc(batch, func(one *callJudge) bool { return slices.Contains(one.claim.Shows, auditRule) })
}

// lookForAudit finds out of each call whose claim shows N-14 whether the proxy has
// logged that it allowed it for the sake of audit. What should be logged is
// waited for. Of clients that share a pod only those are looked for that a line
// tells from the others.
func (s *scenarioRun) lookForAudit(ctx context.Context, batch []*callJudge, logs map[string][]*witnessLog) {
	until := time.Now().Add(auditBudget)
	texts := s.auditLogs(ctx, batch, logs)
	for _, one := range batch {
		fields, told := auditFields(one)
		pod := targetPod(logs[one.target.Component], nil, nil)
		if !slices.Contains(one.claim.Shows, auditRule) || !told || pod == nil || one.worldErr != nil {
			continue
		}
		q, err := s.question(one.claim, &one.claim.Call.Request, one.from, pod, one.target.Port)
		if err != nil {
			continue // the call's own judge says so
		}
		wanted := one.oracle.Judge(pod, q.Port, q.Client, q.Request).Logged
		found := func() bool {
			return slices.ContainsFunc(texts[one.target.Component], func(text []byte) bool {
				return len(matching(text, "Request allowed", fields))+len(matching(text, "Connection allowed", fields)) > 0
			})
		}
		for wanted && !found() && time.Now().Before(until) && pause(ctx, pollInterval) == nil {
			texts = s.auditLogs(ctx, batch, logs)
		}
		logged := found()
		one.logged = &logged
	}
}

// auditFields are what a line about the client's calls holds; told is false where
// other clients' lines hold the same.
func auditFields(one *callJudge) (fields map[string]*regexp.Regexp, told bool) {
	exactly := func(text string) *regexp.Regexp { return regexp.MustCompile("^" + regexp.QuoteMeta(text) + "$") }
	fields = map[string]*regexp.Regexp{"authz.name": exactly("audit"), "target.addr": regexp.MustCompile(":" + strconv.Itoa(one.target.Port) + "$")}
	switch {
	case one.from.clientPod == nil:
		return nil, false
	case one.from.Kind == scenarios.Unmeshed:
		fields["client.tls"], fields["client.ip"] = exactly("no_identity"), exactly(one.from.address.String())
	case one.from.Kind == scenarios.Meshed:
		fields["client.id"], fields["client.ip"] = exactly(one.from.identity), exactly(one.from.address.String())
	default:
		return nil, false
	}
	return fields, true
}

// auditLogs reads what the proxies have logged since the calls began, where any
// claim is about that.
func (s *scenarioRun) auditLogs(ctx context.Context, batch []*callJudge, logs map[string][]*witnessLog) map[string][][]byte {
	texts := map[string][][]byte{}
	if !audits(batch) {
		return texts
	}
	for component, list := range logs {
		for _, log := range list {
			if !log.meshed || log.err != nil {
				continue
			}
			if text, err := s.e.logged(ctx, logOf{pod: log.pod, container: proxyContainer}); err == nil {
				texts[component] = append(texts[component], text[min(log.logged, len(text)):])
			}
		}
	}
	return texts
}

// auditBudget is for the lines of a batch that were logged to be read.
const auditBudget = 2 * time.Second
