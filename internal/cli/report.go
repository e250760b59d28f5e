package cli

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/github"
	"github.com/meshproof/meshproof/reports/text"
)

func newReport(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "report RUN", Short: "Write the reports of an earlier run again; RUN is its folder", Args: exactArgs(1),
		Example: "  meshproof report artifacts/latest\n  meshproof report artifacts/latest -o html\n  meshproof report artifacts/latest -o github"}
	var names []string
	for _, format := range reports.Formats() {
		names = append(names, format.Name)
	}
	names = append(names, github.Name) // which is no file
	wanted := cmd.Flags().StringSliceP("output", "o", names[1:len(names)-1], "formats to write")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		for _, name := range *wanted {
			if !slices.Contains(names, name) {
				return usageError("unknown format %q: want some of %v", name, names)
			}
		}
		run, err := reports.Read(args[0])
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		dir := args[0]
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			dir = filepath.Dir(dir)
		}
		for _, format := range reports.Formats() {
			if !slices.Contains(*wanted, format.Name) {
				continue
			}
			if err := reports.WriteFile(filepath.Join(dir, format.File), run, format.Write); err != nil {
				return err
			}
		}
		if slices.Contains(*wanted, github.Name) {
			env, _ := github.Detect(os.Getenv, ".")
			if err := github.Write(streams.Out, env, run); err != nil {
				return err
			}
		}
		return text.Summary(streams.Out, run, filepath.Join(dir, reports.HTMLFile))
	}
	return cmd
}
