package engine

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// ruling is what the rules say of one call.
type ruling struct {
	question *history.Question
	verdict  oracle.Verdict
}

// decide compares every outcome with the expectation, with what the rules say,
// and with the records.
func (j *callJudge) decide(logs []*witnessLog) verdict {
	var v verdict
	for i, outcome := range j.outcomes {
		record, by, recordKnown := j.record(outcome, logs)
		reached, deliveryKnown := arrived(outcome.RequestID, logs)
		var said *ruling
		if j.claim.Claim.NoOracle == "" {
			var err error
			if said, err = j.rule(outcome, record, targetPod(logs, by, reached), reached != nil); err != nil {
				return unsure("the rules could not be asked: %v", err)
			}
			said.question.Observed.Logged = j.logged
			j.rulings = append(j.rulings, said)
		}
		// The proxy's own port is answered by the proxy.
		deliveryKnown = deliveryKnown && j.target.Port != adminPort
		v = j.decideOne(outcome, said, seenBy{record, recordKnown, reached != nil, deliveryKnown})
		v.call, v.samples = &j.outcomes[i], len(j.outcomes)
		if v.outcome != result.Passed {
			v.details = append(v.details, silent(logs)...)
			return v
		}
	}
	return v
}

// silent is why witnesses could not be asked.
func silent(logs []*witnessLog) []string {
	var lines []string
	for _, log := range logs {
		if log.err != nil {
			lines = append(lines, fmt.Sprintf("the records of %s could not be read: %v", log.pod, log.err))
		}
	}
	return lines
}

// targetPod is the pod that a call came to: the one whose proxy has decided about
// it, or whose application has got it, or else any, because all are alike.
func targetPod(logs []*witnessLog, by, reached *witnessLog) *corev1.Pod {
	switch {
	case by != nil:
		return by.running
	case reached != nil:
		return reached.running
	}
	for _, log := range logs {
		if log.running != nil && ready(log.running) {
			return log.running
		}
	}
	if len(logs) > 0 {
		return logs[0].running
	}
	return nil
}

// rule asks the rules about one call, and keeps what was observed.
func (j *callJudge) rule(outcome clients.Outcome, record *decision, pod *corev1.Pod, reached bool) (*ruling, error) {
	if pod == nil {
		return nil, fmt.Errorf("%s has no pods", j.target.Component)
	}
	if j.worldErr != nil {
		return nil, j.worldErr
	}
	q, err := j.s.question(j.claim, &j.claim.Call.Request, j.from, pod, j.target.Port)
	if err != nil {
		return nil, err
	}
	if host, _, err := net.SplitHostPort(outcome.LocalAddr); err == nil && !j.from.proxied() {
		if address, err := netip.ParseAddr(host); err == nil {
			q.Client.Address = address
		}
	}
	q.Form = history.Call
	q.Observed = history.Observed{Kind: outcome.Kind, HTTPStatus: outcome.HTTPStatus, Reached: reached}
	if record != nil {
		q.Observed.Record = &history.Record{Verdict: record.Verdict, Protocol: record.Protocol, Server: record.Server, Route: record.Route, Authorization: record.Authorization}
	}
	return &ruling{q, j.oracle.Judge(pod, q.Port, q.Client, q.Request)}, nil
}

// question is a request as the oracle is asked about it.
func (s *scenarioRun) question(c *scenarios.PlannedClaim, r *scenarios.Request, from client, pod *corev1.Pod, port int) (*history.Question, error) {
	q := &history.Question{Claim: c.ID, Shows: c.Shows, Pod: nameOf(pod).String(), Port: uint16(port)}
	var err error
	if q.Client, err = asked.Client(from.Client, asked.From(r, from.address), from.identity); err != nil {
		return nil, err
	}
	q.Request, err = asked.Request(r, hostPort(pod.Status.PodIP, port))
	q.Request.Headers = s.texts(q.Request.Headers)
	return q, err
}

