package fuzz

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// UsualParallel is how many scenarios are under way at a time: enough to keep two
// cores busy while some wait, few enough for streams to keep their rates.
const UsualParallel = 10

// tellInterval is between two lines about how far it is.
const tellInterval = 10 * time.Second

// Options of a run.
type Options struct {
	Seed int64
	// For is how long scenarios are carried out.
	For time.Duration
	// First is the number of the first scenario, and Most how many are made at
	// most; 0 means as many as there is time for.
	First, Most int
	// KeepGoing goes on after a finding until the time is up.
	KeepGoing bool
	// Parallel bounds the scenarios under way at a time; 0 means UsualParallel.
	Parallel int
	// Dir is the run's folder, in which scenarios and findings are written.
	Dir string
	// Tell is told how far it is, in lines, from one goroutine at a time.
	Tell func(format string, args ...any)
}

// bench carries out scenarios: those that are generated with evidence of what
// fails, and the smaller ones without.
type bench interface {
	Run(context.Context, *scenarios.PlannedScenario) *result.Scenario
	Try(context.Context, *scenarios.PlannedScenario) *result.Scenario
}

// Fuzz is one run. It is used once.
type Fuzz struct {
	Options
	began time.Time
	// cut ends the scenarios that are under way.
	cut context.CancelFunc

	mu       sync.Mutex
	next     int
	stopped  bool
	summary  Summary
	results  []result.Scenario
	findings []*Finding
	// passed counts the scenarios in which everything held.
	passed int
}

// Summary is what a run came to.
type Summary struct {
	Seed    int64 `json:"seed"`
	Version int   `json:"version"`
	// Scenarios that were carried out, Edits of them that were judged, and Claims
	// that were judged.
	Scenarios int `json:"scenarios"`
	Edits     int `json:"edits"`
	Claims    int `json:"claims"`
	// Inconclusive claims, and scenarios that could not be carried out.
	Inconclusive int `json:"inconclusive"`
	Broken       int `json:"broken"`
	// Twins are pairs of worlds that were held against each other.
	Twins int `json:"twins,omitempty"`
	// Seconds from the first scenario's begin to the end of the last.
	Seconds  float64 `json:"seconds"`
	Findings []Brief `json:"findings,omitempty"`
}

// Brief is a finding in short.
type Brief struct {
	Kind Kind `json:"kind"`
	// Scenario is its number, and Found when it had found it, in seconds since the
	// first began.
	Scenario int     `json:"scenario"`
	Found    float64 `json:"found"`
	Reason   string  `json:"reason,omitempty"`
	// File of the smallest scenario, relative to the run's folder, with what is in it;
	// empty where it was not made smaller.
	File     string  `json:"file,omitempty"`
	Objects  int     `json:"objects,omitempty"`
	Steps    int     `json:"steps,omitempty"`
	Attempts int     `json:"attempts,omitempty"`
	Took     float64 `json:"took,omitempty"`
	// Again is how often it recurred, of Of times.
	Again int `json:"again,omitempty"`
	Of    int `json:"of,omitempty"`
}

func (f *Finding) brief(dir string) Brief {
	out := Brief{Kind: f.Kind, Scenario: f.Case.Index, Found: f.Found.Seconds(), Reason: f.Reason,
		Attempts: f.Shrunk.Attempts, Took: f.Shrunk.Took.Seconds(), Again: f.Shrunk.Again, Of: f.Shrunk.Of}
	if f.Small != nil {
		size := generate.SizeOf(f.Small)
		out.Objects, out.Steps = size.Objects, size.Steps
	}
	if relative, err := filepath.Rel(dir, f.File); f.File != "" && err == nil {
		out.File = relative
	}
	return out
}

// EditsPerSecond is how many were judged a second.
func (s Summary) EditsPerSecond() float64 {
	if s.Seconds == 0 {
		return 0
	}
	return float64(s.Edits) / s.Seconds
}

// New prepares a run.
func New(o Options) *Fuzz {
	if o.Parallel == 0 {
		o.Parallel = UsualParallel
	}
	if o.Tell == nil {
		o.Tell = func(string, ...any) {}
	}
	return &Fuzz{Options: o, next: o.First, summary: Summary{Seed: o.Seed, Version: generate.Version}}
}

