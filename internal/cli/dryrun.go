package cli

import (
	"context"
	"fmt"

	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/scenarios"
)

// dryRun prints the claims of a plan, and for a cluster that is somebody's what
// the run would make in it, after asking it everything that the run asks.
func dryRun(ctx context.Context, streams IOStreams, plan *scenarios.Plan, setup *session.Flags) error {
	if err := printPlan(streams, plan); err != nil || setup.Kind != kubeconfig.Kind {
		return err
	}
	provider, _, err := setup.Provider()
	if err != nil {
		return err
	}
	footprint, err := session.Foresee(ctx, plan, provider)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(streams.Out, format, args...)
		}
	}
	if footprint.Standing {
		say("\nA mesh stands in the cluster; the run would use it.\n")
	} else {
		say("\nNo mesh stands in the cluster; the run would install one, and remove it when no other run uses it:\n")
		for _, name := range footprint.ClusterWide {
			say("  %s\n", name)
		}
	}
	say("The run would make these namespaces, and remove them:\n")
	for _, name := range footprint.Namespaces {
		say("  %s\n", name)
	}
	return err
}
