package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/fuzz"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/scenarios"
)

// usualFor is how long meshproof fuzz makes scenarios unless told.
const usualFor = 5 * time.Minute

func newFuzz(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "fuzz", Short: "Run generated scenarios, and write what they find as scenario files",
		Long: "fuzz makes scenarios by chance from a seed, has them carried out on one cluster until the time is up,\n" +
			"and makes what it finds smaller until nothing can be left out. The seed is enough to do it again.\n\n" + exitCodesHelp,
		Example: "  meshproof fuzz --for 5m\n  meshproof fuzz --seed 8412 --for 10m --keep-going", Args: exactArgs(0)}
	setup := addSessionFlags(cmd)
	flags := cmd.Flags()
	var o fuzz.Options
	flags.Int64Var(&o.Seed, "seed", 0, "seed of the scenarios (default: from the clock)")
	flags.DurationVar(&o.For, "for", usualFor, "how long to carry out scenarios")
	flags.IntVar(&o.First, "first", 0, "`number` of the first scenario of the seed")
	flags.IntVar(&o.Most, "most", 0, "`number` of scenarios at most; 0 is as many as there is time for")
	flags.BoolVar(&o.KeepGoing, "keep-going", false, "go on after a finding until the time is up")
	output := flags.StringP("output-dir", "o", "", "folder of the runs' folders (default $ARTIFACTS, or artifacts)")
	ending := addEndingFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.For <= 0 && o.Most <= 0 {
			return usageError("--for %s: say how long, or with --most how many", o.For)
		}
		options, why, err := setup.Options()
		if err != nil {
			return err
		}
		now := time.Now()
		if !flags.Changed("seed") {
			o.Seed = now.UnixNano() % 1_000_000_000
		}
		plan, err := firstOf(o)
		if err != nil {
			return err
		}
		id, folder := session.NewID(now), artifacts(*output)
		dir := filepath.Join(folder, id)
		if err := reports.Begin(dir, id, now); err != nil {
			return usageError("make the run's folder: %w", err)
		}
		if why != "" {
			fmt.Fprintln(streams.Err, why)
		}
		o.Dir, o.Parallel = dir, options.Parallel
		o.Tell = func(format string, args ...any) { fmt.Fprintf(streams.Err, format+"\n", args...) }
		work := fuzz.New(o)
		options.ID, options.Dir, options.Seed, options.Version, options.Carry = id, dir, o.Seed, version(), work.Carry
		options.Observe = func(e engine.Event) {
			if e.Kind == engine.Waiting && e.Scenario == "" {
				fmt.Fprintln(streams.Err, e.Text)
			}
		}
		fmt.Fprintf(streams.Err, "run %s: generated scenarios for %s on the %s cluster, seed %d\n", id, o.For, options.Provider.Kind(), o.Seed)
		out := session.Run(cmd.Context(), plan, options)
		err = ending.finish(streams.Out, folder, out, work.WriteSummary())
		for _, found := range work.Findings() {
			fmt.Fprintf(streams.Out, "finding: %s\n", found)
			if found.File != "" {
				fmt.Fprintf(streams.Out, "         meshproof run %s\n", found.File)
			}
		}
		fmt.Fprintln(streams.Out, work.Line())
		return err
	}
	return cmd
}

// firstOf is the plan that tells what scenarios of a seed look like: of the first.
func firstOf(o fuzz.Options) (*scenarios.Plan, error) {
	c, err := generate.New(o.Seed, o.First)
	if err != nil {
		return nil, err
	}
	planned, _, err := generate.Plan(c.Scenario)
	if err != nil {
		return nil, errors.Join(errors.New("the generated scenario is none"), err)
	}
	return &scenarios.Plan{Set: &scenarios.Set{}, Scenarios: []*scenarios.PlannedScenario{planned}}, nil
}