// Summary is what the run has come to so far.
func (f *Fuzz) Summary() Summary {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.summary
	for _, found := range f.findings {
		out.Findings = append(out.Findings, found.brief(f.Dir))
	}
	return out
}

// Findings are those of the run, in the order of finding.
func (f *Fuzz) Findings() []*Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.findings)
}

// Carry is session.Options.Carry: it does all of the run on the cluster.
func (f *Fuzz) Carry(ctx context.Context, config *rest.Config, plan *scenarios.Plan, options engine.Options) *result.Run {
	b, err := engine.OpenBench(ctx, config, options)
	if err != nil {
		return engine.Abandon(ctx, plan, options, err)
	}
	defer b.Close(ctx, options.Leave)
	out := b.Blank()
	if err := f.run(ctx, b); err != nil {
		out.Reason = err.Error()
	}
	out.Scenarios = f.results
	out.Figures = append(out.Figures,
		result.Figure{Name: "generated scenarios carried out, of which those without a finding are shown up to the " + fmt.Sprint(keptPassed) + "th", N: f.summary.Scenarios, Value: float64(f.summary.Scenarios)},
		result.Figure{Name: "policy edits judged", Unit: "/s", N: f.summary.Edits, Value: f.summary.EditsPerSecond(), Target: editsTarget})
	b.Conclude(ctx, out)
	return out
}

// editsTarget is how many edits a second are to be judged on two cores.
const editsTarget = 10

// run makes scenarios until the time is up, and then smaller ones of those that
// have found something.
func (f *Fuzz) run(ctx context.Context, b bench) error {
	f.began = time.Now()
	telling := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		tick := time.NewTicker(tellInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f.tell("%s", f.Line())
			case <-telling:
				return
			}
		}
	})
	// Of what is under way when it is over, the steps that were judged count.
	working, cut := context.WithCancel(ctx)
	defer cut()
	f.cut = cut
	if f.For > 0 {
		over := time.AfterFunc(f.For, cut)
		defer over.Stop()
	}
	var workers sync.WaitGroup
	var failed error
	var once sync.Once
	for range f.Parallel {
		workers.Go(func() {
			for {
				index, ok := f.take(working)
				if !ok {
					return
				}
				if err := f.one(working, b, index); err != nil {
					once.Do(func() { failed = err })
					return
				}
			}
		})
	}
	workers.Wait()
	close(telling)
	told.Wait()
	if failed != nil || ctx.Err() != nil {
		return failed
	}
	return f.smaller(ctx, b)
}

// take is the number of the next scenario, while there is to be one.
func (f *Fuzz) take(ctx context.Context) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil || f.stopped || f.For > 0 && time.Since(f.began) >= f.For || f.Most > 0 && f.next-f.First >= f.Most {
		return 0, false
	}
	f.next++
	return f.next - 1, true
}

// one makes a scenario and has it carried out.
func (f *Fuzz) one(ctx context.Context, b bench, index int) error {
	c, err := generate.New(f.Seed, index)
	if err != nil {
		return fmt.Errorf("generate scenario %d of seed %d: %w", index, f.Seed, err)
	}
	res, err := f.carry(ctx, b, c.Scenario)
	if err != nil {
		return err
	}
	f.keep(ctx, res, c)
	if ctx.Err() != nil {
		return nil
	}
	return f.twins(ctx, b, c, res)
}

// keep takes in what a scenario came to.
func (f *Fuzz) keep(ctx context.Context, res *result.Scenario, c *generate.Case) {
	found := find(res, c)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(ctx, res, c)
	if res.Outcome == result.Error && ctx.Err() == nil {
		f.summary.Broken++
		f.say("%s could not be carried out: %s", res.Name, res.Reason)
	}
	if found != nil {
		f.found(found)
	}
}

