package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/internal/health"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// baseline is what stood at the beginning of a step's claims, so that a claim
// can speak of what happened since.
type baseline struct {
	at       time.Time
	metrics  map[types.NamespacedName][]byte
	table    *authz.Store
	restarts map[types.NamespacedName]int32
	last     map[types.NamespacedName]int64
}

// mark takes the baseline that the claims of a step need, and no more.
func (s *scenarioRun) mark(ctx context.Context, step *scenarios.PlannedStep) *baseline {
	base := &baseline{at: time.Now(), metrics: map[types.NamespacedName][]byte{}, table: authz.NewStore(tableMemory),
		restarts: map[types.NamespacedName]int32{}, last: map[types.NamespacedName]int64{}}
	measured, decided := map[string]bool{}, map[string]bool{}
	for _, claim := range step.Claims {
		switch c := claim.Claim; {
		case c.Metric != nil:
			measured[c.Metric.Workload] = true
		case c.Authz != nil:
			measured[c.Authz.Workload] = true
		case c.Probe != nil:
			decided[c.Probe.Workload] = true
		case c.Held != nil:
			if held := s.held[c.Held.Connection]; held != nil {
				decided[held.target.Component] = true
			}
		}
	}
	for component := range measured {
		for _, pod := range s.componentPods(component) {
			if text, err := s.e.metrics(ctx, nameOf(pod)); err == nil {
				base.metrics[nameOf(pod)] = text
				_ = base.table.Add(nameOf(pod).String(), time.Now(), bytes.NewReader(text))
			}
		}
	}
	for component := range decided {
		for _, pod := range s.componentPods(component) {
			base.restarts[nameOf(pod)] = restarts(pod)
			if last, err := s.e.lastDecision(ctx, nameOf(pod)); err == nil {
				base.last[nameOf(pod)] = last
			}
		}
	}
	return base
}

// tableMemory is how far back the table of a claim looks: over all of its step.
const tableMemory = 10 * time.Minute

// restarts counts those of the application's containers.
func restarts(pod *corev1.Pod) int32 {
	total := int32(0)
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name != proxyContainer {
			total += status.RestartCount
		}
	}
	return total
}

// judgeProbe compares the pods with what their probes should yield.
func (s *scenarioRun) judgeProbe(ctx context.Context, claim *scenarios.Claim, base *baseline) verdict {
	c := claim.Probe
	w := s.workload(c.Workload)
	var v verdict
	var expected []string
	if c.Ready != nil {
		expected = append(expected, fmt.Sprintf("ready=%v", *c.Ready))
	}
	if c.Restarts != "" {
		expected = append(expected, "restarts="+string(c.Restarts))
	}
	if c.Answered > 0 {
		expected = append(expected, fmt.Sprintf("%d or more probes answered", c.Answered))
	}
	if c.Denied > 0 {
		expected = append(expected, fmt.Sprintf("%d or more probes denied", c.Denied))
	}
	v = s.within(ctx, budget(claim.Within, probeBudget), func() verdict {
		pods := s.componentPods(c.Workload)
		if len(pods) < replicasOf(w) {
			return failed("%s has %d of %d pods", c.Workload, len(pods), replicasOf(w))
		}
		for _, pod := range pods {
			if one := s.probeOne(ctx, c, pod, base); one.outcome != result.Passed {
				return one
			}
		}
		last := s.probeOne(ctx, c, pods[0], base)
		return last
	})
	v.expected = strings.Join(expected, ", ")
	if v.outcome != result.Passed {
		for _, pod := range s.componentPods(c.Workload) {
			v.details = append(v.details, why(pod))
			v.details = append(v.details, s.e.kube.events(ctx, pod.Namespace, pod.Name, 3)...)
		}
	}
	return v
}

