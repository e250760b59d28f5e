package cli

import (
	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/policy/explain"
)

func newMatrix(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "matrix -f FILE...", Short: "Say who reaches what under the policies in manifests, without a cluster", Args: exactArgs(0),
		Long: `Say of every port of every workload who reaches it: every ServiceAccount that was
seen, and a client without a mesh. Where routes are written there is a row for each
of their matches. What is not a request of the port's own protocol is not asked; see
meshproof explain for any question.`,
		Example: "  meshproof matrix -f policies/ -f workloads/\n  meshproof matrix -f all.yaml --from unmeshed@203.0.113.7 --from shop/web -o md"}
	manifests := addManifestFlags(cmd)
	from := cmd.Flags().StringArray("from", nil, "a client, as explain has it, instead of all; may be given several times")
	output := cmd.Flags().StringP("output", "o", "table", "table, json or md")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *output != "table" && *output != "json" && *output != "md" {
			return usageError("unknown output %q: want table, json or md", *output)
		}
		set, judge, err := manifests.read(streams)
		if err != nil {
			return err
		}
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
		switch *output {
		case "json":
			return explain.WriteJSON(streams.Out, matrix)
		case "md":
			return matrix.WriteMarkdown(streams.Out)
		default:
			return matrix.WriteTable(streams.Out)
		}
	}
	return cmd
}
