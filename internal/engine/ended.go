package engine

import (
	"context"
	"errors"

	"github.com/meshproof/meshproof/reports/result"
)

// Lost is what to cancel a run's context with when the cluster is gone: then
// the run is in error. Any other cause is somebody who wants the run to end,
// and may have an ExitCode() int of its own.
type Lost struct{ Err error }

func (l *Lost) Error() string { return l.Err.Error() }
func (l *Lost) Unwrap() error { return l.Err }

// errInterrupted is why a run ends early when its context does not say.
var errInterrupted = errors.New("interrupted")

// ended says why a run ends early, and what becomes of it: the outcome and exit
// code of a run that has found nothing. A nil error means that it goes on.
func ended(ctx context.Context) (why error, outcome result.Outcome, code int) {
	if ctx.Err() == nil {
		return nil, "", 0
	}
	cause := context.Cause(ctx)
	var lost *Lost
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(cause, &lost):
		return lost, result.Error, result.ExitSetup
	case errors.As(cause, &coded):
		return cause, result.Inconclusive, coded.ExitCode()
	}
	return errInterrupted, result.Inconclusive, result.ExitInterrupted
}

// cutOff takes back a verdict that the end of the run may have brought about:
// then the claim was not judged.
func cutOff(ctx context.Context, v verdict) verdict {
	why, _, _ := ended(ctx)
	if why == nil || v.outcome == result.Passed {
		return v
	}
	return verdict{outcome: result.Skipped, reason: notReached + ": " + why.Error()}
}

// notBegun gives a scenario its result that was to begin after the run's end.
func (s *scenarioRun) notBegun(why error, outcome result.Outcome) {
	s.abandon(why)
	if outcome != result.Error {
		s.res.Outcome = result.Skipped
	}
}
