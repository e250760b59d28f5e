package text

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

const (
	// maxNamed bounds how many are named of the cells that failed as the first
	// did, and of the scenarios that share a reason in the digest.
	maxNamed = 4
	// manyFindings is from how many different findings on it takes a digest to
	// see what they have in common, and maxDigest bounds its lines.
	manyFindings, maxDigest = 10, 6
)

// finding is what did not hold: a claim, and the further ones that stand on the
// same line of the same scenario and failed for the same reason. Those are cells
// of one matrix.
type finding struct {
	scenario, step string
	claim          result.Claim
	others         []string
}

// findings are those of the run, in its order.
func findings(run *result.Run) []*finding {
	type key struct {
		scenario, step int
		line           int
		outcome        result.Outcome
		reason         string
	}
	var all []*finding
	at := map[key]*finding{}
	for i, scenario := range run.Scenarios {
		for j, step := range scenario.Steps {
			for _, claim := range step.Claims {
				if !needsAttention(claim) {
					continue
				}
				k := key{i, j, claim.Source.Line, claim.Outcome, claim.Reason}
				if first := at[k]; first != nil && claim.Reason != "" {
					first.others = append(first.others, cell(claim))
					continue
				}
				at[k] = &finding{scenario: scenario.Name, step: step.Name, claim: claim}
				all = append(all, at[k])
			}
		}
	}
	return all
}

// cell names a claim among others of its matrix.
func cell(claim result.Claim) string {
	if claim.Client == "" {
		return claim.Name
	}
	return fmt.Sprintf("%s → %s over %s", claim.Client, claim.Target, claim.Protocol)
}

func (f *finding) write(w io.Writer) {
	Finding(w, f.scenario, f.step, f.claim)
	if len(f.others) == 0 {
		return
	}
	field(w, "likewise", some(f.others))
}

// some names the first few.
func some(names []string) string {
	text := strings.Join(names[:min(len(names), maxNamed)], ", ")
	if more := len(names) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// maxBrief bounds the findings that Brief writes.
const maxBrief = 10

// Brief writes the findings of a run in a line each: enough to tell what was wrong
// for who has kept no more than the end of a log.
func Brief(w io.Writer, run *result.Run) {
	all := findings(run)
	for _, f := range all[:min(len(all), maxBrief)] {
		fmt.Fprintf(w, "%s %s: %s / %s / %s", Symbol(f.claim.Outcome), f.claim.Outcome, f.scenario, f.step, f.claim.Name)
		if len(f.others) > 0 {
			fmt.Fprintf(w, " and %d likewise", len(f.others))
		}
		fmt.Fprintf(w, ": %s\n", cmp.Or(f.claim.Reason, "no reason is known"))
		for _, line := range f.claim.Details {
			field(w, "", line)
		}
	}
	if more := len(all) - maxBrief; more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

// Digest says what the findings of a run have in common, when they are many: the
// most frequent reasons, and where each was met first.
func Digest(w io.Writer, run *result.Run) { digest(w, findings(run)) }

func digest(w io.Writer, all []*finding) {
	if len(all) < manyFindings {
		return
	}
	type group struct {
		claims    int
		scenarios []string
		first     *finding
	}
	var groups []*group
	at := map[string]*group{}
	for _, f := range all {
		g := at[f.claim.Reason]
		if g == nil {
			g = &group{first: f}
			at[f.claim.Reason] = g
			groups = append(groups, g)
		}
		g.claims += 1 + len(f.others)
		if !slices.Contains(g.scenarios, f.scenario) {
			g.scenarios = append(g.scenarios, f.scenario)
		}
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(b.claims, a.claims) })
	fmt.Fprint(w, "\nthe most frequent findings:\n")
	for _, g := range groups[:min(len(groups), maxDigest)] {
		c := g.first.claim
		fmt.Fprintf(w, "%6d in %s: %s\n", g.claims, some(g.scenarios), c.Reason)
		fmt.Fprintf(w, "       such as %s / %s (%s:%d)\n", g.first.scenario, c.Name, c.Source.File, c.Source.Line)
	}
}
