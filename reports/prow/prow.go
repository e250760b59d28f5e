// Package prow writes the small files by which Prow and TestGrid know how a run
// ended, as their job folders have them: finished.json and metadata.json. The
// cases themselves they read as JUnit.
//
// A result.Run flows in, JSON comes out. It knows nothing of buckets and jobs.
package prow

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/meshproof/meshproof/reports/result"
)

// finished is what the readers expect; Timestamp counts seconds.
type finished struct {
	Timestamp int64             `json:"timestamp"`
	Passed    bool              `json:"passed"`
	Result    string            `json:"result"`
	Metadata  map[string]string `json:"metadata"`
}

// Finished writes finished.json. A run that proved nothing has not passed.
func Finished(w io.Writer, run *result.Run) error {
	f := finished{Timestamp: run.Finished.Unix(), Passed: run.Outcome == result.Passed, Result: "FAILURE", Metadata: metadata(run)}
	switch {
	case f.Passed:
		f.Result = "SUCCESS"
	case run.ExitCode > 128: // a signal
		f.Result = "ABORTED"
	case run.Outcome == result.Error:
		f.Result = "ERROR"
	}
	return write(w, f)
}

// Metadata writes metadata.json, from which Prow takes what it shows of a job
// beside the outcome.
func Metadata(w io.Writer, run *result.Run) error { return write(w, metadata(run)) }

func metadata(run *result.Run) map[string]string {
	return map[string]string{
		"meshproof-run": run.ID, "meshproof-version": run.Tool.Version, "outcome": string(run.Outcome), "seed": fmt.Sprint(run.Seed),
		"cluster": run.Cluster.Provider, "kubernetes": run.Cluster.Kubernetes, "mesh": run.Mesh.Name, "mesh-version": run.Mesh.Version,
		"claims": fmt.Sprintf("%d passed, %d failed, %d inconclusive, %d skipped", run.Summary.Passed, run.Summary.Failed, run.Summary.Inconclusive, run.Summary.Skipped),
	}
}

func write(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
