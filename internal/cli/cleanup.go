package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/providers"
)

func newCleanup(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "cleanup", Short: "Remove what killed runs have left", Args: exactArgs(0),
		Long: "Remove what killed runs have left of embedded and kind clusters. A cluster in a\nkubeconfig is cleaned only with --cluster kubeconfig."}
	choice := addClusterFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return each(cmd, choice, func(provider cluster.Provider) error {
			removed, err := provider.Cleanup(cmd.Context())
			for _, name := range removed {
				fmt.Fprintf(streams.Out, "removed what was left of %s\n", name)
			}
			return err
		})
	}
	return cmd
}

// each hands on the provider that the user named, or else those of all clusters
// that this program makes.
func each(cmd *cobra.Command, choice *providers.Choice, do func(cluster.Provider) error) error {
	kinds := []string{choice.Kind}
	if !cmd.Flags().Changed("cluster") {
		kinds = providers.Made()
	}
	var errs []error
	for _, kind := range kinds {
		one := *choice
		one.Kind = kind
		provider, _, err := one.Provider()
		if err == nil {
			err = do(provider)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