func (s *scenarioRun) probeOne(ctx context.Context, c *scenarios.ProbeClaim, pod *corev1.Pod, base *baseline) verdict {
	restarted := restarts(pod) - base.restarts[nameOf(pod)]
	v := passed(fmt.Sprintf("ready=%v, %d restarts since the step began", ready(pod), restarted))
	if c.Answered > 0 || c.Denied > 0 {
		answer, err := s.e.decisionsSince(ctx, nameOf(pod), base.last[nameOf(pod)], 0)
		if err != nil {
			return unsure("the proxy's records cannot be read: %v", err)
		}
		allowed, denied := 0, 0
		for _, d := range answer.Decisions {
			switch {
			case d.TargetPort == adminPort || !s.fromNode(d.Client):
			case d.Verdict == "allow":
				allowed++
			default:
				denied++
			}
		}
		v.observed += fmt.Sprintf(", %d probes answered, %d denied", allowed, denied)
		v.witness = "the proxy's decision records"
		v.samples = allowed + denied
		switch {
		case allowed < c.Answered:
			return failing(v, "expected %d or more probes to be answered, observed %s", c.Answered, v.observed)
		case denied < c.Denied:
			return failing(v, "expected %d or more probes to be denied, observed %s", c.Denied, v.observed)
		case c.Denied == 0 && denied > 0:
			return failing(v, "expected no probe to be denied, observed %s", v.observed)
		}
	}
	if c.Ready != nil && ready(pod) != *c.Ready {
		return failing(v, "expected ready=%v, observed %s: %s", *c.Ready, v.observed, why(pod))
	}
	if c.Restarts == scenarios.None && restarted > 0 || c.Restarts == scenarios.Some && restarted <= 0 {
		return failing(v, "expected %s restarts, observed %s", c.Restarts, v.observed)
	}
	return v
}

func failing(v verdict, format string, args ...any) verdict {
	v.outcome, v.reason = result.Failed, fmt.Sprintf(format, args...)
	return v
}

// fromNode says whether a connection comes from no pod: the kubelet's do.
func (s *scenarioRun) fromNode(address string) bool {
	host, _, _ := strings.Cut(address, ":")
	for _, pod := range s.e.pods.list("", nil) {
		if pod.Status.PodIP == host {
			return false
		}
	}
	return true
}

// judgeHeld watches a held connection for as long as its claim needs.
func (s *scenarioRun) judgeHeld(ctx context.Context, c *scenarios.HeldClaim, base *baseline) verdict {
	held := s.held[c.Connection]
	if held == nil {
		return unsure("the connection was never opened")
	}
	wait := holdBudget
	if c.State == scenarios.Cut {
		wait = cutBudget
	}
	before, err := held.client.agent.Connection(ctx, held.name, 0)
	if err != nil {
		return unsure("its state cannot be read: %v", err)
	}
	state, err := held.client.agent.Connection(ctx, held.name, wait)
	if err != nil {
		return unsure("its state cannot be read: %v", err)
	}
	v := verdict{outcome: result.Passed, expected: string(c.State), samples: int(state.EchoesReceived)}
	v.observed = "open, and echoing"
	if !state.Open {
		v.observed = fmt.Sprintf("%s after %d echoes", state.How, state.EchoesReceived)
	}
	ended := s.terminations(ctx, held, state, base)
	switch c.State {
	case scenarios.Open:
		if !state.Open {
			v.details = ended
			return failing(v, "expected the connection to survive, observed %s: %s", v.observed, state.Message)
		}
		if state.EchoesReceived <= before.EchoesReceived {
			return failing(v, "the connection is open, and no echo came back within %s", wait)
		}
	case scenarios.Cut:
		if state.Open {
			return failing(v, "expected the connection to be cut, and it is still open %s after the policy was in force", wait)
		}
		if state.How != clients.Closed && state.How != clients.Reset && state.How != clients.PermissionDenied {
			return failing(v, "expected the connection to be cut by the proxy, observed %s: %s", v.observed, state.Message)
		}
		if len(ended) == 0 {
			v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("observed %s, and the proxy has no record of having terminated it", v.observed)
			return v
		}
		v.witness = ended[0]
	}
	return v
}

