package engine

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/scenarios"
)

// baseline is what stood at the beginning of a step's claims, so that a claim
// can speak of what happened since.
type baseline struct {
	at time.Time
	// world is that of the step's claims.
	world *world
	step  *scenarios.PlannedStep
	// metrics and logged are from before the step's actions: the text of the
	// metrics, and how long a log was.
	metrics  map[teller][]byte
	logged   map[logOf]int
	table    *authz.Store
	restarts map[types.NamespacedName]int32
	last     map[types.NamespacedName]int64
}

// teller is who tells metrics: a port of a pod, a proxy's or that of a part of
// the control plane.
type teller struct {
	pod  types.NamespacedName
	port int
}

// open begins the baseline before a step's actions, with what the claims need
// that count what was caused by these too.
func (s *scenarioRun) open(ctx context.Context, step *scenarios.PlannedStep) *baseline {
	base := &baseline{step: step, world: s.worldOf(ctx, step), metrics: map[teller][]byte{}, logged: map[logOf]int{}}
	for _, claim := range step.Claims {
		if s.skipped(claim) != "" {
			continue
		}
		switch c := claim.Claim; {
		case c.Metric != nil && c.Metric.Since != scenarios.SinceStart:
			for _, one := range s.metricTellers(c.Metric) {
				if base.metrics[one] == nil {
					base.metrics[one], _ = s.e.metricsOf(ctx, one)
				}
			}
		case c.Log != nil:
			for _, one := range s.logs(c.Log) {
				if text, err := s.e.logged(ctx, one); err == nil {
					base.logged[one] = len(text)
				}
			}
		}
	}
	return base
}

// mark completes the baseline after the actions with what the claims of a step
// need, and no more.
func (s *scenarioRun) mark(ctx context.Context, step *scenarios.PlannedStep, base *baseline) {
	base.at, base.table = time.Now(), authz.NewStore(tableMemory)
	base.restarts, base.last = map[types.NamespacedName]int32{}, map[types.NamespacedName]int64{}
	measured, decided := map[string]bool{}, map[string]bool{}
	for _, claim := range step.Claims {
		switch c := claim.Claim; {
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
}

// tableMemory is how far back the table of a claim looks: over all of its step.
const tableMemory = 10 * time.Minute

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

// metricTellers are those whose series a claim sums.
func (s *scenarioRun) metricTellers(c *scenarios.MetricClaim) []teller {
	port := adminPort
	if c.ControlPlane != "" {
		port = parts[c.ControlPlane].metrics
	}
	var out []teller
	pods, _ := s.tellers(c.Workload, c.ControlPlane)
	for _, pod := range pods {
		out = append(out, teller{nameOf(pod), port})
	}
	return out
}

func (e *run) metricsOf(ctx context.Context, of teller) ([]byte, error) {
	var text []byte
	err := e.get(ctx, of.pod, of.port, "/metrics", nil, &text)
	return text, err
}

func (s *scenarioRun) judgeMetric(ctx context.Context, c *scenarios.MetricClaim, base *baseline) verdict {
	labels := map[string]string{}
	for name, value := range c.Labels {
		labels[name] = s.text(value)
	}
	total := 0.0
	all := s.metricTellers(c)
	for _, one := range all {
		text, err := s.e.metricsOf(ctx, one)
		if err != nil {
			return unsure("the metrics cannot be read: %v", err)
		}
		now, err := measured(text, c.Name, labels, c.Without)
		if err != nil {
			return unsure("%v", err)
		}
		total += now
		if c.Since == scenarios.SinceStart {
			continue // another claim of the step may have read them before
		}
		then, err := measured(base.metrics[one], c.Name, labels, c.Without)
		if err != nil {
			return unsure("%v", err)
		}
		total -= then
	}
	if len(all) == 0 {
		return unsure("%s%s has no pods that count", c.Workload, c.ControlPlane)
	}
	v := passed(fmt.Sprintf("%s%v grew by %v", c.Name, labels, total))
	if c.Since == scenarios.SinceStart {
		v.observed = fmt.Sprintf("%s%v is %v", c.Name, labels, total)
	}
	v.expected = string(c.Is)
	if !c.Is.Fits(total) {
		return failing(v, "expected %s, observed %s", c.Is, v.observed)
	}
	return v
}

// measured sums the series of a metric that have the labels and are without the
// others: values, and of a histogram the number of observations.
func measured(text []byte, name string, labels map[string]string, without []string) (float64, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("read the metrics: %w", err)
	}
	total := 0.0
	for _, metric := range families[name].GetMetric() {
		if has(metric, labels) && !carries(metric, without) {
			total += metric.GetCounter().GetValue() + metric.GetUntyped().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetHistogram().GetSampleCount()+metric.GetSummary().GetSampleCount())
		}
	}
	return total, nil
}

// carries says whether a series has any of the labels. An empty value is none.
func carries(metric *dto.Metric, labels []string) bool {
	return slices.ContainsFunc(metric.Label, func(p *dto.LabelPair) bool { return p.GetValue() != "" && slices.Contains(labels, p.GetName()) })
}

func has(metric *dto.Metric, labels map[string]string) bool {
	for key, value := range labels {
		if !slices.ContainsFunc(metric.Label, func(p *dto.LabelPair) bool { return p.GetName() == key && p.GetValue() == value }) {
			return false
		}
	}
	return true
}
