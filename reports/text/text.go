// Package text writes what a terminal shows at the end of a run: the findings
// that need attention, then one block of always the same shape that can be
// pasted into a conversation.
package text

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// Symbol is the sign of an outcome; the word always stands beside it.
func Symbol(o result.Outcome) string {
	switch o {
	case result.Passed:
		return "✓"
	case result.Failed, result.Error:
		return "✗"
	case result.Inconclusive:
		return "?"
	}
	return "–"
}

// Finding writes one claim that did not pass, with all that is needed to
// understand it.
func Finding(w io.Writer, scenario, step string, claim result.Claim) {
	fmt.Fprintf(w, "%s %s: %s / %s / %s\n", Symbol(claim.Outcome), claim.Outcome, scenario, step, claim.Name)
	if claim.Source.File != "" { // what a soak claims stands in no file
		field(w, "where", fmt.Sprintf("%s:%d", claim.Source.File, claim.Source.Line))
	}
	field(w, "expected", claim.Expected)
	field(w, "observed", claim.Observed)
	field(w, "reason", claim.Reason)
	field(w, "witness", claim.Witness)
	for _, line := range claim.Details {
		field(w, "", line)
	}
}

func needsAttention(claim result.Claim) bool {
	return claim.Outcome != result.Passed && claim.Outcome != result.Skipped
}

// maxNames bounds how many scenarios are named that share a reason.
const maxNames = 8

// Reason writes in one line why scenarios, which have outcome and reason in
// common, did not pass, and how many of their claims that took along.
func Reason(w io.Writer, scenarios ...result.Scenario) {
	var names []string
	skipped, all := 0, 0
	for _, scenario := range scenarios {
		n := (&result.Run{Scenarios: []result.Scenario{scenario}}).Count()
		skipped, all = skipped+n.Skipped, all+n.Total
		names = append(names, scenario.Name)
	}
	who := strings.Join(names, ", ")
	if len(names) > maxNames {
		who = fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames-1], ", "), len(names)-maxNames+1)
	}
	fmt.Fprintf(w, "%s %s: %s: %s", Symbol(scenarios[0].Outcome), scenarios[0].Outcome, who, scenarios[0].Reason)
	if skipped > 0 && scenarios[0].Outcome != result.Skipped {
		fmt.Fprintf(w, " (%d of %d claims were not judged)", skipped, all)
	}
	fmt.Fprintln(w)
}

// alike groups the scenarios that did not pass for a reason of their own by
// outcome and reason, in the order of the run. A reason that is a claim's is
// told with that claim.
func alike(scenarios []result.Scenario) [][]result.Scenario {
	type key struct {
		outcome result.Outcome
		reason  string
	}
	var groups [][]result.Scenario
	at := map[key]int{}
	for _, scenario := range scenarios {
		if scenario.Outcome == result.Passed || scenario.Reason == "" || toldByFinding(scenario) {
			continue
		}
		k := key{scenario.Outcome, scenario.Reason}
		if i, ok := at[k]; ok {
			groups[i] = append(groups[i], scenario)
			continue
		}
		at[k] = len(groups)
		groups = append(groups, []result.Scenario{scenario})
	}
	return groups
}

func toldByFinding(scenario result.Scenario) bool {
	for _, step := range scenario.Steps {
		for _, claim := range step.Claims {
			if needsAttention(claim) && claim.Reason != "" && strings.Contains(scenario.Reason, claim.Reason) {
				return true
			}
		}
	}
	return false
}

func field(w io.Writer, name, value string) {
	if value != "" {
		fmt.Fprintf(w, "    %-9s %s\n", name, value)
	}
}

// Summary writes the findings and the last block. report is the path of the
// HTML page.
func Summary(w io.Writer, run *result.Run, report string) error {
	out := bufio.NewWriter(w)
	for _, group := range alike(run.Scenarios) {
		Reason(out, group...)
	}
	all := findings(run)
	for _, f := range all {
		f.write(out)
	}
	digest(out, all)
	ran := 0
	for _, scenario := range run.Scenarios {
		if scenario.Outcome != result.Skipped {
			ran++
		}
	}
	fmt.Fprintf(out, "\nRan %d of %d scenarios in %s   seed %d\n", ran, len(run.Scenarios), run.Finished.Sub(run.Started).Round(time.Second/10), run.Seed)
	parts(out, run)
	s := run.Summary
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.Passed, s.Failed, s.Skipped)
	if s.Flaky > 0 {
		fmt.Fprintf(out, "%d flaky: not the same in all attempts, which makes none of them good\n", s.Flaky)
	}
	fmt.Fprintf(out, "%d claims in all, %d inconclusive\n", s.Total, s.Inconclusive)
	stoodIn(out, run)
	wallTime(out, run)
	if run.Changes != nil {
		Changes(out, run.Changes)
	}
	for _, f := range run.Figures {
		fmt.Fprintf(out, "%s %.4g %s (n=%d", f.Name, f.Value, f.Unit, f.N)
		if f.Target != 0 {
			fmt.Fprintf(out, ", target %.4g", f.Target)
		}
		fmt.Fprintln(out, ")")
	}
	fmt.Fprintf(out, "report  %s\n", report)
	fmt.Fprintf(out, "outcome %s, exit code %d", run.Outcome, run.ExitCode)
	if run.Reason != "" {
		fmt.Fprintf(out, ": %s", run.Reason)
	}
	fmt.Fprintln(out)
	return out.Flush()
}

// stoodIn says where something else answered in the place of an image.
func stoodIn(w io.Writer, run *result.Run) {
	for _, scenario := range run.Scenarios {
		if len(scenario.StandIns) > 0 {
			fmt.Fprintf(w, "%s: stand-ins ran in place of %s\n", scenario.Name, strings.Join(scenario.StandIns, ", "))
		}
	}
}
