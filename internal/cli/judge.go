package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/history"
)

func newJudge(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "judge RUN", Short: "Judge a recorded run again, without a cluster; RUN is a run's folder", Args: exactArgs(1),
		Long: `Put every question of a run's history to the rules again, in the world in which
it was asked, and list what was observed otherwise than the rules say. It needs no
cluster: after a change of the rules, or with the run of somebody else.`,
		Example: "  meshproof judge artifacts/latest"}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		h, err := history.Open(args[0])
		if errors.Is(err, fs.ErrNotExist) {
			return usageError("%s: no run has left a %s there", args[0], history.FileName)
		}
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		if len(h.Questions) == 0 {
			return &ExitError{Code: ExitInconclusive, Err: errors.New("nothing was asked in this run")}
		}
		settled := map[string]bool{}
		for _, q := range h.Questions {
			settled[q.Claim] = settled[q.Claim] || !q.Early
		}
		differ := 0
		for _, q := range h.Questions {
			if q.Early && settled[q.Claim] {
				continue // it came true in its time
			}
			differences, err := q.AsItWas()
			if err != nil {
				return err
			}
			if len(differences) > 0 {
				differ++
			}
			for _, text := range differences {
				if _, err := fmt.Fprintf(streams.Out, "%s: %s\n", q.Claim, text); err != nil {
					return err
				}
			}
		}
		if h.Cut {
			fmt.Fprintln(streams.Err, "the history ends in the middle: the run did not come to its end")
		}
		if _, err := fmt.Fprintf(streams.Out, "%d questions in %d worlds judged, %d differ\n", len(h.Questions), len(h.Worlds), differ); err != nil {
			return err
		}
		if differ > 0 {
			return &ExitError{Code: ExitFinding}
		}
		return nil
	}
	return cmd
}
