package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/health"
)

func newCheck(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "check", Short: "Say whether the mesh is healthy, with a remedy for what is not", Args: exactArgs(0),
		Example: "  meshproof check\n  meshproof check -n emojivoto --proxy -o short"}
	kube := addKubeFlags(cmd)
	var options health.Options
	cmd.Flags().BoolVar(&options.Proxy, "proxy", false, "check the proxies of meshed pods too")
	cmd.Flags().StringVarP(&options.Namespace, "namespace", "n", "", "namespace of the pods (default all)")
	output := cmd.Flags().StringP("output", "o", "table", "table, short or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, client, err := kube.client()
		if err != nil {
			return err
		}
		checks, err := health.Run(cmd.Context(), client, options)
		if err != nil {
			return &ExitError{Code: ExitSetup, Err: err}
		}
		switch *output {
		case "table", "short":
			health.Write(streams.Out, checks, *output == "short")
		case "json":
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(checks); err != nil {
				return fmt.Errorf("print the checks: %w", err)
			}
		default:
			return usageError("unknown output %q: want table, short or json", *output)
		}
		if !health.Healthy(checks) {
			return &ExitError{Code: ExitFinding}
		}
		return nil
	}
	return cmd
}
