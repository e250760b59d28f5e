package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCleanup(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "cleanup", Short: "Remove what killed runs have left", Args: exactArgs(0)}
	choice := addClusterFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		provider, _, err := choice.Provider()
		if err != nil {
			return err
		}
		removed, err := provider.Cleanup(cmd.Context())
		for _, name := range removed {
			fmt.Fprintf(streams.Out, "removed what was left of %s\n", name)
		}
		return err
	}
	return cmd
}
