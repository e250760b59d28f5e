package soak

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// File is what a soak calls its values, in the run's folder: a line for each look.
const File = "soak.jsonl"

const (
	// interval is between two looks at all parts.
	interval = 5 * time.Second
	// lookBudget bounds one look; a part that does not answer in it is left out.
	lookBudget = 4 * time.Second
	// present is the share of the looks in which a part must have told something to
	// count as one that stood all the time.
	present = 0.8
)

// measure is one value that must not grow.
type measure struct {
	// name is that of the metric, and what says for people what it is.
	name, what string
	// share of the median, and floor, which bound what is no growth.
	share, floor float64
	unit         func(float64) string
}

func mebibytes(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }
func number(v float64) string    { return fmt.Sprintf("%.3g", v) }

// measures are what is looked at, where a part has it.
var measures = []measure{
	{"process_resident_memory_bytes", "memory", 0.15, 8 << 20, mebibytes},
	{"go_goroutines", "goroutines", 0.15, 20, number},
	{"process_open_fds", "open files", 0.15, 15, number},
	{"policy_watched_ports", "ports that are watched", 0.15, 15, number},
	{"policy_watchers", "streams of policy", 0.15, 15, number},
}

// series names one value of one part.
type series struct{ part, pod, metric string }

// Soak watches a cluster while something else edits policies there. It is used
// once.
type Soak struct {
	// Edit makes the load; it returns when the time is up.
	Edit func(context.Context, *rest.Config, *scenarios.Plan, engine.Options) *result.Run

	began  time.Time
	looks  int
	points map[series][]Point
}

// Carry is session.Options.Carry: the run that Edit leaves has one scenario more,
// which claims that nothing has grown.
func (s *Soak) Carry(ctx context.Context, config *rest.Config, plan *scenarios.Plan, options engine.Options) *result.Run {
	s.began, s.points = time.Now(), map[series][]Point{}
	silent := options
	silent.Dir, silent.Observe = "", nil
	bench, err := engine.OpenBench(ctx, config, silent)
	if err != nil {
		return engine.Abandon(ctx, plan, options, err)
	}
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	var logged error
	watcher.Go(func() { logged = s.watch(watching, bench, options.Dir) })
	out := s.Edit(ctx, config, plan, options)
	stop()
	watcher.Wait()
	bench.Close(ctx, true) // it has made nothing
	scenario := s.judge()
	if logged != nil {
		scenario.Steps[0].Reason = logged.Error()
	}
	out.Scenarios = append(out.Scenarios, *scenario)
	out.Again()
	return out
}

