package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/compare"
	"github.com/meshproof/meshproof/reports/result"
)

func newCompare(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "compare OLD NEW", Short: "Compare the verdicts of two runs, claim by claim; each is a run's folder or its run.json", Args: exactArgs(2),
		Example: "  meshproof compare artifacts/20261121-001200-7f3a artifacts/latest\n  meshproof compare embedded/run.json kind/run.json -o md"}
	formats := compare.Formats()
	var names []string
	for _, format := range formats {
		names = append(names, format.Name)
	}
	output := cmd.Flags().StringP("output", "o", names[0], "table, json or md")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		at := slices.Index(names, *output)
		if at < 0 {
			return usageError("unknown output %q: want some of %v", *output, names)
		}
		var runs [2]*result.Run
		for i := range runs {
			var err error
			if runs[i], err = reports.Read(args[i]); err != nil {
				return &ExitError{Code: ExitUsage, Err: err}
			}
		}
		compared, err := compare.Runs(runs[0], runs[1])
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: fmt.Errorf("compare: %w", err)}
		}
		if err := formats[at].Write(streams.Out, compared); err != nil {
			return err
		}
		switch totals := compared.Totals; {
		case totals.Differ > 0:
			return &ExitError{Code: ExitRegression}
		case totals.Judged() == 0:
			return &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("nothing can be compared: no claim was judged in both runs")}
		}
		return nil
	}
	return cmd
}
