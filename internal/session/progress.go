package session

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

const (
	// quietLimit is how long nothing is printed before a line says who is still
	// at work.
	quietLimit = 15 * time.Second
	// maxAtWork bounds the scenarios that such a line names.
	maxAtWork = 4
)

// Progress returns an observer that prints what somebody who waits wants to
// know: what is being waited for, each claim that did not pass at once, a line
// per scenario that is over, and who is still at work when nothing else was to
// be told for a while. Times count from now.
func Progress(w io.Writer) func(engine.Event) {
	p := &progress{out: w, began: time.Now(), atWork: map[string]work{}}
	return p.observe
}

type progress struct {
	began time.Time

	mu   sync.Mutex
	out  io.Writer
	last time.Time // of the last line
	// atWork are the scenarios that have started and not finished.
	atWork map[string]work
	// stop and stopped belong to the goroutine that looks for silence, between a
	// run's start and its end.
	stop, stopped chan struct{}
}

// work is what a scenario is busy with.
type work struct {
	step, text string
	since      time.Time
}

func (p *progress) observe(e engine.Event) {
	p.mu.Lock()
	switch e.Kind {
	case engine.RunStarted:
		p.line("%s", e.Text)
		p.stop, p.stopped = make(chan struct{}), make(chan struct{})
		go p.watch(p.stop, p.stopped)
	case engine.RunFinished:
		if p.stop != nil {
			close(p.stop)
			p.mu.Unlock()
			<-p.stopped
			return
		}
	case engine.ScenarioStarted:
		p.atWork[e.Scenario] = work{since: time.Now()}
	case engine.StepStarted:
		p.atWork[e.Scenario] = work{step: e.Step, since: time.Now()}
	case engine.Waiting:
		if e.Scenario == "" {
			p.line("%s", e.Text)
			break
		}
		// Inside a scenario they are many and short: they are told when they are not.
		p.atWork[e.Scenario] = work{step: p.atWork[e.Scenario].step, text: e.Text, since: time.Now()}
	case engine.ClaimFinished:
		if e.Result.Outcome != result.Passed && e.Result.Outcome != result.Skipped {
			text.Finding(p.out, e.Scenario, e.Step, *e.Result)
			p.last = time.Now()
		}
	case engine.ScenarioFinished:
		delete(p.atWork, e.Scenario)
		p.finished(e.Finished)
	}
	p.mu.Unlock()
}

// line writes one line; the caller holds the lock.
func (p *progress) line(format string, args ...any) {
	p.last = time.Now()
	fmt.Fprintf(p.out, "[%5.1fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

func (p *progress) finished(s *result.Scenario) {
	symbol, n := text.Symbol(s.Outcome), (&result.Run{Scenarios: []result.Scenario{*s}}).Count()
	switch s.Outcome {
	case result.Skipped:
		p.line("%s %s: skipped: %s", symbol, s.Name, s.Reason)
	case result.Error:
		// Claims that were not judged have told nothing.
		p.line("%s %s: %d of %d claims passed in %.1fs, then %s", symbol, s.Name, n.Passed, n.Total, s.Duration, s.Reason)
	case result.Inconclusive:
		reason := ""
		if n.Inconclusive == 0 { // no claim has told one
			reason = ", then " + s.Reason
		}
		p.line("%s %s: %d of %d claims passed in %.1fs%s", symbol, s.Name, n.Passed, n.Total, s.Duration, reason)
	default:
		p.line("%s %s: %d of %d claims passed in %.1fs", symbol, s.Name, n.Passed, n.Total, s.Duration)
	}
}

// watch breaks the silence until it is stopped.
func (p *progress) watch(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	for {
		p.mu.Lock()
		if time.Since(p.last) >= quietLimit {
			p.still()
		}
		next := time.NewTimer(quietLimit - time.Since(p.last))
		p.mu.Unlock()
		select {
		case <-next.C:
		case <-stop:
			next.Stop()
			return
		}
	}
}

// still says who is at work and with what, the most patient first.
func (p *progress) still() {
	var names []string
	for name := range p.atWork {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if c := p.atWork[a].since.Compare(p.atWork[b].since); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, name := range names[:min(len(names), maxAtWork)] {
		busy := p.atWork[name]
		doing := strings.Join(slices.DeleteFunc([]string{busy.step, busy.text}, func(s string) bool { return s == "" }), ": ")
		if doing == "" {
			doing = "starting"
		}
		parts = append(parts, fmt.Sprintf("%s (%s, for %.0fs)", name, doing, time.Since(busy.since).Seconds()))
	}
	if more := len(names) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	if len(parts) == 0 {
		parts = []string{"nothing: cleaning up"}
	}
	p.line("at work: %s", strings.Join(parts, ", "))
}
