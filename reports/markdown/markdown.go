// Package markdown writes the result tree as one page of Markdown for step
// summaries and comments.
//
// What needs a reader's attention comes first and whole; what passed is
// counted per scenario. Headings start at the third level, because the page is
// shown inside other pages.
package markdown

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// maxFindings bounds the list of findings: the step summary of a well-known CI
// system is lost as a whole when it grows past a megabyte.
const maxFindings = 200

// Write writes the whole run.
func Write(w io.Writer, run *result.Run) error {
	out := bufio.NewWriter(w)
	s := run.Summary
	fmt.Fprintf(out, "### meshproof: %s\n\n", run.Outcome)
	if run.Reason != "" {
		fmt.Fprintf(out, "%s\n\n", escape(run.Reason))
	}
	fmt.Fprintf(out, "%d claims: %d passed, %d failed, %d inconclusive, %d skipped. Cluster %s (Kubernetes %s), mesh %s %s, dialect %s, seed %d.\n\n",
		s.Total, s.Passed, s.Failed, s.Inconclusive, s.Skipped, run.Cluster.Provider, run.Cluster.Kubernetes, run.Mesh.Name, run.Mesh.Version, run.Mesh.Dialect, run.Seed)
	findings(out, run)
	fmt.Fprint(out, "### Scenarios\n\n| scenario | outcome | passed | failed | inconclusive | skipped | seconds |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, scenario := range run.Scenarios {
		one := result.Run{Scenarios: []result.Scenario{scenario}}
		c := one.Count()
		fmt.Fprintf(out, "| %s | %s | %d | %d | %d | %d | %.1f |\n", escape(scenario.Name), scenario.Outcome, c.Passed, c.Failed, c.Inconclusive, c.Skipped, scenario.Duration)
	}
	if len(run.Figures) > 0 {
		fmt.Fprint(out, "\n### Figures\n\n| figure | value | target | n |\n|---|--:|--:|--:|\n")
		for _, f := range run.Figures {
			target := ""
			if f.Target != 0 {
				target = fmt.Sprintf("%.4g %s", f.Target, f.Unit)
			}
			fmt.Fprintf(out, "| %s | %.4g %s | %s | %d |\n", escape(f.Name), f.Value, f.Unit, target, f.N)
		}
	}
	return out.Flush()
}

func findings(out io.Writer, run *result.Run) {
	n := 0
	for _, scenario := range run.Scenarios {
		for _, step := range scenario.Steps {
			for _, claim := range step.Claims {
				if claim.Outcome == result.Passed || claim.Outcome == result.Skipped {
					continue
				}
				if n++; n == 1 {
					fmt.Fprint(out, "### Findings\n\n| claim | outcome | expected | observed | where |\n|---|---|---|---|---|\n")
				}
				if n > maxFindings {
					continue
				}
				fmt.Fprintf(out, "| %s / %s / %s | %s | %s | %s | %s:%d |\n", escape(scenario.Name), escape(step.Name), escape(claim.Name),
					claim.Outcome, escape(claim.Expected), escape(claim.Observed), escape(claim.Source.File), claim.Source.Line)
			}
		}
	}
	if n > maxFindings {
		fmt.Fprintf(out, "\n%d more findings are in run.json.\n", n-maxFindings)
	}
	if n > 0 {
		fmt.Fprintln(out)
	}
}

var cell = strings.NewReplacer("\\", "\\\\", "|", "\\|", "\n", " ", "<", "&lt;", "`", "\\`")

func escape(s string) string { return cell.Replace(s) }
