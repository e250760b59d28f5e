package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/live"
	"github.com/meshproof/meshproof/internal/policy/explain"
)

func newMatrix(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "matrix [-f FILE...] [--live]", Short: "Say who reaches what under the policies in manifests, without a cluster", Args: exactArgs(0),
		Long: `Say of every port of every workload who reaches it: every ServiceAccount that was
seen, and a client without a mesh. Where routes are written there is a row for each
of their matches. What is not a request of the port's own protocol is not asked; see
meshproof explain for any question. With --live clients on a running cluster really
ask what cannot change anything there, and every difference is marked.`,
		Example: "  meshproof matrix -f policies/ -f workloads/\n  meshproof matrix -f all.yaml --from unmeshed@203.0.113.7 --from shop/web -o md"}
	manifests := addManifestFlags(cmd)
	asking := addLiveFlags(cmd)
	from := cmd.Flags().StringArray("from", nil, "a client, as explain has it, instead of all; may be given several times")
	output := cmd.Flags().StringP("output", "o", "table", "table, json or md")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output != "table" && *output != "json" && *output != "md" {
			return usageError("unknown output %q: want table, json or md", *output)
		}
		about, err := asking.read(cmd, streams, manifests)
		if err != nil {
			return err
		}
		set, judge := about.set, about.judge
		if len(set.Workloads) == 0 {
			return usageError("no workload was read: add the manifests of Deployments or Pods with -f")
		}
		var clients []explain.Client
		for _, text := range *from {
			client, err := explain.ParseClient(text, judge.World.Settings)
			if err != nil {
				return usageError("--from: %w", err)
			}
			clients = append(clients, client)
		}
		if len(clients) == 0 {
			if clients, err = explain.Clients(set, judge.World.Settings); err != nil {
				return usageError("%w; name clients with --from", err)
			}
		}
		matrix := explain.NewMatrix(judge, set, clients)
		if asking.on {
			err := asking.visit(cmd.Context(), about, func(v *live.Visit) (err error) {
				if err := v.Clients(cmd.Context(), clients); err != nil {
					return err
				}
				matrix, err = v.Matrix(cmd.Context(), judge, set, clients)
				return err
			})
			if err != nil {
				return err
			}
		}
		switch *output {
		case "json":
			err = explain.WriteJSON(streams.Out, matrix)
		case "md":
			err = matrix.WriteMarkdown(streams.Out)
		default:
			err = matrix.WriteTable(streams.Out)
		}
		if err != nil {
			return err
		}
		if n := matrix.Differences(); n > 0 {
			return &ExitError{Code: ExitFinding, Err: fmt.Errorf("in %d cells the cluster does something else than the rules say", n)}
		}
		return nil
	}
	return cmd
}