// seenBy is what the witnesses of one call have.
type seenBy struct {
	record      *decision
	recordKnown bool
	// delivered to the application, if deliveryKnown.
	delivered, deliveryKnown bool
}

// expected is what a call is expected to get: what is written, or else what the
// rules say. contrary says how the two disagree.
func (j *callJudge) expected(said *ruling) (kinds []clients.Kind, text string, denial bool, contrary string) {
	call := j.claim.Call
	if len(call.Expect) == 0 {
		kinds = asked.Kinds(said.verdict, said.question.Client, said.question.Request.Protocol)
		return kinds, join(kinds), !said.verdict.Allowed() && kinds[0].Denial(), ""
	}
	kinds, text, denial = call.Expect.Kinds(call.Protocol), call.Expect.String(), call.Expect.Denial()
	if said == nil {
		return kinds, text, denial, ""
	}
	v, q := said.verdict, said.question
	fits := func(kind clients.Kind) bool { return asked.CanBe(kind, v, q.Client, q.Request.Protocol) }
	by := func(label oracle.Label) bool { return label.String() == call.By }
	switch {
	case !slices.ContainsFunc(kinds, fits):
		contrary = fmt.Sprintf("%s is expected, and by the rules it is %s", text, v.Outcome)
	case call.By != "" && !by(v.Authorization) && (j.oracle.Dialect.NamedCreditedFirst || !slices.ContainsFunc(v.Fitting, by)):
		contrary = fmt.Sprintf("the authorization %s is expected, and by the rules it is %q", call.By, v.Authorization)
	case call.Status != nil && v.Status != 0 && call.Protocol != scenarios.GRPC && *call.Status != v.Status:
		contrary = fmt.Sprintf("status %d is expected, and by the rules it is %d", *call.Status, v.Status)
	}
	return kinds, text, denial, contrary
}

