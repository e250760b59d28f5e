package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/scenarios"
)

func newSchema(streams IOStreams) *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON schema of scenario files, for editors",
		Example: "  meshproof schema > scenario.schema.json", Args: exactArgs(0),
		RunE: func(*cobra.Command, []string) error {
			if _, err := streams.Out.Write(scenarios.Schema()); err != nil {
				return fmt.Errorf("print the schema: %w", err)
			}
			return nil
		}}
}