// terminations are the proxy's records of having ended the held connection.
func (s *scenarioRun) terminations(ctx context.Context, held *heldRun, state clients.HeldState, base *baseline) []string {
	host, _, _ := strings.Cut(state.LocalAddr, ":")
	if held.client.meshed {
		host = held.client.address.String()
	}
	var out []string
	for _, pod := range s.componentPods(held.target.Component) {
		// The record may precede the claims: the whole of what is kept counts,
		// as far as it is about this client and later than the opening.
		answer, err := s.e.decisionsSince(ctx, nameOf(pod), 0, held.target.Port)
		if err != nil {
			continue
		}
		for _, d := range answer.Decisions {
			ip, _, _ := strings.Cut(d.Client, ":")
			if d.Verdict == "terminate" && ip == host && (held.client.meshed || d.Client == state.LocalAddr) && d.Time.After(state.OpenedAt) {
				out = append(out, d.String())
			}
		}
	}
	return out
}

// judgeTraffic judges the calls of a stream.
func (s *scenarioRun) judgeTraffic(ctx context.Context, c *scenarios.TrafficClaim) verdict {
	stream := s.streams[c.Stream]
	if stream == nil {
		return unsure("the stream was never started")
	}
	from := int64(0)
	if c.From != "" {
		from = s.begins[c.From][c.Stream]
	}
	least := c.AtLeast
	if least == 0 {
		least = 10
	}
	stream.mu.Lock()
	defer stream.mu.Unlock()
	// Calls go on: wait until there are enough, and until those that were under
	// way when the policy came into force have been answered.
	deadline := time.Now().Add(callTimeout)
	for !stream.stopped {
		if err := stream.read(ctx, pollInterval); err != nil {
			return unsure("%v", err)
		}
		if len(after(stream, from)) >= least || time.Now().After(deadline) {
			break
		}
	}
	shape := shapeOf(after(stream, from))
	v := shape.compare(c.Expect, least)
	v.expected = string(c.Expect)
	if stream.missed > 0 {
		v.details = append(v.details, fmt.Sprintf("%d calls were due and could not be made", stream.missed))
	}
	if stream.dropped > 0 && v.outcome == result.Passed {
		return unsure("%d answers were no longer kept", stream.dropped)
	}
	if c.Expect == scenarios.DeniedWindow && v.outcome == result.Passed {
		s.e.figures.add(result.Figure{Name: "window of denials, " + s.res.Name, Unit: "ms", N: shape.denied, Value: milliseconds(shape.width)})
	}
	return v
}

// judgeAuthz compares rows of the table, again and again until they fit.
func (s *scenarioRun) judgeAuthz(ctx context.Context, claim *scenarios.Claim, base *baseline) verdict {
	c := claim.Authz
	var answer authz.Answer
	v := s.within(ctx, budget(claim.Within, probeBudget), func() verdict {
		var names []string
		for _, pod := range s.componentPods(c.Workload) {
			text, err := s.e.metrics(ctx, nameOf(pod))
			if err != nil {
				return unsure("the metrics cannot be read: %v", err)
			}
			if err := base.table.Add(nameOf(pod).String(), time.Now(), bytes.NewReader(text)); err != nil {
				return unsure("%v", err)
			}
			names = append(names, nameOf(pod).String())
		}
		answer = base.table.Table(names, time.Now(), time.Since(base.at)+time.Second)
		var wrong []string
		for _, row := range c.Rows {
			if problem := compareRow(row, answer.Rows); problem != "" {
				wrong = append(wrong, problem)
			}
		}
		if len(wrong) > 0 {
			return failed("%s", strings.Join(wrong, "; "))
		}
		return passed(fmt.Sprintf("%d rows as expected", len(c.Rows)))
	})
	var table bytes.Buffer
	if answer.Write(&table) == nil {
		v.details = strings.Split(strings.TrimSpace(table.String()), "\n")
	}
	v.expected = fmt.Sprintf("%d rows of the table", len(c.Rows))
	return v
}

