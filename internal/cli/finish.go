package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/timelines"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/github"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

// ending is whom the end of a run is told besides the reader of its folder.
type ending struct {
	actions github.Environment
	github  *bool
}

func addEndingFlags(cmd *cobra.Command) *ending {
	e := &ending{}
	var on bool
	e.actions, on = github.Detect(os.Getenv, ".")
	e.github = cmd.Flags().Bool("github-output", on, "tell GitHub Actions of findings, and add to the step's summary")
	return e
}

// finish writes all reports of a run into its folder below folder, prints its
// end, and returns its exit code as an error. err is what went wrong before.
func (e *ending) finish(out io.Writer, folder string, run *result.Run, err error) error {
	dir := filepath.Join(folder, run.ID)
	err = errors.Join(err, timelines.Attach(dir, run), reports.WriteAll(dir, run), reports.Publish(folder, run.ID), text.Summary(out, run, filepath.Join(dir, reports.HTMLFile)))
	if prow := os.Getenv("ARTIFACTS"); prow != "" {
		err = errors.Join(err, reports.WriteProw(prow, run))
	}
	if *e.github {
		err = errors.Join(err, github.Write(out, e.actions, run))
	}
	if err != nil {
		return fmt.Errorf("report run %s: %w", run.ID, err)
	}
	if run.ExitCode != ExitOK {
		return &ExitError{Code: run.ExitCode}
	}
	return nil
}
