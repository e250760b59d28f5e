// Package compare sets two runs side by side, claim by claim, and says where
// their verdicts differ.
//
// Two result trees flow in; differences, and those claims about which nothing
// can be said, flow out; and by how much latencies and the propagation of changes
// have shifted, where both runs have measured them. A claim is known by its names
// (result.Identity), so runs on different clusters, of different selections and
// of different shards can be compared. It refuses a run in which two claims
// cannot be told apart. Shifts between kinds of clusters are shown and not judged.
package compare

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// SchemaVersion of the JSON form of a Comparison.
const SchemaVersion = 1

// Comparison is what two runs have in common, and what not.
type Comparison struct {
	SchemaVersion int     `json:"schemaVersion"`
	Old           Subject `json:"old"`
	New           Subject `json:"new"`
	Totals        Totals  `json:"totals"`
	// Differ are the claims that both runs judged, with different verdicts.
	Differ []Pair `json:"differ,omitempty"`
	// JudgedInOne are the claims that both runs have and one of them skipped.
	JudgedInOne []Pair `json:"judgedInOne,omitempty"`
	// OnlyInOne are the claims that one of the runs does not have at all.
	OnlyInOne []Pair `json:"onlyInOne,omitempty"`
	// Appeared and Vanished are scenarios by name.
	Appeared []string `json:"appeared,omitempty"`
	Vanished []string `json:"vanished,omitempty"`
	// Shifts are measured values that both runs have.
	Shifts []Shift `json:"shifts,omitempty"`
}

// Worse counts the verdicts that weigh more than before, and the shifts that are
// regressions.
func (c *Comparison) Worse() (verdicts, shifts int) {
	for _, pair := range c.Differ {
		if pair.New.Outcome.Worse(pair.Old.Outcome) {
			verdicts++
		}
	}
	for _, s := range c.Shifts {
		if s.Regression {
			shifts++
		}
	}
	return verdicts, shifts
}

// Subject is one of the two runs.
type Subject struct {
	ID      string         `json:"id"`
	Cluster result.Cluster `json:"cluster"`
	Outcome result.Outcome `json:"outcome"`
	Claims  int            `json:"claims"`
}

// Totals count claims. InBoth = Same + Differ + JudgedInOne + SkippedInBoth.
type Totals struct {
	InBoth        int `json:"inBoth"`
	Same          int `json:"same"`
	Differ        int `json:"differ"`
	JudgedInOne   int `json:"judgedInOne"`
	SkippedInBoth int `json:"skippedInBoth"`
	OnlyInOld     int `json:"onlyInOld"`
	OnlyInNew     int `json:"onlyInNew"`
}

// Judged is how many claims were judged in both runs: nothing can be said when
// it is none.
func (t Totals) Judged() int { return t.Same + t.Differ }

// String is the last line of every form of output.
func (t Totals) String() string {
	text := fmt.Sprintf("%d claims in both, %d differ, %d judged in one only", t.InBoth, t.Differ, t.JudgedInOne)
	if t.SkippedInBoth > 0 {
		text += fmt.Sprintf(", %d skipped in both", t.SkippedInBoth)
	}
	if t.OnlyInOld+t.OnlyInNew > 0 {
		text += fmt.Sprintf("; %d only in the first run, %d only in the second", t.OnlyInOld, t.OnlyInNew)
	}
	return text
}

// Pair is one claim in both runs; a side is nil when its run has no such claim.
type Pair struct {
	result.Identity
	Source result.Source `json:"source"`
	Old    *Verdict      `json:"old,omitempty"`
	New    *Verdict      `json:"new,omitempty"`
}

// Verdict is the outcome of a claim and the first line of its reason.
type Verdict struct {
	Outcome result.Outcome `json:"outcome"`
	Reason  string         `json:"reason,omitempty"`
}

// Runs compares two runs. The error says in which of them claims cannot be told
// apart.
func Runs(older, newer *result.Run, limits Limits) (*Comparison, error) {
	oldClaims, oldOrder, err := older.Index()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", older.ID, err)
	}
	newClaims, newOrder, err := newer.Index()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", newer.ID, err)
	}
	out := &Comparison{SchemaVersion: SchemaVersion, Old: subject(older, len(oldOrder)), New: subject(newer, len(newOrder))}
	for _, id := range oldOrder {
		was, is := oldClaims[id], newClaims[id]
		if is == nil {
			out.Totals.OnlyInOld++
			out.OnlyInOne = append(out.OnlyInOne, Pair{Identity: id, Source: was.Source, Old: verdict(was)})
			continue
		}
		out.Totals.InBoth++
		pair := Pair{Identity: id, Source: is.Source, Old: verdict(was), New: verdict(is)}
		switch skipped := result.Skipped; {
		case was.Outcome == skipped && is.Outcome == skipped:
			out.Totals.SkippedInBoth++
		case was.Outcome == skipped || is.Outcome == skipped:
			out.Totals.JudgedInOne++
			out.JudgedInOne = append(out.JudgedInOne, pair)
		case was.Outcome == is.Outcome:
			out.Totals.Same++
		default:
			out.Totals.Differ++
			out.Differ = append(out.Differ, pair)
		}
	}
	for _, id := range newOrder {
		if oldClaims[id] == nil {
			out.Totals.OnlyInNew++
			out.OnlyInOne = append(out.OnlyInOne, Pair{Identity: id, Source: newClaims[id].Source, New: verdict(newClaims[id])})
		}
	}
	out.Appeared, out.Vanished = lacking(newer, older), lacking(older, newer)
	out.Shifts = shifts(older, newer, limits)
	return out, nil
}

// lacking are the scenarios of one run that the other does not have.
func lacking(of, in *result.Run) []string {
	var names []string
	for _, s := range of.Scenarios {
		if !slices.ContainsFunc(in.Scenarios, func(other result.Scenario) bool { return other.Name == s.Name }) {
			names = append(names, s.Name)
		}
	}
	return names
}

func subject(run *result.Run, claims int) Subject {
	return Subject{ID: run.ID, Cluster: run.Cluster, Outcome: run.Outcome, Claims: claims}
}

func verdict(claim *result.Claim) *Verdict {
	reason := claim.Reason
	if reason == "" && claim.Outcome != result.Passed {
		reason = claim.Observed
	}
	first, _, _ := strings.Cut(strings.TrimSpace(reason), "\n")
	return &Verdict{claim.Outcome, first}
}
