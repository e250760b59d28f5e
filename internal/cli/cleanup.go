package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/cluster/embedded"
)

func newCleanup(streams IOStreams) *cobra.Command {
	return &cobra.Command{Use: "cleanup", Short: "Remove what clusters left behind that are gone", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			provider, err := embedded.New("", "")
			if err != nil {
				return err
			}
			removed, err := provider.Cleanup(cmd.Context())
			for _, name := range removed {
				fmt.Fprintf(streams.Out, "removed what was left of cluster %s\n", name)
			}
			return err
		}}
}
