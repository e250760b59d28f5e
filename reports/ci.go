package reports

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/meshproof/meshproof/reports/junit"
	"github.com/meshproof/meshproof/reports/prow"
	"github.com/meshproof/meshproof/reports/result"
)

// Names of the files in a Prow job's folder of artifacts.
const (
	FinishedFile = "finished.json"
	MetadataFile = "metadata.json"
)

// Begin writes junit.xml for a run that has only begun, with one case in error:
// a process that is killed leaves a file that says so, and no CI system takes
// the silence for success. WriteAll replaces it.
func Begin(dir, id string, began time.Time) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	run := &result.Run{SchemaVersion: result.SchemaVersion, ID: id, Outcome: result.Error, Started: began, Finished: began,
		Reason: "the run has begun, and has left no result: it was killed, or goes on"}
	return WriteFile(filepath.Join(dir, JUnitFile), run, junit.Write)
}

// WriteProw writes into the folder of a job's artifacts, which Prow names by
// $ARTIFACTS, what it looks for there: the cases as junit_*.xml, under a name of
// this run because a job may have several, and how the last run ended.
func WriteProw(artifacts string, run *result.Run) error {
	if err := os.MkdirAll(artifacts, 0o755); err != nil {
		return fmt.Errorf("make the folder of artifacts: %w", err)
	}
	return errors.Join(
		WriteFile(filepath.Join(artifacts, "junit_meshproof-"+run.ID+".xml"), run, junit.Write),
		WriteFile(filepath.Join(artifacts, FinishedFile), run, prow.Finished),
		WriteFile(filepath.Join(artifacts, MetadataFile), run, prow.Metadata),
	)
}
