package result

import "fmt"

// Exit codes of a run, which the tree carries. Those of a run that a signal has
// ended are 128 and more.
const (
	ExitPassed       = 0
	ExitFailed       = 1
	ExitInconclusive = 2
	ExitSetup        = 3
	ExitInput        = 4
	ExitInternal     = 70
	ExitInterrupted  = 130
)

// End is why a run ended before the end of its plan, with outcome and exit code
// of a run that has found nothing else. A run that is in error has its Outcome
// Error; one that somebody wanted to end has another.
type End struct {
	Reason   string
	Outcome  Outcome
	ExitCode int
}

// Conclude fills summary, outcome, exit code and reason from the claims and
// scenarios. A Reason that is there already is why the run is in error. end is
// nil for a run that came to its end, and input says that a scenario could not
// be carried out because it is wrong.
func (r *Run) Conclude(end *End, input bool) {
	r.Summary, r.Changes = r.Count(), r.changes()
	if r.Shard != nil && len(r.Scenarios) == 0 && end == nil && r.Reason == "" {
		r.Outcome, r.ExitCode = Skipped, ExitPassed
		r.Reason = fmt.Sprintf("nothing to do: %s has no claims", r.Shard)
		return
	}
	var broken []string
	for _, s := range r.Scenarios {
		if s.Outcome == Error {
			broken = append(broken, s.Name+": "+s.Reason)
		}
	}
	switch {
	case r.Summary.Failed > 0:
		r.Outcome, r.ExitCode = Failed, ExitFailed
	case end != nil:
		r.Outcome, r.ExitCode = end.Outcome, end.ExitCode
	case r.Reason != "" || len(broken) > 0:
		r.Outcome, r.ExitCode = Error, ExitSetup
		if input {
			r.ExitCode = ExitInput
		}
	case r.Summary.Inconclusive > 0 || r.Summary.Passed == 0:
		r.Outcome, r.ExitCode = Inconclusive, ExitInconclusive
	default:
		r.Outcome, r.ExitCode = Passed, ExitPassed
	}
	if end != nil {
		r.Reason = end.Reason
		if end.Outcome != Error {
			r.ExitCode = end.ExitCode
		}
	}
	if r.Reason == "" && len(broken) > 0 {
		r.Reason = broken[0]
	}
	if r.Reason == "" && r.Summary.Total == r.Summary.Skipped {
		r.Reason = "nothing was judged"
	}
}