// compareRow says what is wrong with the row of the table that is meant; an
// empty text means nothing.
func compareRow(want scenarios.AuthzRow, rows []authz.Row) string {
	name := fmt.Sprintf("row %s | %s | %s", want.Route, want.Server, want.Authorization)
	i := slices.IndexFunc(rows, func(r authz.Row) bool {
		return r.Route == want.Route && r.Server == want.Server && r.Authorization == want.Authorization
	})
	idle := i < 0 || rows[i].RPS == 0 && rows[i].Unauthorized == 0
	if want.Absent {
		if !idle {
			return name + " should not be there"
		}
		return ""
	}
	if i < 0 {
		return name + " is not there"
	}
	row := rows[i]
	for _, one := range []struct {
		column string
		want   scenarios.Amount
		have   float64
	}{{"UNAUTHORIZED", want.Unauthorized, row.Unauthorized}, {"RPS", want.RPS, row.RPS}} {
		if one.want == scenarios.None && one.have > 0 || one.want == scenarios.Some && one.have == 0 {
			return fmt.Sprintf("%s: %s is %.2frps, expected %s", name, one.column, one.have, one.want)
		}
	}
	switch {
	case want.Success == scenarios.ShareNone && row.Success > 0,
		want.Success == scenarios.ShareAll && row.Success < 1,
		want.Success == scenarios.SharePartial && (row.Success <= 0 || row.Success >= 1):
		return fmt.Sprintf("%s: SUCCESS is %.2f%%, expected %s", name, row.Success*100, want.Success)
	}
	return ""
}

func (s *scenarioRun) judgeMetric(ctx context.Context, c *scenarios.MetricClaim, base *baseline) verdict {
	total, before := 0.0, 0.0
	pods := s.componentPods(c.Workload)
	for _, pod := range pods {
		text, err := s.e.metrics(ctx, nameOf(pod))
		if err != nil {
			return unsure("the metrics cannot be read: %v", err)
		}
		now, err := counter(text, c.Name, c.Labels)
		if err != nil {
			return unsure("%v", err)
		}
		total += now
		if c.Since != scenarios.SinceStart {
			then, err := counter(base.metrics[nameOf(pod)], c.Name, c.Labels)
			if err != nil {
				return unsure("%v", err)
			}
			before += then
		}
	}
	if len(pods) == 0 {
		return unsure("%s has no pods", c.Workload)
	}
	v := passed(fmt.Sprintf("%s%v grew by %v", c.Name, c.Labels, total-before))
	v.expected = string(c.Is)
	if c.Is == scenarios.None && total > before || c.Is == scenarios.Some && total <= before {
		return failing(v, "expected %s, observed %s", c.Is, v.observed)
	}
	return v
}

// counter sums the series of a counter that have the labels.
func counter(text []byte, name string, labels map[string]string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("read the metrics: %w", err)
	}
	total := 0.0
	for _, metric := range families[name].GetMetric() {
		if has(metric, labels) {
			total += metric.GetCounter().GetValue() + metric.GetUntyped().GetValue()
		}
	}
	return total, nil
}

func has(metric *dto.Metric, labels map[string]string) bool {
	for key, value := range labels {
		if !slices.ContainsFunc(metric.Label, func(p *dto.LabelPair) bool { return p.GetName() == key && p.GetValue() == value }) {
			return false
		}
	}
	return true
}

func (s *scenarioRun) judgeAdmission(ctx context.Context, c *scenarios.AdmissionClaim) verdict {
	content := s.expand(c.Object.Content).(map[string]any)
	_, err := s.e.kube.apply(ctx, content, s.namespace, true)
	var refused *refusedError
	v := verdict{outcome: result.Passed, expected: string(c.Expect), observed: "accepted"}
	switch {
	case err != nil && !errors.As(err, &refused):
		return unsure("the API server could not be asked: %v", err)
	case err != nil:
		v.observed = "refused: " + err.Error()
	}
	if (err != nil) != (c.Expect == scenarios.AdmissionRefused) {
		return failing(v, "expected the object to be %s, observed %s", c.Expect, v.observed)
	}
	return v
}

func (s *scenarioRun) judgeEvent(ctx context.Context, c *scenarios.EventClaim) verdict {
	name, prefix := strings.CutSuffix(s.text(c.Name), "*")
	for _, namespace := range append([]string{s.namespace}, s.furtherNamespaces()...) {
		list, err := s.e.kube.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + c.Reason})
		if err != nil {
			return unsure("the events cannot be read: %v", err)
		}
		for _, event := range list.Items {
			object := event.InvolvedObject
			if c.Kind != "" && object.Kind != c.Kind || !prefix && name != "" && object.Name != name || prefix && !strings.HasPrefix(object.Name, name) {
				continue
			}
			v := passed(fmt.Sprintf("%s %s/%s: %s", event.Reason, object.Kind, object.Name, event.Message))
			v.expected = "an event " + c.Reason
			return v
		}
	}
	return failed("no event %s about %s %s was seen", c.Reason, c.Kind, s.text(c.Name))
}

