// Package result is the versioned tree that a run leaves behind in run.json.
//
// The engine fills it, every report writer reads it and nothing else. It
// prints nothing and holds no behaviour beyond counting.
package result

import (
	"time"

	"github.com/meshproof/meshproof/reports/timeline"
)

// SchemaVersion is raised when a field changes its meaning or disappears.
const SchemaVersion = 1

// Outcome of a claim, a step, a scenario or a run.
type Outcome string

const (
	Passed       Outcome = "passed"
	Failed       Outcome = "failed"
	Inconclusive Outcome = "inconclusive"
	Skipped      Outcome = "skipped"
	// Error is set-up trouble: the product was not judged.
	Error Outcome = "error"
)

// Run is the whole tree.
type Run struct {
	SchemaVersion int       `json:"schemaVersion"`
	ID            string    `json:"id"`
	Tool          Tool      `json:"tool"`
	Outcome       Outcome   `json:"outcome"`
	ExitCode      int       `json:"exitCode"`
	Reason        string    `json:"reason,omitempty"`
	Started       time.Time `json:"started"`
	Finished      time.Time `json:"finished"`
	Seed          int64     `json:"seed"`
	Summary       Summary   `json:"summary"`
	Cluster       Cluster   `json:"cluster"`
	Mesh          Mesh      `json:"mesh"`
	Timings       []Timing  `json:"timings"`
	// WallTime is what the time from the run's begin until the cluster was given back
	// went into; its Seconds add up to that time.
	WallTime []Spent `json:"wallTime,omitempty"`
	// Noise is what the machine added to what was measured while traffic flowed; nil
	// when none did.
	Noise   *Noise   `json:"noise,omitempty"`
	Figures []Figure `json:"figures,omitempty"`
	// Features lists all that there are, with and without claims in this run.
	Features []Feature `json:"features,omitempty"`
	// Shard is set when the run is a part of one, Parts when it was put together
	// of several.
	Shard     *Shard     `json:"shard,omitempty"`
	Parts     []Part     `json:"parts,omitempty"`
	Scenarios []Scenario `json:"scenarios"`
	// Changes sums up what is in the scenarios' Transitions; nil when no policy
	// changed under traffic.
	Changes *Changes `json:"changes,omitempty"`
	// Samples are measured values of one kind each, by which two runs can be
	// compared.
	Samples []Sample `json:"samples,omitempty"`
	// Evidence is what a page shows besides the tree. It is made of the run's
	// history whenever somebody writes a page, and stands in no run.json.
	Evidence *timeline.Evidence `json:"-"`
}

// Sample are values that were measured alike.
type Sample struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
}

type Tool struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

// Summary counts claims: one named expectation of one client at one target in
// one policy state.
type Summary struct {
	Total        int `json:"total"`
	Passed       int `json:"passed"`
	Failed       int `json:"failed"`
	Inconclusive int `json:"inconclusive"`
	Skipped      int `json:"skipped"`
	// Flaky ones are among those above: they did not come out the same in all
	// attempts.
	Flaky int `json:"flaky,omitempty"`
}

type Cluster struct {
	Provider   string `json:"provider"`
	Name       string `json:"name"`
	Kubernetes string `json:"kubernetes"`
	Nodes      int    `json:"nodes"`
	Rootless   bool   `json:"rootless"`
}

type Mesh struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Proxy is the version of the proxies.
	Proxy           string   `json:"proxy,omitempty"`
	Dialect         string   `json:"dialect"`
	DefaultPolicy   string   `json:"defaultPolicy"`
	ClusterNetworks []string `json:"clusterNetworks"`
}

// Feature is a part of policy to which claims belong.
type Feature struct {
	Name string `json:"name"`
	// Profile is the smallest one that holds the feature: core, extended or all.
	Profile string `json:"profile"`
}

// Timing is how long a named phase of the run took.
type Timing struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Spent is what a part of the time went into.
type Spent struct {
	// On is the phase: cluster, mesh, pods, writes, in force, windows, judging and so
	// on.
	On string `json:"on"`
	// Seconds of the wall time. Of a moment at which several scenarios were at work
	// each has an equal share.
	Seconds float64 `json:"seconds"`
	// Work is what the scenarios would have spent on it one after the other; 0 for
	// what scenarios do not do.
	Work float64 `json:"work,omitempty"`
}

// Figure is a measured value with its sample count, printed beside the target
// and never asserted.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	N      int     `json:"n"`
	Value  float64 `json:"value"`
	Target float64 `json:"target,omitempty"`
}

type Scenario struct {
	Name     string    `json:"name"`
	Summary  string    `json:"summary,omitempty"`
	Labels   []string  `json:"labels,omitempty"`
	Outcome  Outcome   `json:"outcome"`
	Reason   string    `json:"reason,omitempty"`
	Started  time.Time `json:"started"`
	Duration float64   `json:"duration"` // seconds
	// WallTime is what Duration went into, nobody else's work counted.
	WallTime []Spent `json:"wallTime,omitempty"`
	Source   Source  `json:"source"`
	Steps    []Step  `json:"steps"`
	// Bundle is the folder with evidence, relative to the run's folder.
	Bundle string `json:"bundle,omitempty"`
	// Folder holds the scenario's part of the history, relative to the run's folder;
	// empty: the run's own.
	Folder string `json:"folder,omitempty"`
	// Transitions are the figures of a scenario with traffic; nil without.
	Transitions *Transitions `json:"transitions,omitempty"`
	// StandIns are what did not run itself: "WORKLOAD: CONTAINER (IMAGE)" for each
	// container in whose image's place something else answered.
	StandIns []string `json:"standIns,omitempty"`
}

// Source is a place in a scenario file.
type Source struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

type Step struct {
	Name     string  `json:"name"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`
	Duration float64 `json:"duration"`
	Source   Source  `json:"source"`
	// Actions are the changes made, one line each, in order.
	Actions []string `json:"actions,omitempty"`
	Claims  []Claim  `json:"claims,omitempty"`
}

// Claim is one named expectation and what was seen.
type Claim struct {
	// ID of the claim in its plan; see Identity for what is the same in every run.
	ID   string `json:"id,omitempty"`
	Name string `json:"name"`
	// Shows lists document statements (DOC-nn) and rule IDs.
	Shows []string `json:"shows,omitempty"`
	// Feature that the claim belongs to.
	Feature  string  `json:"feature,omitempty"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`
	Client   string  `json:"client,omitempty"`
	Target   string  `json:"target,omitempty"`
	Protocol string  `json:"protocol,omitempty"`
	Expected string  `json:"expected"`
	Observed string  `json:"observed"`
	// Witness is the second witness of a denial: the proxy's decision record
	// or deny counter, or the application's log.
	Witness  string  `json:"witness,omitempty"`
	Samples  int     `json:"samples,omitempty"`
	Duration float64 `json:"duration"`
	Source   Source  `json:"source"`
	// Attempts are all times that it was judged, where those are several; the
	// outcome is the worst of them.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Details are further lines for people: the decision, the first bad
	// request, the width of a window.
	Details []string `json:"details,omitempty"`
}

// Count recomputes Summary from the claims.
func (r *Run) Count() Summary {
	var s Summary
	for _, sc := range r.Scenarios {
		for _, st := range sc.Steps {
			for _, c := range st.Claims {
				s.Total++
				if c.Flaky() {
					s.Flaky++
				}
				switch c.Outcome {
				case Passed:
					s.Passed++
				case Failed, Error:
					s.Failed++
				case Inconclusive:
					s.Inconclusive++
				case Skipped:
					s.Skipped++
				}
			}
		}
	}
	return s
}
