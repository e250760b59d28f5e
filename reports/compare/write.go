package compare

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/meshproof/meshproof/reports/result"
)

// Format is one form of output.
type Format struct {
	Name  string
	Write func(io.Writer, *Comparison) error
}

// Formats lists every form of output, the default first.
func Formats() []Format {
	return []Format{{"table", WriteTable}, {"json", WriteJSON}, {"md", WriteMarkdown}}
}

// maxRows bounds the claims that are listed only because one run does not have
// them: two shards have nothing in common, and that takes one line to say.
const maxRows = 20

// section is one list of claims with what it is about.
type section struct {
	title string
	pairs []Pair
	// most is how many are listed; 0 is all.
	most int
}

func (c *Comparison) sections() []section {
	return []section{
		{"Verdicts that differ", c.Differ, 0},
		{"Judged in one run only, which is no difference", c.JudgedInOne, 0},
		{"Claims that only one run has", c.OnlyInOne, maxRows},
	}
}

// listed are the pairs to list, and a line about those that are not.
func (s section) listed() ([]Pair, string) {
	if s.most == 0 || len(s.pairs) <= s.most {
		return s.pairs, ""
	}
	return s.pairs[:s.most], fmt.Sprintf("and %d more; the JSON form has them all", len(s.pairs)-s.most)
}

// WriteTable writes what people read on a terminal.
func WriteTable(w io.Writer, c *Comparison) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "first   %s\nsecond  %s\n", c.Old, c.New)
	for _, s := range c.sections() {
		if len(s.pairs) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s\n", s.title)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "CLAIM\tFIRST\tSECOND\tREASON")
		pairs, more := s.listed()
		for _, pair := range pairs {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", pair.Identity, pair.Old.word(), pair.New.word(), pair.reason())
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if more != "" {
			fmt.Fprintln(out, more)
		}
	}
	if len(c.Shifts) > 0 {
		fmt.Fprintf(out, "\n%s\n", shiftsTitle)
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "VALUE\tFIRST\tSECOND\tSHIFT\tP")
		for _, s := range c.Shifts {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.3f\n", s.Name, s.Old.text(s.Unit), s.New.text(s.Unit), s.delta(), s.P)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, line := range c.scenarios() {
		fmt.Fprintf(out, "\n%s\n", line)
	}
	fmt.Fprintf(out, "\n%s\n", c.Totals)
	return out.Flush()
}

const shiftsTitle = "Medians of measured values; ~ is hardly more than chance"

// scenarios are those that only one run has, in a line for each run.
func (c *Comparison) scenarios() []string {
	var lines []string
	for _, list := range []struct {
		what  string
		names []string
	}{{"new", c.Appeared}, {"vanished", c.Vanished}} {
		if n := len(list.names); n > 0 {
			shown := list.names[:min(n, maxRows)]
			line := fmt.Sprintf("%d scenarios are %s: %s", n, list.what, strings.Join(shown, ", "))
			if n > len(shown) {
				line += fmt.Sprintf(" and %d more", n-len(shown))
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// WriteMarkdown writes a comment for a pull request.
func WriteMarkdown(w io.Writer, c *Comparison) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "### Verdicts of two runs\n\n- first: %s\n- second: %s\n\n**%s**\n", cell(c.Old.String()), cell(c.New.String()), c.Totals)
	for _, s := range c.sections() {
		if len(s.pairs) == 0 {
			continue
		}
		fmt.Fprintf(out, "\n#### %s\n\n| claim | first | second | reason |\n|---|---|---|---|\n", s.title)
		pairs, more := s.listed()
		for _, pair := range pairs {
			fmt.Fprintf(out, "| %s | %s | %s | %s |\n", cell(pair.Identity.String()), pair.Old.word(), pair.New.word(), cell(pair.reason()))
		}
		if more != "" {
			fmt.Fprintf(out, "\n%s\n", more)
		}
	}
	if len(c.Shifts) > 0 {
		fmt.Fprintf(out, "\n#### %s\n\n| value | first | second | shift | p |\n|---|--:|--:|--:|--:|\n", shiftsTitle)
		for _, s := range c.Shifts {
			fmt.Fprintf(out, "| %s | %s | %s | %s | %.3f |\n", cell(s.Name), s.Old.text(s.Unit), s.New.text(s.Unit), cell(s.delta()), s.P)
		}
	}
	for _, line := range c.scenarios() {
		fmt.Fprintf(out, "\n%s\n", cell(line))
	}
	return out.Flush()
}

// WriteJSON writes the comparison as it is.
func WriteJSON(w io.Writer, c *Comparison) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(c)
}

// cell is text that breaks no table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", ">", "&gt;").Replace(text)
}

func (s Subject) String() string {
	text := fmt.Sprintf("%s: %d claims, %s", s.ID, s.Claims, s.Outcome)
	if s.Cluster.Provider != "" {
		text += fmt.Sprintf(", %s cluster of %d", s.Cluster.Provider, s.Cluster.Nodes)
		if s.Cluster.Nodes == 1 {
			text += " node"
		} else {
			text += " nodes"
		}
	}
	if s.Cluster.Kubernetes != "" {
		text += ", Kubernetes " + s.Cluster.Kubernetes
	}
	return text
}

func (v *Verdict) word() string {
	if v == nil {
		return "–"
	}
	return string(v.Outcome)
}

// reason is that of the side that has more to explain: the one that was skipped
// or did not pass, the second run's before the first's.
func (p Pair) reason() string {
	for _, side := range []*Verdict{p.New, p.Old} {
		if side != nil && side.Outcome != result.Passed && side.Reason != "" {
			return side.Reason
		}
	}
	return ""
}