// watch looks again and again until ctx ends.
func (s *Soak) watch(ctx context.Context, bench *engine.Bench, dir string) error {
	var out *bufio.Writer
	if dir != "" {
		file, err := os.Create(filepath.Join(dir, File))
		if err != nil {
			return fmt.Errorf("keep the values of the soak: %w", err)
		}
		out = bufio.NewWriter(file)
		defer func() { _ = errors.Join(out.Flush(), file.Close()) }() // what is lost is evidence, and no verdict
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.look(ctx, bench, out)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// line is one look at one part, as it is kept.
type line struct {
	At     float64            `json:"at"`
	Part   string             `json:"part"`
	Pod    string             `json:"pod"`
	Values map[string]float64 `json:"values"`
}

func (s *Soak) look(ctx context.Context, bench *engine.Bench, out *bufio.Writer) {
	ctx, cancel := context.WithTimeout(ctx, lookBudget)
	defer cancel()
	at := time.Since(s.began)
	s.looks++
	for _, teller := range bench.Tellers() {
		text, err := bench.Metrics(ctx, teller)
		if err != nil {
			continue // it has gone, or is too busy: the look is missing
		}
		values := valuesOf(text)
		for metric, value := range values {
			name := series{teller.Part, teller.Pod.String(), metric}
			s.points[name] = append(s.points[name], Point{at, value})
		}
		if out != nil {
			if text, err := json.Marshal(line{at.Seconds(), teller.Part, teller.Pod.String(), values}); err == nil {
				out.Write(append(text, '\n'))
			}
		}
	}
}

// valuesOf are the values in a text of metrics that must not grow.
func valuesOf(text []byte) map[string]float64 {
	values := map[string]float64{}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return values
	}
	for _, m := range measures {
		family := families[m.name]
		if family == nil {
			continue
		}
		sum := 0.0
		for _, one := range family.Metric {
			sum += one.GetGauge().GetValue() + one.GetUntyped().GetValue()
		}
		values[m.name] = sum
	}
	return values
}

// Scenario is what the claims of a soak belong to.
const Scenario = "soak"

// judge makes the claims: one for each value of each part of the control plane,
// and for the proxies the worst of those that stood all the time.
func (s *Soak) judge() *result.Scenario {
	out := &result.Scenario{Name: Scenario, Summary: "Nothing that the mesh holds grows while its policies are edited", Labels: []string{Scenario}, Started: s.began,
		Duration: time.Since(s.began).Seconds()}
	step := result.Step{Name: "random edits on one standing cluster", Duration: out.Duration}
	type subject struct{ part, metric string }
	worst := map[subject]Growth{}
	of, pods := map[subject]string{}, map[subject]int{}
	var subjects []subject
	var names []series
	for name := range s.points {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b series) int {
		return cmp.Or(cmp.Compare(a.part, b.part), cmp.Compare(a.pod, b.pod), cmp.Compare(a.metric, b.metric))
	})
	for _, name := range names {
		points := s.points[name]
		if float64(len(points)) < present*float64(s.looks) {
			continue // its pod came or went
		}
		m := measureOf(name.metric)
		g := Judge(points, m.share, m.floor)
		k := subject{name.part, name.metric}
		pods[k]++
		old, known := worst[k]
		if !known {
			subjects = append(subjects, k)
		}
		if !known || g.worse(old) {
			worst[k], of[k] = g, name.pod
		}
	}
	for _, k := range subjects {
		m, g := measureOf(k.metric), worst[k]
		who := k.part
		if k.part == engine.ProxyPart {
			who = "proxies"
		}
		claim := result.Claim{Name: fmt.Sprintf("%s of %s: no growth", m.what, who), Expected: fmt.Sprintf("no growth of more than %s", m.unit(g.May)), Observed: g.text(m.unit),
			Samples: g.N, Duration: out.Duration, Details: []string{fmt.Sprintf("the worst of %d: %s", pods[k], of[k])}}
		claim.Outcome, claim.Reason = g.outcome()
		if claim.Outcome.Worse(step.Outcome) {
			step.Outcome = claim.Outcome
		}
		step.Claims = append(step.Claims, claim)
	}
	if len(step.Claims) == 0 {
		step.Claims = []result.Claim{{Name: "the mesh tells what it holds", Outcome: result.Inconclusive, Reason: "no part of the mesh told its metrics all the time"}}
		step.Outcome = result.Inconclusive
	}
	out.Outcome, out.Steps = cmp.Or(step.Outcome, result.Skipped), []result.Step{step}
	return out
}

func measureOf(metric string) measure {
	return measures[slices.IndexFunc(measures, func(m measure) bool { return m.name == metric })]
}

// worse orders growths of several pods: what grew most, against what may be.
func (g Growth) worse(than Growth) bool {
	rank := map[Trend]int{Growing: 3, Unclear: 2, Steady: 1, Short: 0}
	if rank[g.Trend] != rank[than.Trend] {
		return rank[g.Trend] > rank[than.Trend]
	}
	return g.By-g.May > than.By-than.May
}

// outcome of a claim that a value does not grow. Too short a time is no judgement
// at all, while values that are all over the place are a reason to look.
func (g Growth) outcome() (result.Outcome, string) {
	switch g.Trend {
	case Steady:
		return result.Passed, ""
	case Growing:
		return result.Failed, "it grows"
	case Unclear:
		return result.Inconclusive, "the values are too far apart to tell whether it grows"
	}
	return result.Skipped, fmt.Sprintf("cannot tell: the soak was shorter than growth takes to show, %s of the %s that count", g.Over.Round(time.Second), shortest)
}