// found takes in a finding. Where one is enough, nothing more is begun; and what is
// under way ends, unless this finding is of a kind that takes long to make small
// and others may be better. The caller holds the lock.
func (f *Fuzz) found(one *Finding) {
	one.Found = time.Since(f.began)
	f.findings = append(f.findings, one)
	f.say("found: %s", one)
	if f.KeepGoing {
		return
	}
	f.stopped = true
	if f.cut != nil && slices.Contains(ofOneCall, one.Kind) {
		f.cut()
	}
}

// ofOneCall are the kinds of findings that a single call shows.
var ofOneCall = []Kind{Leak, Outage, Form, Record}

// carry has one scenario carried out, as it is in its file.
func (f *Fuzz) carry(ctx context.Context, b bench, s *scenarios.Scenario) (*result.Scenario, error) {
	planned, text, err := generate.Plan(s)
	if err != nil {
		return nil, fmt.Errorf("write scenario %s: %w", s.Metadata.Name, err)
	}
	if f.Dir != "" {
		folder := filepath.Join(f.Dir, "scenarios", s.Metadata.Name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("write scenario %s: %w", s.Metadata.Name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, PlanFile), text, 0o644); err != nil {
			return nil, fmt.Errorf("write scenario %s: %w", s.Metadata.Name, err)
		}
	}
	return b.Run(ctx, planned), nil
}

// PlanFile is what a generated scenario is called, in the folder of its name among
// the run's scenarios.
const PlanFile = "plan.yaml"

// count takes in what a scenario came to; ctx has ended when it was cut short. The
// caller holds the lock.
func (f *Fuzz) count(ctx context.Context, res *result.Scenario, c *generate.Case) {
	f.summary.Scenarios++
	for i := range res.Steps {
		judged, whole := 0, true
		for _, claim := range res.Steps[i].Claims {
			switch claim.Outcome {
			case result.Passed, result.Failed:
				judged++
			case result.Inconclusive:
				f.summary.Inconclusive++
			case result.Skipped:
				whole = whole && ctx.Err() == nil
			}
		}
		f.summary.Claims += judged
		if i > 0 && judged > 0 && whole && i <= len(c.Transitions) {
			f.summary.Edits += len(c.Transitions[i-1])
		}
	}
	f.summary.Seconds = time.Since(f.began).Seconds()
	if res.Outcome == result.Passed {
		f.passed++
	}
	if ctx.Err() != nil && res.Outcome != result.Passed && res.Outcome != result.Failed {
		return // it has no outcome of its own
	}
	if res.Outcome != result.Passed || f.passed <= keptPassed {
		f.results = append(f.results, *res)
	}
}

// keptPassed is how many scenarios without a finding stand in the run's result with
// every claim. Of the others the numbers are told: a page that shows hundreds of
// thousands of claims that hold shows nothing.
const keptPassed = 40

// Line says how far the run is.
func (f *Fuzz) Line() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.summary
	return fmt.Sprintf("seed %d: %d edits in %.1fs, %.1f per second; %d claims in %d scenarios, %d inconclusive; findings %d", s.Seed, s.Edits, s.Seconds, s.EditsPerSecond(), s.Claims, s.Scenarios, s.Inconclusive, len(f.findings))
}

func (f *Fuzz) tell(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.say(format, args...)
}

// say tells; the caller holds the lock.
func (f *Fuzz) say(format string, args ...any) {
	f.Tell("[%5.1fs] %s", time.Since(f.began).Seconds(), fmt.Sprintf(format, args...))
}

// SummaryFile holds the Summary in the run's folder.
const SummaryFile = "fuzz.json"

// WriteSummary writes it.
func (f *Fuzz) WriteSummary() error {
	text, err := json.MarshalIndent(f.Summary(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode the summary: %w", err)
	}
	return os.WriteFile(filepath.Join(f.Dir, SummaryFile), append(text, '\n'), 0o644)
}

// ReadSummary reads it. The error wraps fs.ErrNotExist where no fuzz run was.
func ReadSummary(dir string) (*Summary, error) {
	text, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	if err != nil {
		return nil, fmt.Errorf("read the summary: %w", err)
	}
	out := new(Summary)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, fmt.Errorf("read the summary in %s: %w", dir, err)
	}
	return out, nil
}
