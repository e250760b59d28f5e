package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/internal/timelines"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/github"
	"github.com/meshproof/meshproof/reports/merge"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
)

func newReport(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "report RUN...", Short: "Write the reports of an earlier run again, or merge several; RUN is a run's folder",
		Long: "Writes the reports of an earlier run again. Of several runs, such as the shards of one plan, it makes one more run with the\n" +
			"claims of all, and its exit code is that of the merged run; a shard that is missing is an error.",
		Example: "  meshproof report artifacts/latest\n  meshproof report artifacts/latest -o html\n  meshproof report artifacts/latest -o github\n  meshproof report shard-1 shard-2 shard-3"}
	var names []string
	for _, format := range reports.Formats() {
		names = append(names, format.Name)
	}
	names = append(names, github.Name) // which is no file
	wanted := cmd.Flags().StringSliceP("output", "o", names[1:len(names)-1], "formats to write; of a merged run all files are")
	ending := addEndingFlags(cmd)
	output := cmd.Flags().String("output-dir", "", "folder of the runs' folders, for a merged run (default $ARTIFACTS, or artifacts)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		for _, name := range *wanted {
			if !slices.Contains(names, name) {
				return usageError("unknown format %q: want some of %v", name, names)
			}
		}
		if len(args) == 0 {
			return usageError("name the folder of a run")
		}
		var runs []*result.Run
		var dirs []string
		for _, arg := range args {
			run, err := reports.Read(arg)
			if err != nil {
				return &ExitError{Code: ExitUsage, Err: err}
			}
			dir := arg
			if info, err := os.Stat(dir); err == nil && !info.IsDir() {
				dir = filepath.Dir(dir)
			}
			runs, dirs = append(runs, run), append(dirs, dir)
		}
		tell := slices.Contains(*wanted, github.Name)
		if len(runs) > 1 {
			*ending.github = *ending.github || tell
			return ending.merge(streams, artifacts(*output), runs, dirs)
		}
		if err := timelines.Attach(dirs[0], runs[0]); err != nil {
			return err
		}
		for _, format := range reports.Formats() {
			if !slices.Contains(*wanted, format.Name) {
				continue
			}
			if err := reports.WriteFile(filepath.Join(dirs[0], format.File), runs[0], format.Write); err != nil {
				return err
			}
		}
		if tell {
			if err := github.Write(streams.Out, ending.actions, runs[0]); err != nil {
				return err
			}
		}
		return text.Summary(streams.Out, runs[0], filepath.Join(dirs[0], reports.HTMLFile))
	}
	return cmd
}

// merge makes a run of the runs that stand in dirs, with their evidence.
func (e *ending) merge(streams IOStreams, folder string, runs []*result.Run, dirs []string) error {
	merged, err := merge.Runs(session.NewID(time.Now()), runs...)
	if err != nil {
		return &ExitError{Code: ExitUsage, Err: fmt.Errorf("merge: %w", err)}
	}
	var errs []error
	for i, run := range runs {
		if err := takeHistory(merged, run, dirs[i], filepath.Join(folder, merged.ID)); err != nil {
			errs = append(errs, fmt.Errorf("keep the history of run %s: %w", run.ID, err))
		}
		for _, scenario := range run.Scenarios {
			if scenario.Bundle == "" || !filepath.IsLocal(scenario.Bundle) {
				continue
			}
			from := filepath.Join(dirs[i], scenario.Bundle)
			if _, err := os.Stat(from); err != nil {
				continue // it was not kept
			}
			if err := os.CopyFS(filepath.Join(folder, merged.ID, scenario.Bundle), os.DirFS(from)); err != nil {
				errs = append(errs, fmt.Errorf("keep the evidence of %s: %w", scenario.Name, err))
			}
		}
	}
	return e.finish(streams.Out, folder, merged, errors.Join(errs...))
}

// takeHistory copies the history of a part below the merged run's folder, and says
// so of the part's scenarios.
func takeHistory(merged, part *result.Run, from, to string) error {
	of := map[string]bool{}
	for _, scenario := range part.Scenarios {
		of[scenario.Name] = scenario.Folder == ""
	}
	below := path.Join("parts", part.ID)
	if !filepath.IsLocal(below) {
		return nil
	}
	err := copyFile(filepath.Join(from, history.FileName), filepath.Join(to, below, history.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has left none
	}
	for i := range merged.Scenarios {
		if s := &merged.Scenarios[i]; err == nil && of[s.Name] {
			s.Folder = below
		}
	}
	return err
}
