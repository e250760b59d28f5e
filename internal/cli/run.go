package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/scenarios"
)

// selection is what `run` and `list` are asked for: names of scenarios and folders
// of the library or paths of files, and a filter over labels, which leave nothing
// of the rest in the plan; and features, by which the rest is skipped.
type selection struct {
	labels   string
	features *scenarios.Choice
}

func addSelectionFlags(cmd *cobra.Command) *selection {
	own := flag.NewFlagSet("", flag.ContinueOnError)
	s := &selection{features: session.ChoiceFlags(own)}
	cmd.Flags().AddGoFlagSet(own)
	cmd.Flags().StringVarP(&s.labels, "label-filter", "l", "", "Ginkgo label filter over scenario names, topics and what claims show, such as 'DOC-27 || probes'")
	return s
}

// args are the flags that select the same elsewhere.
func (s *selection) args() []string {
	var args []string
	if s.labels != "" {
		args = append(args, "--label-filter", s.labels)
	}
	for _, list := range []struct {
		flag     string
		features []scenarios.Feature
	}{{"--features", s.features.Only}, {"--exempt-features", s.features.Exempt}} {
		for _, feature := range list.features {
			args = append(args, list.flag, string(feature))
		}
	}
	if s.features.Profile != scenarios.All {
		args = append(args, "--profile", string(s.features.Profile))
	}
	return args
}

// plan is every claim that is selected. Names that fit nothing are bad input.
func (s *selection) plan(args []string) (*scenarios.Plan, error) {
	filter, err := types.ParseLabelFilter(s.labels)
	if err != nil {
		return nil, usageError("label filter %q: %s", s.labels, plain(err))
	}
	set, err := load(args)
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: err}
	}
	named := map[string]bool{}
	plan := scenarios.NewPlan(set, func(c *scenarios.PlannedClaim) bool {
		if len(args) > 0 && !isPath(args[0]) && !slices.Contains(args, c.Scenario.Metadata.Name) && !slices.Contains(args, c.Scenario.Folder()) {
			return false
		}
		named[c.Scenario.Metadata.Name] = true
		return filter(c.Labels)
	})
	for _, arg := range args {
		if !isPath(arg) && !named[arg] && !slices.Contains(scenarios.Folders(), arg) {
			return nil, usageError("no scenario or folder of the library is called %q; meshproof list %s shows them", arg, strings.Join(scenarios.Folders(), " "))
		}
	}
	s.features.Apply(plan)
	return plan, nil
}

// plain is the reason in one of Ginkgo's errors, which come with colours,
// drawings and a link.
func plain(err error) string {
	var theirs types.GinkgoError
	if !errors.As(err, &theirs) {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(theirs.Message), "\n")
	return lines[len(lines)-1]
}

// isPath tells a file or folder from the name of a scenario of the library.
func isPath(arg string) bool {
	return strings.ContainsRune(arg, filepath.Separator) || strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml")
}

func load(args []string) (*scenarios.Set, error) {
	paths := 0
	for _, arg := range args {
		if isPath(arg) {
			paths++
		}
	}
	switch {
	case len(args) == 0:
		return scenarios.Library()
	case paths == 0:
		return scenarios.Library(scenarios.Folders()...)
	case paths == len(args):
		return scenarios.Load(args...)
	}
	return nil, errors.New("name scenarios of the library or files, not both")
}

