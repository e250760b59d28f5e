package rulebook

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/meshproof/meshproof/reports/result"
)

// WriteJSON writes the report with every claim and test.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// WriteTable writes a line per rule.
func (r *Report) WriteTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tSHOWN\tCLAIMS\tTESTS\tTURNED\tFEATURE\tTEXT")
	for i := range r.Rules {
		e := &r.Rules[i]
		shown, claims, tests := e.cells()
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, shown, claims, tests, e.Turned(), e.Feature, e.remark())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nclaims and tests: passed of all; turned: passed claims that would fail if the contrary held\n%s%s\n", r.notShown(), r.Totals())
	return err
}

// notShown is a line for each rule that is not shown, next to the totals: who
// reads the end of a log only reads what to mend.
func (r *Report) notShown() string {
	var text strings.Builder
	for _, e := range r.Rules {
		if e.OutOfScope == "" && !e.Shown {
			fmt.Fprintf(&text, "not shown: %s: %s\n", e.ID, e.Why)
		}
	}
	return text.String()
}

// WriteMarkdown writes a table per section.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var text strings.Builder
	section := ""
	for i := range r.Rules {
		e := &r.Rules[i]
		if e.Section != section {
			section = e.Section
			fmt.Fprintf(&text, "### %s\n\n| rule | shown | claims | tests | turned | feature | text |\n|---|---|---|---|---|---|---|\n", section)
		}
		shown, claims, tests := e.cells()
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s | %s |\n", e.ID, shown, claims, tests, e.Turned(), e.Feature, strings.ReplaceAll(e.remark(), "|", "\\|"))
		if i+1 == len(r.Rules) || r.Rules[i+1].Section != section {
			text.WriteString("\n")
		}
	}
	_, err := fmt.Fprintf(w, "%s%s\n", text.String(), r.Totals())
	return err
}

// cells are whether the rule is shown, and passed of all claims and tests.
func (e *Entry) cells() (shown, claims, tests string) {
	switch {
	case e.OutOfScope != "":
		return "out", "-", "-"
	case e.Shown:
		shown = "yes"
	default:
		shown = "NO"
	}
	claims, tests = "-", "-"
	if len(e.Claims) > 0 {
		claims = fmt.Sprintf("%d/%d", e.Counts()[result.Passed], len(e.Claims))
	}
	if len(e.Outcomes) > 0 {
		tests = fmt.Sprintf("%d/%d", e.TestsPassed(), len(e.Outcomes))
	}
	return shown, claims, tests
}

// remark is the rule's text, with the reason where there is one to tell.
func (e *Entry) remark() string {
	switch {
	case e.OutOfScope != "":
		return e.Text + " [out of scope: " + e.OutOfScope + "]"
	case e.Why != "":
		return e.Text + " [" + e.Why + "]"
	case e.Unseen != "" && e.Counts()[result.Passed] == 0:
		return e.Text + " [tests: " + e.Unseen + "]"
	}
	return e.Text
}
