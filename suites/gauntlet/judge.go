package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// outcome of one defect's turn.
type outcome string

const (
	// caught: a claim has failed that was to fail.
	caught outcome = "caught"
	// missed: the run has come to its end, and no claim has failed that was to.
	missed outcome = "missed"
	// unjudged: the run says nothing about the defect: it could not be set up, or
	// cannot tell.
	unjudged outcome = "not judged"
	// unbuilt: there is no such mesh.
	unbuilt outcome = "not built"
)

// verdict is what became of one defect.
type verdict struct {
	Name      string   `json:"name"`
	Title     string   `json:"title"`
	Part      string   `json:"part"`
	Differs   string   `json:"differs"`
	Scenarios []string `json:"scenarios"`
	Dialect   string   `json:"dialect,omitempty"`
	Outcome   outcome  `json:"outcome"`
	// Reason says why it was not caught, or what was found.
	Reason string `json:"reason"`
	// By is the claim that caught it, and Failed how many have failed.
	By     *result.Identity `json:"by,omitempty"`
	Failed int              `json:"failed"`
	// Catch is from the start of the run, cluster and all, to the end of the step
	// whose claim caught it; Total is the whole turn, without the building. Seconds.
	Catch float64 `json:"catchSeconds,omitempty"`
	Total float64 `json:"totalSeconds"`
	// Tries is how many runs there were: more than one where the first could not
	// be judged.
	Tries int `json:"tries"`
	// Dir is the folder of the run.
	Dir string `json:"dir,omitempty"`
}

func (d *defect) verdict() verdict {
	return verdict{Name: d.Name, Title: d.Title, Part: d.Part, Differs: d.Differs, Scenarios: d.Scenarios, Dialect: d.Dialect}
}

// readRun reads what a run has left in the folder of runs.
func readRun(folder string) (run *result.Run, dir string, err error) {
	dir, err = filepath.EvalSymlinks(filepath.Join(folder, "latest"))
	if err != nil {
		return nil, "", fmt.Errorf("find the run's result: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		return nil, dir, fmt.Errorf("read the run's result: %w", err)
	}
	run = &result.Run{}
	if err := json.Unmarshal(text, run); err != nil {
		return nil, dir, fmt.Errorf("read the run's result %s: %w", dir, err)
	}
	return run, dir, nil
}

// judge says what a run with exit code code shows of the defect.
func (d *defect) judge(v *verdict, run *result.Run, code int) {
	if code != run.ExitCode || code != result.ExitPassed && code != result.ExitFailed {
		v.Outcome, v.Reason = unjudged, fmt.Sprintf("the run ended with exit code %d: %s", code, orElse(run.Reason, string(run.Outcome)))
		return
	}
	failures := failed(run)
	v.Failed = len(failures)
	if code != result.ExitFailed || len(failures) == 0 {
		v.Outcome, v.Reason = missed, "no claim has failed"
		return
	}
	first := failures[0]
	for i, want := range d.Claims {
		found := false
		for _, one := range failures {
			if found = one.is(want); found {
				if i == 0 {
					first = one
				}
				break
			}
		}
		if !found {
			v.Outcome = missed
			v.Reason = fmt.Sprintf("no failed claim is %q; the first that has failed is %s: %s", want, first.id, first.claim.Reason)
			return
		}
	}
	v.Outcome, v.By, v.Catch, v.Reason = caught, &first.id, first.at, orElse(first.claim.Reason, first.claim.Observed)
}

func orElse(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

// failure is a claim that has failed, and when its step was over, in seconds
// from the start of the run.
type failure struct {
	id    result.Identity
	claim *result.Claim
	at    float64
}

// is tells whether this is the claim that was to fail.
func (f failure) is(want wanted) bool {
	return f.id.Scenario == want.scenario && (f.claim.ID == want.part || strings.Contains(f.id.String(), want.part))
}

// failed lists the failed claims, the first that was seen first. Claims that are
// in error have judged nothing.
func failed(run *result.Run) []failure {
	var all []failure
	for i := range run.Scenarios {
		scenario := &run.Scenarios[i]
		at := scenario.Started.Sub(run.Started).Seconds()
		for j := range scenario.Steps {
			step := &scenario.Steps[j]
			at += step.Duration
			for k := range step.Claims {
				claim := &step.Claims[k]
				if claim.Outcome == result.Failed {
					all = append(all, failure{result.Identify(scenario, step, claim), claim, at})
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b failure) int { return cmp.Compare(a.at, b.at) })
	return all
}