func (s *scenarioRun) judgeHealthy(ctx context.Context, c *scenarios.HealthyClaim) verdict {
	namespace := s.namespace
	if c.Namespace != "" {
		namespace = s.text(c.Namespace)
	}
	checks, err := health.Run(ctx, s.e.kube.typed, health.Options{Proxy: true, Namespace: namespace})
	if err != nil {
		return unsure("%v", err)
	}
	v := passed(fmt.Sprintf("%d checks hold", len(checks)))
	v.expected = "every check holds"
	for _, check := range checks {
		if check.Problem != "" {
			v.details = append(v.details, fmt.Sprintf("%s: %s", check.Name, check.Problem))
		}
	}
	if c.ControlPlane {
		// A webhook that is up is one that answers: it must refuse this.
		broken := map[string]any{"apiVersion": policyGroup + "/v1beta1", "kind": "Server", "metadata": map[string]any{"name": "healthy"},
			"spec": map[string]any{"podSelector": map[string]any{}, "port": "http", "proxyProtocol": "no such protocol"}}
		var refused *refusedError
		if _, err := s.e.kube.apply(ctx, broken, s.namespace, true); !errors.As(err, &refused) {
			v.details = append(v.details, fmt.Sprintf("the policy validator let an invalid Server pass: %v", err))
		}
	}
	if len(v.details) > 0 {
		return failing(v, "%s", strings.Join(v.details, "; "))
	}
	return v
}

func (s *scenarioRun) judgePolicy(ctx context.Context, c *scenarios.PolicyClaim) verdict {
	target, err := s.planned.Target(c.Target, "")
	if err != nil {
		return unsure("%v", err)
	}
	pods := s.componentPods(target.Component)
	if len(pods) == 0 {
		return unsure("%s has no pods", target.Component)
	}
	var v verdict
	for _, pod := range pods {
		served, err := s.e.askController(ctx, nameOf(pod), target.Port, versions{})
		v = passed("policy of " + served.server())
		if errors.Is(err, errUnknownPod) {
			v.observed = "nothing is enforced: the pod has no proxy"
		} else if err != nil {
			return unsure("%v", err)
		}
		switch {
		case c.Enforced != nil:
			v.expected = fmt.Sprintf("enforced=%v", *c.Enforced)
			if *c.Enforced == (err != nil) {
				return failing(v, "expected enforced=%v for %s, observed: %s", *c.Enforced, nameOf(pod), v.observed)
			}
		case err != nil || served.server() != c.Server:
			v.expected = "policy of " + c.Server
			return failing(v, "expected the policy of %s for %s port %d, observed: %s", c.Server, nameOf(pod), target.Port, v.observed)
		default:
			v.expected = "policy of " + c.Server
		}
	}
	v.samples = len(pods)
	return v
}

func (s *scenarioRun) judgePods(c *scenarios.PodsClaim) verdict {
	pods := s.componentPods(c.Workload)
	v := passed(fmt.Sprintf("%d pods", len(pods)))
	v.expected = string(c.Are)
	if c.Are == scenarios.PodsAbsent {
		if len(pods) > 0 {
			return failing(v, "expected no pod, observed %d, among them %s with proxy: %v", len(pods), pods[0].Name, meshed(pods[0]))
		}
		return v
	}
	if len(pods) == 0 {
		return failing(v, "expected pods, and there are none")
	}
	for _, pod := range pods {
		if meshed(pod) != (c.Are == scenarios.PodsInjected) {
			return failing(v, "expected the pods to be %s, and %s is not", c.Are, pod.Name)
		}
	}
	return v
}

// after are the answers to the calls after a position, in the order of calling.
func after(stream *streamRun, from int64) []sample {
	var out []sample
	for _, one := range stream.answers {
		if one.Call > from {
			out = append(out, sample{one.Call, one.Outcome})
		}
	}
	slices.SortFunc(out, func(a, b sample) int { return int(a.call - b.call) })
	return out
}