func newRun(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "run [SCENARIO|FOLDER|FILE...]", Short: "Run scenarios, by default those of conformance, and write reports",
		Example: "  meshproof run\n  meshproof run transitions\n  meshproof run walk-through --keep --cluster-name demo\n  meshproof run ./policies/scenario.yaml\n  meshproof run --rerun-failed artifacts/latest"}
	selected := addSelectionFlags(cmd)
	repeating := addRepeatFlags(cmd)
	setup := addSessionFlags(cmd)
	sharding := addShardFlags(cmd)
	flags := cmd.Flags()
	seed := flags.Int64("seed", 0, "seed of the run (default: from the clock)")
	output := flags.String("output-dir", "", "folder of the runs' folders (default $ARTIFACTS, or artifacts)")
	dry := flags.Bool("dry-run", false, "list what would be claimed, and do nothing")
	ending := addEndingFlags(cmd)
	quiet := flags.BoolP("quiet", "q", false, "print the findings and the verdict only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		args, err := repeating.args(cmd, args)
		if err != nil {
			return err
		}
		plan, err := selected.plan(args)
		if err != nil {
			return err
		}
		if len(plan.Claims()) == 0 && !*dry {
			return &ExitError{Code: ExitInconclusive, Err: errors.New("nothing ran: no claim is selected")}
		}
		if plan, err = sharding.of(plan); err != nil {
			return err
		}
		plan = repeating.rest(plan)
		if *dry {
			return dryRun(cmd.Context(), streams, plan, setup)
		}
		options, why, err := setup.Options()
		if err != nil {
			return err
		}
		now := time.Now()
		id, usual := sharding.identify(now)
		if !flags.Changed("seed") {
			*seed = usual
		}
		folder := artifacts(*output)
		dir := filepath.Join(folder, id)
		if err := reports.Begin(dir, id, now); err != nil {
			return usageError("make the run's folder: %w", err)
		}
		options.ID, options.Dir, options.Seed, options.Version = id, dir, *seed, version()
		if !*quiet {
			if why != "" {
				fmt.Fprintln(streams.Err, why)
			}
			fmt.Fprintf(streams.Err, "run %s: %d claims in %d scenarios%s on the %s cluster, seed %d\n", id, len(plan.Claims()), len(plan.Scenarios), andSkipped(plan), options.Provider.Kind(), *seed)
			options.Observe = session.Progress(streams.Err)
		}
		if err := repeating.begin(cmd.Context(), &options, append(selected.args(), args...), func(line string) { fmt.Fprintln(streams.Err, line) }); err != nil {
			return err
		}
		out := repeating.nothing(plan, options)
		if out == nil {
			out = sharding.run(cmd.Context(), plan, options)
		}
		err = repeating.end(out)
		return ending.finish(streams.Out, folder, out, errors.Join(err, sharding.hand(cmd.Context(), out)))
	}
	return cmd
}

// artifacts is the folder of the runs' folders.
func artifacts(asked string) string {
	if asked != "" {
		return asked
	}
	if folder := os.Getenv("ARTIFACTS"); folder != "" {
		return folder
	}
	return "artifacts"
}

func newList(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "list [SCENARIO|FOLDER|FILE...]", Short: "List scenarios and their claims, by default those of conformance",
		Example: "  meshproof list\n  meshproof list transitions -o wide"}
	selected := addSelectionFlags(cmd)
	output := cmd.Flags().StringP("output", "o", "table", "table (scenarios), wide (claims) or name")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		plan, err := selected.plan(args)
		if err != nil {
			return err
		}
		switch *output {
		case "wide":
			return printPlan(streams, plan)
		case "name":
			for _, s := range plan.Scenarios {
				fmt.Fprintln(streams.Out, s.Metadata.Name)
			}
			return nil
		case "table":
			table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "NAME\tFOLDER\tCLAIMS\tSKIPPED\tFEATURES\tLABELS\tSUMMARY")
			for _, s := range plan.Scenarios {
				one := scenarios.Plan{Scenarios: []*scenarios.PlannedScenario{s}}
				fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\t%s\t%s\n", s.Metadata.Name, s.Folder(), len(one.Claims()), skipped(&one), strings.Join(features(&one), ","),
					strings.Join(s.Metadata.Labels, ","), s.Spec.Summary)
			}
			return table.Flush()
		}
		return usageError("unknown output %q: want table, wide or name", *output)
	}
	return cmd
}

// skipped counts the claims that the plan skips.
func skipped(plan *scenarios.Plan) int {
	n := 0
	for _, claim := range plan.Claims() {
		if claim.Skip != "" {
			n++
		}
	}
	return n
}

// andSkipped says so where claims are skipped.
func andSkipped(plan *scenarios.Plan) string {
	if n := skipped(plan); n > 0 {
		return fmt.Sprintf(" (%d of them skipped)", n)
	}
	return ""
}

// features are those of the plan's claims, each once.
func features(plan *scenarios.Plan) []string {
	var names []string
	for _, claim := range plan.Claims() {
		if name := string(claim.Feature); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// printPlan prints a line per claim.
func printPlan(streams IOStreams, plan *scenarios.Plan) error {
	table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tFEATURE\tSHOWS\tWHERE\tCLAIM")
	for _, c := range plan.Claims() {
		text := c.Text()
		if c.Skip != "" {
			text += " [skipped: " + c.Skip + "]"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.ID, c.Feature, strings.Join(c.Shows, ","), c.Source, text)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(streams.Out, "%d claims in %d scenarios%s\n", len(plan.Claims()), len(plan.Scenarios), andSkipped(plan))
	return err
}
