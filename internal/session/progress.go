package session

import (
	"fmt"
	"io"
	"time"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

// Progress returns an observer that prints what somebody who waits wants to
// know: what is being waited for, each claim that did not pass at once, and a
// line per scenario that is over. Times count from now.
func Progress(w io.Writer) func(engine.Event) {
	began := time.Now()
	return func(e engine.Event) {
		elapsed := time.Since(began).Seconds()
		switch e.Kind {
		case engine.RunStarted:
			fmt.Fprintf(w, "[%5.1fs] %s\n", elapsed, e.Text)
		case engine.Waiting:
			if e.Scenario == "" { // inside a scenario they are many and short
				fmt.Fprintf(w, "[%5.1fs] %s\n", elapsed, e.Text)
			}
		case engine.ClaimFinished:
			if e.Result.Outcome != result.Passed && e.Result.Outcome != result.Skipped {
				text.Finding(w, e.Scenario, e.Step, *e.Result)
			}
		case engine.ScenarioFinished:
			one := result.Run{Scenarios: []result.Scenario{*e.Finished}}
			n := one.Count()
			fmt.Fprintf(w, "[%5.1fs] %s %s: %d of %d claims passed in %.1fs\n", elapsed, text.Symbol(e.Finished.Outcome), e.Scenario, n.Passed, n.Total, e.Finished.Duration)
		}
	}
}
