package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Plan is what a run will do, with every claim written out.
type Plan struct {
	Set       *Set
	Scenarios []*PlannedScenario
}

// PlannedScenario is one scenario of a plan.
type PlannedScenario struct {
	*Scenario
	Steps []PlannedStep
}

// PlannedStep is a step with its claims.
type PlannedStep struct {
	*Step
	Claims []*PlannedClaim
}

// PlannedClaim is one named expectation.
type PlannedClaim struct {
	// ID is unique within a plan: scenario.step number.claim number. It is
	// a label too.
	ID       string
	Scenario *Scenario
	Step     *Step
	// Claim is as the file has it, or as it follows from spec.traffic; Call is the request of a call claim or of
	// one cell of a matrix, and nil for other forms.
	Claim *Claim
	Call  *Call
	Name  string
	Shows []string
	// Feature is the claim's own, else the scenario's; empty when neither says.
	Feature Feature
	// Skip is the reason why the claim is not judged in this run: the scenario's,
	// or what the run leaves out. Empty: it is judged.
	Skip string
	// Labels are the scenario's, its name, the ID, the feature and its profile,
	// and what the claim shows.
	Labels []string
	// Source is the line that asks for the claim: of a matrix, the cell.
	Source Pos
}

// NewPlan writes out the claims of the scenarios for which keep says yes; a
// nil keep keeps all. Scenarios without a claim that is kept are left out.
func NewPlan(set *Set, keep func(*PlannedClaim) bool) *Plan {
	plan := &Plan{Set: set}
	for _, scenario := range set.Scenarios {
		planned := &PlannedScenario{Scenario: scenario}
		kept := 0
		for i := range scenario.Spec.Steps {
			step := PlannedStep{Step: &scenario.Spec.Steps[i]}
			for _, claim := range expandStep(scenario, i) {
				if keep == nil || keep(claim) {
					step.Claims = append(step.Claims, claim)
					kept++
				}
			}
			planned.Steps = append(planned.Steps, step)
		}
		if kept > 0 {
			plan.Scenarios = append(plan.Scenarios, planned)
		}
	}
	return plan
}

// Claims lists the claims of the plan in order.
func (p *Plan) Claims() []*PlannedClaim {
	var all []*PlannedClaim
	for _, scenario := range p.Scenarios {
		for _, step := range scenario.Steps {
			all = append(all, step.Claims...)
		}
	}
	return all
}

func expandStep(scenario *Scenario, stepIndex int) []*PlannedClaim {
	step := &scenario.Spec.Steps[stepIndex]
	var out []*PlannedClaim
	add := func(claim *Claim, call *Call, name string, shows []string, source Pos) {
		id := fmt.Sprintf("%s.%d.%d", scenario.Metadata.Name, stepIndex+1, len(out)+1)
		feature := cmp.Or(claim.Feature, scenario.Metadata.Feature)
		own := []string{scenario.Metadata.Name, id}
		if feature != "" {
			own = append(own, string(feature), string(feature.Profile()))
		}
		labels := slices.Clone(scenario.Metadata.Labels)
		for _, label := range append(own, shows...) {
			if !slices.Contains(labels, label) {
				labels = append(labels, label)
			}
		}
		out = append(out, &PlannedClaim{ID: id, Scenario: scenario, Step: step, Claim: claim, Call: call, Name: name, Shows: shows,
			Feature: feature, Skip: claim.Skip, Labels: labels, Source: source})
	}
	for i := range step.Claims {
		claim := &step.Claims[i]
		if claim.Matrix == nil {
			add(claim, claim.Call, claim.Name, claim.Shows, claim.Pos)
			continue
		}
		m := claim.Matrix
		for r := range m.Rows {
			row := &m.Rows[r]
			shows := slices.Clone(claim.Shows)
			for _, id := range row.Shows {
				if !slices.Contains(shows, id) {
					shows = append(shows, id)
				}
			}
			for _, call := range m.calls(row) {
				name := fmt.Sprintf("%s: %s → %s over %s", claim.Name, call.Client, row.Target, call.Protocol)
				if len(call.Expect) > 0 {
					name += " is " + call.Expect.String()
				}
				add(claim, call, name, shows, call.Pos)
			}
		}
	}
	for _, claim := range windows(scenario, step) {
		add(claim, nil, claim.Name, claim.Shows, claim.Pos)
	}
	return out
}

// Shown counts the claims of the plan for each statement and rule.
func (p *Plan) Shown() map[string]int {
	shown := map[string]int{}
	for _, claim := range p.Claims() {
		for _, id := range claim.Shows {
			shown[id]++
		}
	}
	return shown
}

// Statement is the name of statement n of the documents.
func Statement(n int) string { return fmt.Sprintf("DOC-%02d", n) }

// Text is the claim's step and name on one line.
func (c *PlannedClaim) Text() string { return strings.TrimSpace(c.Step.Name + " | " + c.Name) }
