// Package html writes the result tree as one self-contained page that opens
// from disk: no network, no build step, everything escaped by html/template.
//
// The page says first what the verdict is, then whether the traffic that was
// meant to be sent was sent, then what needs attention, then every scenario: the
// time line of its requests, and for each step the matrix of client by target
// before and after it. How long changes took, what was never seen and what the run's
// time went into follow.
// Time lines are drawn by the page's own script from columns that stand in it
// once, compressed; everything else is there without a script, too. The page
// adds no judgement of its own.
package html

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/meshproof/meshproof/reports/conformance"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
	"github.com/meshproof/meshproof/reports/timeline"
)

//go:embed page.html
var pageSource string

//go:embed page.css
var css string

//go:embed page.js
var pageJS string

//go:embed timeline.js
var timelineJS string

// js is all of the page's script.
var js = `"use strict";` + "\n" + timelineJS + pageJS

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"symbol":   text.Symbol,
	"seconds":  func(s float64) string { return fmt.Sprintf("%.1f s", s) },
	"quantity": func(v float64) string { return fmt.Sprintf("%.4g", v) },
	"span":     span,
}).Parse(pageSource))

// view is what the page shows.
type view struct {
	Run *result.Run
	CSS template.CSS
	JS  template.JS
	// Policy is the content security policy: nothing but the page's own style
	// and script, known by their hashes, may take effect.
	Policy   string
	Harms    []harm
	Replay   string
	Fidelity *fidelity
	Findings []findingGroup
	// Chips count the scenarios of each outcome.
	Chips     []chip
	Scenarios []scenarioView
	Curves    []curve
	Coverage  *coverage
	WallTime  *wallTime
	// Profiles tell of features; none where the run tells of none.
	Profiles []conformance.Profile
}

// harm counts what weighs most in a verdict.
type harm struct {
	Name string
	N    int
}

type chip struct {
	Outcome result.Outcome
	N       int
}

type scenarioView struct {
	result.Scenario
	ID    string
	Count result.Summary
	Steps []stepView
	// Data is the scenario's time line, as compressed JSON in base64; empty for a
	// scenario without one.
	Data template.HTML
	Line *timeline.Timeline
}

type stepView struct {
	result.Step
	Before, After *matrix
}

// Write writes the page.
func Write(w io.Writer, run *result.Run) error {
	v := view{Run: run, CSS: template.CSS(css), JS: template.JS(js), Replay: replay(run),
		Policy: fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'", hash(css), hash(js))}
	evidence := run.Evidence
	if evidence == nil {
		evidence = &timeline.Evidence{}
	}
	v.Harms, v.Fidelity, v.Curves, v.Coverage = harms(run, evidence), fidelityOf(evidence), curves(evidence), coverageOf(evidence.Coverage)
	lines := map[string]*timeline.Timeline{}
	for i := range evidence.Timelines {
		lines[evidence.Timelines[i].Scenario] = &evidence.Timelines[i]
	}
	v.Findings = findings(run, lines)
	counts := map[result.Outcome]int{}
	ids := anchors(run.Scenarios)
	v.WallTime = wallTimeOf(run, ids)
	for i, scenario := range run.Scenarios {
		one := result.Run{Scenarios: []result.Scenario{scenario}}
		s := scenarioView{Scenario: scenario, ID: ids[i], Count: one.Count(), Steps: steps(scenario), Line: lines[scenario.Name]}
		if s.Line != nil {
			var err error
			if s.Data, err = packed(s.Line); err != nil {
				return fmt.Errorf("the time line of %s: %w", scenario.Name, err)
			}
		}
		v.Scenarios = append(v.Scenarios, s)
		counts[scenario.Outcome]++
	}
	for _, o := range []result.Outcome{result.Failed, result.Error, result.Inconclusive, result.Passed, result.Skipped} {
		if counts[o] > 0 {
			v.Chips = append(v.Chips, chip{o, counts[o]})
		}
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

// anchors are the names under which scenarios can be linked to: their own, made
// harmless and told apart.
func anchors(scenarios []result.Scenario) []string {
	var ids []string
	taken := map[string]int{}
	for _, s := range scenarios {
		id := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
				return r
			}
			return '-'
		}, s.Name)
		if taken[id]++; taken[id] > 1 {
			id = fmt.Sprintf("%s.%d", id, taken[id])
		}
		ids = append(ids, id)
	}
	return ids
}

// replay is what to type to see the same again: what did not pass, or all.
func replay(run *result.Run) string {
	if run.Outcome == result.Passed || run.ID == "" {
		return fmt.Sprintf("meshproof run --seed %d", run.Seed)
	}
	return "meshproof run --rerun-failed artifacts/" + run.ID
}

// harms are leaks and outages where requests were judged one by one: as the run
// has concluded, or else as its history tells.
func harms(run *result.Run, evidence *timeline.Evidence) []harm {
	if c := run.Changes; c != nil && c.Requests > 0 {
		return []harm{{"leaks", c.Leaks}, {"outages", c.Outages}, {"requests judged", c.Requests}}
	}
	leaks, outages, requests := 0, 0, 0
	for _, line := range evidence.Timelines {
		requests += len(line.Requests.Call)
		for _, f := range line.Findings {
			switch f.Harm {
			case "leak":
				leaks++
			case "outage":
				outages++
			}
		}
	}
	if requests == 0 {
		return nil
	}
	return []harm{{"leaks", leaks}, {"outages", outages}, {"requests judged", requests}}
}

// findingGroup are the claims that did not pass for one reason.
type findingGroup struct {
	Reason  string
	Outcome result.Outcome
	Claims  []findingView
	More    int
}

type findingView struct {
	Anchor, Where string
	Claim         result.Claim
	// Request is the first one that the claim tells of and the time line shows.
	Request string
}

// tellsOf is the request of the time line's first finding that a claim tells of.
func tellsOf(claim *result.Claim, line *timeline.Timeline) string {
	if line == nil {
		return ""
	}
	said := strings.Join(append([]string{claim.Reason}, claim.Details...), "\n")
	for _, f := range line.Findings {
		if f.Request < 0 {
			continue
		}
		if id := line.Requests.ID[f.Request]; id != "" && strings.Contains(said, id) {
			return id
		}
	}
	return ""
}

// maxLikewise is how many claims of one reason are shown in full.
const maxLikewise = 20

func findings(run *result.Run, lines map[string]*timeline.Timeline) []findingGroup {
	var groups []findingGroup
	at := map[string]int{}
	ids := anchors(run.Scenarios)
	add := func(reason string, o result.Outcome, f findingView) {
		key := string(o) + reason
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key] = i
			groups = append(groups, findingGroup{Reason: reason, Outcome: o})
		}
		if len(groups[i].Claims) == maxLikewise {
			groups[i].More++
			return
		}
		groups[i].Claims = append(groups[i].Claims, f)
	}
	for i, scenario := range run.Scenarios {
		told := false
		for _, step := range scenario.Steps {
			for _, claim := range step.Claims {
				if claim.Outcome == result.Passed || claim.Outcome == result.Skipped {
					continue
				}
				told = true
				reason := claim.Reason
				if reason == "" {
					reason = claim.Observed
				}
				reason, _, _ = strings.Cut(reason, "\n")
				add(reason, claim.Outcome, findingView{ids[i], scenario.Name + " / " + step.Name, claim, tellsOf(&claim, lines[scenario.Name])})
			}
		}
		if !told && scenario.Outcome != result.Passed && scenario.Outcome != result.Skipped {
			add(scenario.Reason, scenario.Outcome, findingView{Anchor: ids[i], Where: scenario.Name})
		}
	}
	return groups
}
