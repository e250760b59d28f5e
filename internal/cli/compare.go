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
	cmd := &cobra.Command{Use: "compare OLD NEW", Short: "Compare the verdicts of two runs, claim by claim, and what they measured; each is a run's folder or its run.json", Args: exactArgs(2),
		Long: "Compares two runs claim by claim, and the latencies and propagation times that both have measured, by a test that assumes\n" +
			"nothing of how they are distributed. Exit code 5 when a verdict differs, or when a median has grown by more than the\n" +
			"threshold and hardly by chance. Values of different kinds of clusters are shown and not judged.",
		Example: "  meshproof compare artifacts/20261121-001200-7f3a artifacts/latest\n  meshproof compare embedded/run.json kind/run.json -o md"}
	formats := compare.Formats()
	var names []string
	for _, format := range formats {
		names = append(names, format.Name)
	}
	output := cmd.Flags().StringP("output", "o", names[0], "table, json or md")
	limits := compare.UsualLimits()
	cmd.Flags().Float64Var(&limits.Threshold, "threshold", limits.Threshold, "by how much of the first run's a median may be greater: 0.5 is half as much again; negative judges none")
	cmd.Flags().Float64Var(&limits.Alpha, "alpha", limits.Alpha, "how probable a difference by chance may be that counts as one")
	better := cmd.Flags().Bool("allow-better", false, "only verdicts that are worse than in the first run count")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if limits.Alpha <= 0 || limits.Alpha >= 1 {
			return usageError("--alpha %g: want a probability between 0 and 1", limits.Alpha)
		}
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
		compared, err := compare.Runs(runs[0], runs[1], limits)
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: fmt.Errorf("compare: %w", err)}
		}
		if err := formats[at].Write(streams.Out, compared); err != nil {
			return err
		}
		worse, shifted := compared.Worse()
		switch totals := compared.Totals; {
		case worse > 0, shifted > 0, totals.Differ > 0 && !*better:
			return &ExitError{Code: ExitRegression}
		case totals.Judged() == 0:
			return &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("nothing can be compared: no claim was judged in both runs")}
		}
		return nil
	}
	return cmd
}
