// Package html writes the result tree as one self-contained page that opens
// from disk: no network, no build step, everything escaped by html/template.
//
// The page says first what the verdict is, then what needs attention, then
// every scenario with its steps, and for each step the matrix of client by
// target before and after it. The matrices are folded out of the claims; the
// page adds no judgement of its own.
package html

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"

	"github.com/meshproof/meshproof/reports/conformance"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var css string

//go:embed page.js
var js string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"symbol":   text.Symbol,
	"seconds":  func(s float64) string { return fmt.Sprintf("%.1f s", s) },
	"quantity": func(v float64) string { return fmt.Sprintf("%.4g", v) },
}).Parse(pageSource))

// view is what the page shows.
type view struct {
	Run *result.Run
	CSS template.CSS
	JS  template.JS
	// Policy is the content security policy: nothing but the page's own style
	// and script, known by their hashes, may take effect.
	Policy    string
	Scenarios []scenarioView
	// Profiles tell of features; none where the run tells of none.
	Profiles []conformance.Profile
}

type scenarioView struct {
	result.Scenario
	ID    string
	Count result.Summary
	Steps []stepView
}

type stepView struct {
	result.Step
	Before, After *matrix
}

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
}

// Write writes the page.
func Write(w io.Writer, run *result.Run) error {
	v := view{Run: run, CSS: template.CSS(css), JS: template.JS(js),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'", hash(css), hash(js))}
	for i, scenario := range run.Scenarios {
		one := result.Run{Scenarios: []result.Scenario{scenario}}
		v.Scenarios = append(v.Scenarios, scenarioView{Scenario: scenario, ID: fmt.Sprintf("s%d", i), Count: one.Count(), Steps: steps(scenario)})
	}
	if len(run.Features) > 0 {
		v.Profiles = conformance.Of(run).Profiles
	}
	return page.Execute(w, v)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
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
			next[p] = cell{Observed: claim.Observed, Outcome: claim.Outcome, Known: true, Changed: was && old.Observed != claim.Observed}
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
