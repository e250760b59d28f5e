package result

import "fmt"

// Attempt is one of several times that a claim was judged in a run.
type Attempt struct {
	// Number counts from 1.
	Number  int     `json:"number"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// Flaky reports whether the claim did not come out the same each time. Attempts
// in which it was not judged tell nothing.
func (c *Claim) Flaky() bool {
	first := Outcome("")
	for _, a := range c.Attempts {
		switch {
		case a.Outcome == Skipped:
		case first == "":
			first = a.Outcome
		case a.Outcome != first:
			return true
		}
	}
	return false
}

// Flake is a flaky claim in a line; empty for any other.
func (c *Claim) Flake() string {
	if !c.Flaky() {
		return ""
	}
	passed, judged, first := 0, 0, 0
	for _, a := range c.Attempts {
		if a.Outcome != Skipped {
			judged++
		}
		if a.Outcome == Passed {
			if passed++; first == 0 {
				first = a.Number
			}
		}
	}
	if passed == 0 {
		return fmt.Sprintf("flaky: %d attempts did not come out the same, and none passed", judged)
	}
	return fmt.Sprintf("flaky: passed on attempt %d, and in %d of %d attempts; what did not pass counts", first, passed, judged)
}

// Worse reports whether an outcome weighs more than another one.
func (o Outcome) Worse(than Outcome) bool { return o.weight() > than.weight() }

func (o Outcome) weight() int {
	switch o {
	case Error:
		return 4
	case Failed:
		return 3
	case Inconclusive:
		return 2
	case Passed:
		return 1
	}
	return 0
}

// Again concludes a run whose scenarios have become others since it was
// concluded: what else it was concluded from stays.
func (r *Run) Again() {
	var end *End
	internal := r.ExitCode == ExitInternal
	input := r.ExitCode == ExitInput
	switch {
	case r.ExitCode > 128:
		end = &End{Reason: r.Reason, Outcome: Inconclusive, ExitCode: r.ExitCode}
	case r.Outcome != Error:
		r.Reason = ""
	}
	r.Conclude(end, input)
	if internal && r.Outcome == Error {
		r.ExitCode = ExitInternal
	}
}
