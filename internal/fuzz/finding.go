package fuzz

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// Kind says what is wrong: while a scenario is made smaller it must stay the same.
type Kind string

// The kinds, which Kinds lists.
const (
	// Leak: what should have been denied was let through.
	Leak Kind = "leak"
	// Outage: what should have been let through was not.
	Outage Kind = "outage"
	// Form: it was denied, and in another form than it should have been.
	Form Kind = "form"
	// Record: the client saw what it should, and the proxy's records, its counters or
	// the application's log are at odds with that.
	Record Kind = "record"
	// Late: a change was not in force in time.
	Late Kind = "late"
	// Course: while a change came into force a stream saw what it cannot have.
	Course Kind = "course"
	// Broken: the scenario could not be carried out.
	Broken Kind = "broken"
	// Unlike: two worlds that must look the same did not.
	Unlike Kind = "unlike"
)

// Kinds lists every Kind.
func Kinds() []Kind { return []Kind{Leak, Outage, Form, Record, Late, Course, Broken, Unlike} }

// Finding is what was found in a generated scenario.
type Finding struct {
	Kind Kind
	Case *generate.Case
	// Step and Claim that tell of it, counted from 0, in the scenario as it was
	// generated; -1 for what is about the whole scenario.
	Step, Claim int
	// Name of the claim, and what was expected and observed.
	Name, Reason, Expected, Observed string
	// Found is when, since the beginning of the run.
	Found time.Duration
	// Small is the smallest scenario in which it recurred, Shrunk what it took.
	Small  *scenarios.Scenario
	Shrunk Shrunk
	// File is where the smallest scenario was written.
	File string
}

// Shrunk is what making a scenario smaller took.
type Shrunk struct {
	Attempts int
	Took     time.Duration
	// Again is how often the smallest scenario showed the finding once more, of
	// Of times.
	Again, Of int
}

// find is the first finding in a scenario's result; nil when there is none.
func find(res *result.Scenario, c *generate.Case) *Finding {
	for i := range res.Steps {
		step := &res.Steps[i]
		for j := range step.Claims {
			claim := &step.Claims[j]
			if claim.Outcome != result.Failed && claim.Outcome != result.Error {
				continue
			}
			return &Finding{Kind: kindOf(step, claim), Case: c, Step: i, Claim: j, Name: claim.Name, Reason: claim.Reason, Expected: claim.Expected, Observed: claim.Observed}
		}
		if step.Outcome == result.Failed && step.Reason != "" {
			kind := Late
			if len(step.Claims) > 0 { // they have all been judged, and are right
				kind = Course
			}
			return &Finding{Kind: kind, Case: c, Step: i, Claim: -1, Name: step.Name, Reason: step.Reason}
		}
	}
	return nil
}

// kindOf says what is wrong about a claim that failed.
func kindOf(step *result.Step, claim *result.Claim) Kind {
	if step.Reason != "" && strings.Contains(claim.Reason, step.Reason) {
		return Late // all claims of a step whose policy came too late tell the step's reason
	}
	if claim.Client == "" {
		return Course
	}
	word, _, _ := strings.Cut(claim.Observed, " ")
	seen := clients.Kind(word)
	var expected []clients.Kind
	for word := range strings.SplitSeq(claim.Expected, " or ") {
		expected = append(expected, clients.Kind(word))
	}
	switch {
	case slices.Contains(expected, seen):
		return Record
	case seen == clients.Allowed:
		return Leak
	case slices.Contains(expected, clients.Allowed):
		return Outage
	}
	return Form
}

func (f *Finding) String() string {
	text := fmt.Sprintf("%s in %s, step %d: %s", f.Kind, f.Case.Scenario.Metadata.Name, f.Step, f.Name)
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	return text
}