func (j *callJudge) decideOne(outcome clients.Outcome, said *ruling, by seenBy) verdict {
	call := j.claim.Call
	kinds, text, denial, contrary := j.expected(said)
	v := verdict{outcome: result.Passed, observed: saw(outcome), expected: text}
	if call.Status != nil {
		v.expected += fmt.Sprintf(" with status %d", *call.Status)
	}
	if by.record != nil {
		v.details = append(v.details, by.record.String())
	}
	if outcome.Message != "" {
		v.details = append(v.details, "client: "+outcome.Message)
	}
	wrong := func(outcome result.Outcome, format string, args ...any) verdict {
		v.outcome, v.reason = outcome, fmt.Sprintf(format, args...)
		if said != nil {
			v.details = append(v.details, chain(said.verdict)...)
		}
		return v
	}
	if contrary != "" {
		return wrong(result.Failed, "the expectation contradicts the rule book: %s; observed %s", contrary, v.observed)
	}
	switch {
	case !slices.Contains(kinds, outcome.Kind) && outcome.Kind == clients.Timeout && denial:
		return wrong(result.Inconclusive, "expected %s, but the call timed out, which proves nothing", v.expected)
	case !slices.Contains(kinds, outcome.Kind):
		expected := v.expected
		if all := join(kinds); all != text {
			expected += " (" + all + ")"
		}
		return wrong(result.Failed, "expected %s, observed %s", expected, v.observed)
	case call.Status != nil && *call.Status != status(outcome):
		return wrong(result.Failed, "expected %s, observed %s", v.expected, v.observed)
	case by.deliveryKnown && by.delivered && outcome.Kind != clients.Allowed && denial:
		return wrong(result.Failed, "the client was refused (%s), but the application got the request", v.observed)
	case by.deliveryKnown && !by.delivered && outcome.Kind == clients.Allowed && !answeredByProxy(said):
		return wrong(result.Failed, "the client got an answer, but the request never reached the application")
	}
	if problem := compareAnswer(call.Answer, outcome); problem != "" {
		return wrong(result.Failed, "%s", problem)
	}
	if told := whyTold(outcome); told != "" && !j.from.identified() {
		// N-06 holds for every denial, so every one is looked at.
		return wrong(result.Failed, "the proxy tells a client without an identity why it is denied: %q (N-06)", told)
	}
	if said != nil {
		if q := said.question; !by.deliveryKnown && by.record == nil && !asked.Fits(outcome.Kind, said.verdict, q.Client, q.Request.Protocol, false) &&
			asked.Fits(outcome.Kind, said.verdict, q.Client, q.Request.Protocol, true) {
			return wrong(result.Inconclusive, "observed %s, which may be the application's own answer, and neither its log nor a record of its proxy tells", v.observed)
		}
		if differences := history.Differences(said.verdict, said.question, j.oracle.Dialect); len(differences) > 0 {
			return wrong(result.Failed, "%s", strings.Join(differences, "; "))
		}
	}
	if outcome.Kind.Denial() && denial {
		switch {
		case by.record != nil && by.record.Verdict != "allow":
			v.witness = by.record.String()
		case by.record != nil && said != nil && slices.Contains(history.Verdicts(said.verdict, outcome.Kind), by.record.Verdict):
			v.witness = by.record.String() // granted, and refused by the proxy's own port in spite of it
		case by.record != nil:
			return wrong(result.Failed, "the client was refused (%s), but the proxy recorded: %s", v.observed, by.record)
		case by.deliveryKnown:
			v.witness = "the application's log: nothing arrived"
		case !tcp(outcome.Kind):
			// 403 and PermissionDenied say themselves who spoke.
		default:
			return wrong(result.Inconclusive, "observed %s, and no second witness tells a denial from a lost connection", v.observed)
		}
	} else if by.deliveryKnown && by.delivered {
		v.witness = "the application's log: the request arrived"
	}
	if call.By != "" {
		switch {
		case !by.recordKnown || by.record == nil:
			return wrong(result.Inconclusive, "expected the authorization %s, and the proxy has no record of the call", call.By)
		case by.record.Authorization != call.By && (said == nil || j.oracle.Dialect.NamedCreditedFirst):
			return wrong(result.Failed, "expected the authorization %s, the proxy recorded: %s", call.By, by.record)
		}
		v.expected += " by " + call.By
	}
	return v
}

// answeredByProxy says whether an answer that looks like the application's is the
// proxy's own: a redirect whose status was never set (W-21).
func answeredByProxy(said *ruling) bool {
	return said != nil && said.verdict.Outcome == oracle.Redirected
}

// compareAnswer says what is wrong with an answer; an empty text means nothing.
func compareAnswer(want *scenarios.Answer, outcome clients.Outcome) string {
	if want == nil {
		return ""
	}
	whole := func(expression, text string) bool {
		return regexp.MustCompile(`\A(?:` + expression + `)\z`).MatchString(text)
	}
	for _, name := range sorted(want.Headers) {
		value, there := outcome.Header[strings.ToLower(name)]
		if !there {
			return fmt.Sprintf("expected the header %s, and the answer has none", name)
		}
		if !whole(want.Headers[name], value) {
			return fmt.Sprintf("expected the header %s to be %s, observed %q", name, want.Headers[name], value)
		}
	}
	for _, name := range want.Absent {
		if value, there := outcome.Header[strings.ToLower(name)]; there {
			return fmt.Sprintf("expected no header %s, observed %q", name, value)
		}
	}
	if want.Body != nil && !whole(*want.Body, string(outcome.Body)) {
		return fmt.Sprintf("expected the body %s, observed %q", *want.Body, outcome.Body)
	}
	return ""
}

// chain is the rules' reasons as lines for people.
func chain(v oracle.Verdict) []string {
	var lines []string
	for _, step := range v.Steps {
		lines = append(lines, fmt.Sprintf("rules: %s %s %s", step.Rule, map[bool]string{true: "✓", false: "✗"}[step.Holds], step.Text))
	}
	return lines
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
