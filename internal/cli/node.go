package cli

import (
	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/cluster/embedded/node"
	"github.com/meshproof/meshproof/internal/cluster/embedded/sandbox"
)

// newNode is how an embedded cluster calls this program for its own processes.
func newNode(IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Hidden: true, DisableFlagParsing: true, Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{Use: "init SETUP", Args: exactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error { return failed(sandbox.Main(cmd.Context(), args[0])) }},
		&cobra.Command{Use: "agent", DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error { return failed(node.Main(cmd.Context(), args)) }},
	)
	return cmd
}

// failed gives the end of a cluster's process the code that says it is no bug.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: ExitSetup, Err: err}
}
