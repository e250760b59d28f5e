// Package markdown writes the result tree as one page of Markdown for step
// summaries and comments.
//
// What needs a reader's attention comes first; what was seen in detail and what
// passed are collapsed below it. Headings start at the third level, because the
// page is shown inside other pages, and nothing that a program under test has
// said is taken for markup.
package markdown

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/conformance"
	"github.com/meshproof/meshproof/reports/result"
)

// maxFindings bounds the list of findings: the step summary of a well-known CI
// system is lost as a whole when it grows past a megabyte.
const maxFindings = 200

// maxCell is how many characters of a text stand in a table.
const maxCell = 500

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
	if s.Flaky > 0 {
		fmt.Fprintf(out, "%d of them are flaky: not the same in all attempts, which makes none of them good.\n\n", s.Flaky)
	}
	findings(out, run)
	open(out, fmt.Sprintf("Scenarios (%d)", len(run.Scenarios)))
	fmt.Fprint(out, "| scenario | outcome | passed | failed | inconclusive | skipped | seconds |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, scenario := range run.Scenarios {
		one := result.Run{Scenarios: []result.Scenario{scenario}}
		c := one.Count()
		fmt.Fprintf(out, "| %s | %s | %d | %d | %d | %d | %.1f |\n", escape(scenario.Name), scenario.Outcome, c.Passed, c.Failed, c.Inconclusive, c.Skipped, scenario.Duration)
	}
	end(out)
	features(out, run)
	wallTime(out, run)
	if len(run.Figures) > 0 {
		open(out, "Figures")
		fmt.Fprint(out, "| figure | value | target | n |\n|---|--:|--:|--:|\n")
		for _, f := range run.Figures {
			target := ""
			if f.Target != 0 {
				target = fmt.Sprintf("%.4g %s", f.Target, f.Unit)
			}
			fmt.Fprintf(out, "| %s | %.4g %s | %s | %d |\n", escape(f.Name), f.Value, f.Unit, target, f.N)
		}
		end(out)
	}
	return out.Flush()
}

// features tells of each feature by profile; those of which nothing was judged
// are told, too.
func features(out io.Writer, run *result.Run) {
	if len(run.Features) == 0 {
		return
	}
	open(out, fmt.Sprintf("Features (%d)", len(run.Features)))
	fmt.Fprint(out, "| feature | profile | result | passed | failed | inconclusive | skipped |\n|---|---|---|--:|--:|--:|--:|\n")
	for _, profile := range conformance.Of(run).Profiles {
		for _, f := range profile.Features {
			s := f.Statistics
			fmt.Fprintf(out, "| %s | %s | %s | %d | %d | %d | %d |\n", escape(f.Name), profile.Name, f.Result, s.Passed, s.Failed, s.Inconclusive, s.Skipped)
		}
	}
	end(out)
}

// open begins a part that is collapsed; GitHub and GitLab want the blank line.
func open(out io.Writer, title string) {
	fmt.Fprintf(out, "<details>\n<summary>%s</summary>\n\n", title)
}

func end(out io.Writer) { fmt.Fprint(out, "\n</details>\n\n") }

// finding is a claim that needs attention, or a scenario that does for a reason
// that no claim has.
type finding struct {
	where, outcome, expected, observed string
	source                             result.Source
	details                            []string
}

func findings(out io.Writer, run *result.Run) {
	all := collect(run)
	if len(all) == 0 {
		return
	}
	shown := all[:min(len(all), maxFindings)]
	fmt.Fprint(out, "### Findings\n\n| claim | outcome | expected | observed | where |\n|---|---|---|---|---|\n")
	for _, f := range shown {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s:%d |\n", escape(f.where), f.outcome, escape(f.expected), escape(f.observed), escape(f.source.File), f.source.Line)
	}
	if more := len(all) - len(shown); more > 0 {
		fmt.Fprintf(out, "\n%d more findings are in run.json.\n", more)
	}
	fmt.Fprintln(out)
	shown = slices.DeleteFunc(slices.Clone(shown), func(f finding) bool { return len(f.details) == 0 })
	if len(shown) == 0 {
		return
	}
	open(out, "What was seen")
	fmt.Fprintln(out, "<pre>")
	for _, f := range shown {
		fmt.Fprintf(out, "%s: %s\n", f.outcome, html.EscapeString(f.where))
		for _, line := range f.details {
			fmt.Fprintf(out, "    %s\n", html.EscapeString(strings.Join(strings.Fields(line), " ")))
		}
	}
	fmt.Fprintln(out, "</pre>")
	end(out)
}

func collect(run *result.Run) []finding {
	var all []finding
	for _, scenario := range run.Scenarios {
		if scenario.Outcome == result.Error {
			all = append(all, finding{where: scenario.Name, outcome: string(scenario.Outcome), observed: scenario.Reason, source: scenario.Source})
		}
		for _, step := range scenario.Steps {
			for _, claim := range step.Claims {
				if claim.Outcome == result.Passed || claim.Outcome == result.Skipped {
					continue
				}
				f := finding{where: scenario.Name + " / " + step.Name + " / " + claim.Name, outcome: string(claim.Outcome),
					expected: claim.Expected, observed: claim.Observed, source: claim.Source}
				for _, line := range append([]string{claim.Reason, claim.Witness}, claim.Details...) {
					if line != "" {
						f.details = append(f.details, line)
					}
				}
				all = append(all, f)
			}
		}
	}
	return all
}

// cell keeps a text inside its cell, and a name in it from calling somebody.
var cell = strings.NewReplacer("\\", "\\\\", "|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", "`", "\\`", "*", "\\*", "[", "\\[", "@", "&#64;")

func escape(s string) string {
	if runes := []rune(s); len(runes) > maxCell {
		s = string(runes[:maxCell]) + "…"
	}
	return cell.Replace(s)
}
