package order

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// maxCalls bounds how many calls are named that have the same gap.
const maxCalls = 4

// Report is a plan in the words of people and programs.
type Report struct {
	// Writes and Calls in the order given; the others refer to them by their words.
	Writes []string `json:"writes"`
	Calls  []string `json:"calls"`
	// Exact says that all orders were walked; Orders are how many there are, and
	// Clean the ones among them without a gap, if so.
	Exact  bool    `json:"exact"`
	Orders float64 `json:"orders"`
	Clean  float64 `json:"clean"`
	// Given is the order as it was given, and Recommended the one to take.
	Given       ReportedOrder `json:"given"`
	Recommended ReportedOrder `json:"recommended"`
	// AtOnce may happen when nobody waits between the writes of the given order.
	AtOnce []ReportedGap `json:"atOnce,omitempty"`
}

// ReportedOrder is an order with its gaps.
type ReportedOrder struct {
	Writes []string      `json:"writes"`
	Gaps   []ReportedGap `json:"gaps"`
}

// ReportedGap is a gap of some calls that have it in common.
type ReportedGap struct {
	Kind Kind `json:"kind"`
	// After and Until are the numbers of the writes between which it is open, from 1.
	After   int            `json:"after,omitempty"`
	Until   int            `json:"until,omitempty"`
	Outcome oracle.Outcome `json:"outcome"`
	Calls   []string       `json:"calls"`
}

// Report puts the plan into words.
func (p *Plan) Report() *Report {
	r := &Report{Exact: p.Exact, Orders: p.Orders, Clean: p.Clean, Writes: p.words(nil), AtOnce: p.together(p.AtOnce)}
	for _, c := range p.Calls {
		r.Calls = append(r.Calls, c.Name)
	}
	r.Given = ReportedOrder{p.words(p.AsWritten.Steps), p.together(p.AsWritten.Gaps)}
	r.Recommended = ReportedOrder{p.words(p.Best.Steps), p.together(p.Best.Gaps)}
	return r
}

// words are writes by their places; nil means all.
func (p *Plan) words(places []int) []string {
	var out []string
	if places == nil {
		for i := range p.Writes {
			places = append(places, i)
		}
	}
	for _, i := range places {
		out = append(out, p.Writes[i].String())
	}
	return out
}

// together joins the gaps that differ by their calls only.
func (p *Plan) together(gaps []Gap) []ReportedGap {
	out := []ReportedGap{}
	for _, g := range gaps {
		at := slices.IndexFunc(out, func(o ReportedGap) bool {
			return o.Kind == g.Kind && o.After == g.After && o.Until == g.Until && o.Outcome == g.Outcome
		})
		if at < 0 {
			at = len(out)
			out = append(out, ReportedGap{Kind: g.Kind, After: g.After, Until: g.Until, Outcome: g.Outcome})
		}
		out[at].Calls = append(out[at].Calls, p.Calls[g.Call].Name)
	}
	return out
}

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	out := &strings.Builder{}
	fmt.Fprintf(out, "%s, %s", count(len(r.Writes), "write"), count(len(r.Calls), "call"))
	switch {
	case r.Exact:
		fmt.Fprintf(out, ": %.0f of %.0f orders have no gap\n", r.Clean, r.Orders)
	default:
		fmt.Fprintf(out, ": %.3g orders, too many to walk; some were searched\n", r.Orders)
	}
	same := slices.Equal(r.Given.Writes, r.Recommended.Writes)
	if !same {
		r.Recommended.write(out, "recommended")
	}
	r.Given.write(out, map[bool]string{true: "as given, and as good as any", false: "as given"}[same])
	if len(r.AtOnce) > 0 {
		fmt.Fprint(out, "\nwritten at once, without waiting for each to be in force:\n")
		for _, g := range r.AtOnce {
			fmt.Fprintf(out, "  %s\n", g.text("maybe "))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (o *ReportedOrder) write(w io.Writer, title string) {
	gaps := "no gap"
	if len(o.Gaps) > 0 {
		var kinds []string
		for _, kind := range []Kind{Allow, Deny} {
			n := 0
			for _, g := range o.Gaps {
				if g.Kind == kind {
					n += len(g.Calls)
				}
			}
			if n > 0 {
				kinds = append(kinds, count(n, string(kind)+" gap"))
			}
		}
		gaps = strings.Join(kinds, ", ")
	}
	fmt.Fprintf(w, "\n%s: %s\n", title, gaps)
	for i, write := range o.Writes {
		fmt.Fprintf(w, "  %d. %s\n", i+1, write)
		for _, g := range o.Gaps {
			if g.After == i+1 {
				fmt.Fprintf(w, "       %s\n", g.text(fmt.Sprintf("until write %d, ", g.Until)))
			}
		}
	}
}

// text is a gap in a line.
func (g *ReportedGap) text(when string) string {
	calls := g.Calls
	if more := len(calls) - maxCalls; more > 0 {
		calls = append(slices.Clone(calls[:maxCalls]), fmt.Sprintf("and %d more", more))
	}
	word := "denied"
	if g.Kind == Allow {
		word = "LET THROUGH"
	}
	return fmt.Sprintf("%s%s (%s): %s", when, word, g.Outcome, strings.Join(calls, "; "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
