package html

import (
	"slices"

	"github.com/meshproof/meshproof/reports/result"
)

// matrix is clients by targets; a cell holds what was last observed there.
type matrix struct {
	Targets []string
	Rows    []matrixRow
}

type matrixRow struct {
	Client string
	Cells  []cell
}

type cell struct {
	Observed string
	Outcome  result.Outcome
	Changed  bool
	Known    bool
	// Why is the claim that saw it, with its reason.
	Why string
}

type place struct{ client, target string }

// steps folds the claims of a scenario into the matrix before and after each
// step. A step without cells of its own shows none.
func steps(scenario result.Scenario) []stepView {
	var views []stepView
	known := map[place]cell{}
	for _, step := range scenario.Steps {
		next := map[place]cell{}
		for p, c := range known {
			c.Changed = false
			next[p] = c
		}
		touched := false
		for _, claim := range step.Claims {
			if claim.Client == "" || claim.Target == "" || claim.Outcome == result.Skipped {
				continue
			}
			touched = true
			p := place{claim.Client, claim.Target + " " + claim.Protocol}
			old, was := known[p]
			why := claim.Name
			if claim.Reason != "" {
				why += ": " + claim.Reason
			}
			next[p] = cell{Observed: claim.Observed, Outcome: claim.Outcome, Known: true, Changed: was && old.Observed != claim.Observed, Why: why}
		}
		v := stepView{Step: step}
		if touched {
			if len(known) > 0 {
				v.Before = fold(known)
			}
			v.After = fold(next)
		}
		views = append(views, v)
		known = next
	}
	return views
}

func fold(cells map[place]cell) *matrix {
	var clients, targets []string
	for p := range cells {
		clients, targets = append(clients, p.client), append(targets, p.target)
	}
	slices.Sort(clients)
	slices.Sort(targets)
	m := &matrix{Targets: slices.Compact(targets)}
	for _, client := range slices.Compact(clients) {
		row := matrixRow{Client: client}
		for _, target := range m.Targets {
			row.Cells = append(row.Cells, cells[place{client, target}])
		}
		m.Rows = append(m.Rows, row)
	}
	return m
}
