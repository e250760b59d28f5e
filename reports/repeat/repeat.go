// Package repeat puts several attempts at one plan together, and lists the claims
// that did not come out the same each time.
//
// Result trees of the attempts flow in, one flows out. A claim's outcome is the
// worst that it ever had: a later attempt shows that a claim is flaky, and never
// makes good what an earlier one has found.
package repeat

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/meshproof/meshproof/reports/result"
)

// Attempt is one run of the plan, or of a part of it.
type Attempt struct {
	Run *result.Run
	// Folder of its evidence below the run's; empty: the run's own.
	Folder string
}

// Fold is the run that the attempts make together. The first one has all
// scenarios; its run is changed and returned.
func Fold(attempts []Attempt) *result.Run {
	out := attempts[0].Run
	if len(attempts) == 1 {
		return out
	}
	for i := range out.Scenarios {
		out.Scenarios[i] = scenario(out.Scenarios[i].Name, attempts)
	}
	for _, a := range attempts[1:] {
		out.Finished = a.Run.Finished
		out.Timings = append(out.Timings, a.Run.Timings...)
		// What ended a later attempt, or kept it from being judged, did so to the run.
		if a.Run.ExitCode > 128 || a.Run.Outcome == result.Error && out.Outcome != result.Error {
			out.Outcome, out.ExitCode, out.Reason = a.Run.Outcome, a.Run.ExitCode, a.Run.Reason
		}
	}
	out.Again()
	return out
}

// scenario is the worst attempt at one, with every claim's worst outcome.
func scenario(name string, attempts []Attempt) result.Scenario {
	var worst result.Scenario
	tries := map[result.Identity][]result.Attempt{}
	claims := map[result.Identity]result.Claim{}
	steps := map[string]result.Outcome{}
	for i, a := range attempts {
		at := slices.IndexFunc(a.Run.Scenarios, func(s result.Scenario) bool { return s.Name == name })
		if at < 0 {
			continue
		}
		s := a.Run.Scenarios[at]
		if a.Folder != "" {
			s.Folder = a.Folder
			if s.Bundle != "" {
				s.Bundle = path.Join(a.Folder, s.Bundle)
			}
		}
		if worst.Name == "" || s.Outcome.Worse(worst.Outcome) {
			worst = s
		}
		for j := range s.Steps {
			step := &s.Steps[j]
			if step.Outcome.Worse(steps[step.Name]) {
				steps[step.Name] = step.Outcome
			}
			for k := range step.Claims {
				claim := step.Claims[k]
				id := result.Identify(&s, step, &claim)
				tries[id] = append(tries[id], result.Attempt{Number: i + 1, Outcome: claim.Outcome, Reason: claim.Reason})
				if old, known := claims[id]; !known || claim.Outcome.Worse(old.Outcome) {
					claims[id] = claim
				}
			}
		}
	}
	worst.Steps = slices.Clone(worst.Steps)
	for j := range worst.Steps {
		step := &worst.Steps[j]
		step.Outcome = steps[step.Name]
		step.Claims = slices.Clone(step.Claims)
		for k := range step.Claims {
			id := result.Identify(&worst, step, &step.Claims[k])
			claim := claims[id]
			claim.Attempts = tries[id]
			if text := claim.Flake(); text != "" {
				claim.Details = append(slices.Clone(claim.Details), text)
				claim.Reason = cmp.Or(claim.Reason, text)
			}
			step.Claims[k] = claim
		}
	}
	return worst
}

// SchemaVersion of flakes.json.
const SchemaVersion = 1

// Flakes is flakes.json: the claims of a run that did not come out the same each
// time. A run without further attempts has none, which says nothing.
type Flakes struct {
	SchemaVersion int    `json:"schemaVersion"`
	Run           string `json:"run"`
	// Attempts is the greatest number of times that a claim was judged.
	Attempts int     `json:"attempts"`
	Flakes   []Flake `json:"flakes"`
}

// Flake is one of them.
type Flake struct {
	result.Identity
	Source   result.Source    `json:"source"`
	Text     string           `json:"text"`
	Attempts []result.Attempt `json:"attempts"`
}

// FlakesOf lists them in the order of the run.
func FlakesOf(run *result.Run) Flakes {
	out := Flakes{SchemaVersion: SchemaVersion, Run: run.ID, Attempts: 1, Flakes: []Flake{}}
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		for j := range s.Steps {
			for k := range s.Steps[j].Claims {
				claim := &s.Steps[j].Claims[k]
				out.Attempts = max(out.Attempts, len(claim.Attempts))
				if claim.Flaky() {
					out.Flakes = append(out.Flakes, Flake{result.Identify(s, &s.Steps[j], claim), claim.Source, claim.Flake(), claim.Attempts})
				}
			}
		}
	}
	return out
}

// WriteFlakes writes flakes.json.
func WriteFlakes(w io.Writer, run *result.Run) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(FlakesOf(run)); err != nil {
		return fmt.Errorf("encode the flakes: %w", err)
	}
	return nil
}
