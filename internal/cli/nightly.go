package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/again"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/fuzz"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/internal/soak"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/compare"
	"github.com/meshproof/meshproof/reports/merge"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

const (
	// shortestNight is the least time in which each part has something to do.
	shortestNight = 3 * time.Minute
	// usualNight is how long one is when nobody says it.
	usualNight = 30 * time.Minute
)

// nightPart is a folder of the library that a night takes as much of as fits.
type nightPart struct {
	folder string
	// share of the night, and how long a scenario takes when others run beside it,
	// on two cores.
	share float64
	each  time.Duration
}

// nightParts come before the generated scenarios, which have the rest.
var nightParts = []nightPart{{scenarios.Transitions, 0.4, 1500 * time.Millisecond}, {scenarios.Faults, 0.25, 5 * time.Second}}

// generatedPart is what the rest of a night is called: random edits on one cluster
// that stands, watched for growth.
const generatedPart = "generated"

// CompareFile is the comparison with the night before, in the night's folder.
const CompareFile = "compare.md"

// nightLimits are wider than usual: nobody looks at what else the machine does at
// night.
var nightLimits = compare.Limits{Threshold: 1, Alpha: 0.001}

func newNightly(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "nightly", Short: "Run what takes long: transitions, faults, generated scenarios with a soak, and compare with the night before", Args: exactArgs(0),
		Long: "Divides the time among transitions and faults of the library, of which it takes as many as fit, others each night, and\n" +
			"generated scenarios, which have the rest: random edits on one cluster that stands all the time, during which the\n" +
			"memory, goroutines, watches and streams of the mesh are watched for growth. At the end there is one result of all,\n" +
			"compared with the last night that passed.\n\n" + exitCodesHelp,
		Example: "  meshproof nightly --for 30m"}
	setup := addSessionFlags(cmd)
	ending := addEndingFlags(cmd)
	flags := cmd.Flags()
	lasting := flags.Duration("for", usualNight, "how long all of it may take, about")
	seed := flags.Int64("seed", 0, "seed of the night: of generated scenarios and of what is chosen (default: from the clock)")
	output := flags.String("output-dir", "", "folder of the nights' folders (default nightly below $ARTIFACTS, or below artifacts)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *lasting < shortestNight {
			return usageError("--for %s: a night takes %s at least", *lasting, shortestNight)
		}
		now := time.Now()
		if !flags.Changed("seed") {
			*seed = now.UnixNano() % 1_000_000_000
		}
		n := &night{streams: streams, setup: setup, began: now, lasting: *lasting, seed: *seed, id: session.NewID(now), folder: *output}
		if n.folder == "" {
			n.folder = filepath.Join(artifacts(""), "nightly")
		}
		return n.run(cmd.Context(), ending)
	}
	return cmd
}

// night is one run of all parts.
type night struct {
	streams IOStreams
	setup   *session.Flags
	began   time.Time
	lasting time.Duration
	seed    int64
	id      string
	folder  string
	parts   []*result.Run
}

func (n *night) dir() string { return filepath.Join(n.folder, n.id) }

func (n *night) say(format string, args ...any) { fmt.Fprintf(n.streams.Err, format+"\n", args...) }

func (n *night) run(ctx context.Context, ending *ending) error {
	before := lastNight(n.folder)
	if err := reports.Begin(n.dir(), n.id, n.began); err != nil {
		return usageError("make the night's folder: %w", err)
	}
	plans, err := n.divide()
	if err != nil {
		return err
	}
	for i, plan := range plans {
		if ctx.Err() == nil {
			n.say("%s: %d scenarios", nightParts[i].folder, len(plan.Scenarios))
			n.part(ctx, nightParts[i].folder, plan, session.Progress(n.streams.Err), nil)
		}
	}
	if ctx.Err() == nil {
		if err := n.generated(ctx); err != nil {
			return err
		}
	}
	merged, err := merge.Runs(n.id, n.parts...)
	if err != nil {
		return fmt.Errorf("put the parts of the night together: %w", err)
	}
	err = ending.finish(n.streams.Out, n.folder, merged, nil)
	return n.compare(before, merged, err)
}

// divide chooses what fits of the library, and says how the time is divided.
func (n *night) divide() ([]*scenarios.Plan, error) {
	var plans []*scenarios.Plan
	var words []string
	for _, part := range nightParts {
		plan, err := (&selection{features: &scenarios.Choice{Profile: scenarios.All}}).plan([]string{part.folder})
		if err != nil {
			return nil, err
		}
		all := len(plan.Scenarios)
		time := time.Duration(part.share * float64(n.lasting))
		chosen := fitting(plan, max(int(time/part.each), 1), n.seed)
		words = append(words, fmt.Sprintf("%s %d of %d scenarios in about %s", part.folder, len(chosen.Scenarios), all, (part.each*timesOf(chosen)).Round(timeStep)))
		plans = append(plans, chosen)
	}
	n.say("night %s of %s, seed %d: %s, and the rest for generated scenarios and the soak, at least %s", n.id, n.lasting, n.seed, strings.Join(words, ", "), n.least().Round(timeStep))
	return plans, nil
}

func timesOf(plan *scenarios.Plan) time.Duration { return time.Duration(len(plan.Scenarios)) }

// timeStep is how exactly times that nobody knows are told.
const timeStep = 5 * time.Second

// least is what the generated scenarios have even when all else takes long.
func (n *night) least() time.Duration {
	rest := 1.0
	for _, part := range nightParts {
		rest -= part.share
	}
	return time.Duration(rest / 2 * float64(n.lasting))
}

// fitting are so many scenarios of a plan, in its order: all, or others with each
// seed.
func fitting(plan *scenarios.Plan, number int, seed int64) *scenarios.Plan {
	all := len(plan.Scenarios)
	if all <= number {
		return plan
	}
	chosen := map[string]bool{}
	first := int(uint64(seed) % uint64(all))
	for i := range number {
		chosen[plan.Scenarios[(first+i)%all].Metadata.Name] = true
	}
	return again.Part(plan, func(name string) bool { return chosen[name] })
}

// part runs one part in a folder of its own below the night's.
func (n *night) part(ctx context.Context, name string, plan *scenarios.Plan, observe func(engine.Event), add func(*session.Options)) *result.Run {
	options, _, err := n.setup.Options()
	began := time.Now()
	dir := filepath.Join(n.dir(), name)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	options.ID, options.Dir, options.Seed, options.Version, options.Observe = n.id+"-"+name, dir, n.seed, version(), observe
	var out *result.Run
	if err != nil {
		out = &result.Run{SchemaVersion: result.SchemaVersion, ID: options.ID, Started: began, Finished: time.Now(), Reason: err.Error()}
		out.Conclude(nil, true)
	} else {
		if add != nil {
			add(&options)
		}
		out = session.Run(ctx, plan, options)
	}
	out.ID = name // by which the parts of the night are known
	for i := range out.Scenarios {
		s := &out.Scenarios[i]
		s.Folder = name
		if s.Bundle != "" {
			s.Bundle = name + "/" + s.Bundle
		}
	}
	n.say("%s: %s after %s", name, out.Outcome, time.Since(began).Round(time.Second))
	n.parts = append(n.parts, out)
	return out
}

// generated runs the generated scenarios for the rest of the night, and watches
// what the mesh holds meanwhile.
func (n *night) generated(ctx context.Context) error {
	rest := max(n.lasting-time.Since(n.began)-sessionMargin, n.least())
	o := fuzz.Options{Seed: n.seed, For: rest, KeepGoing: true, Dir: filepath.Join(n.dir(), generatedPart), Tell: n.say}
	plan, err := firstOf(o)
	if err != nil {
		return err
	}
	work := fuzz.New(o)
	n.say("%s: for %s", generatedPart, rest.Round(time.Second))
	n.part(ctx, generatedPart, plan, nil, func(options *session.Options) {
		options.Carry = (&soak.Soak{Edit: work.Carry}).Carry
	})
	if err := work.WriteSummary(); err != nil {
		return err
	}
	for _, found := range work.Findings() {
		n.say("finding: %s %s", found, found.File)
	}
	n.say("%s", work.Line())
	return nil
}

// sessionMargin is how long a cluster takes to come and to go.
const sessionMargin = 25 * time.Second

// lastNight is the newest earlier night that passed, or else the newest that there
// is; nil when there is none.
func lastNight(folder string) *result.Run {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var newest *result.Run
	for _, entry := range slices.Backward(entries) { // sorted by name, and so by time
		if !entry.IsDir() {
			continue
		}
		run, err := reports.Read(filepath.Join(folder, entry.Name()))
		if err != nil {
			continue
		}
		if run.Outcome == result.Passed {
			return run
		}
		if newest == nil {
			newest = run
		}
	}
	return newest
}

// compare holds the night against an earlier one, and returns what decides on the
// exit code: the night's own error, or that it is worse.
func (n *night) compare(before, now *result.Run, own error) error {
	if before == nil {
		fmt.Fprintln(n.streams.Out, "there is no earlier night to compare with")
		return own
	}
	compared, err := compare.Runs(before, now, nightLimits)
	if err != nil {
		return errors.Join(own, fmt.Errorf("compare with night %s: %w", before.ID, err))
	}
	file, err := os.Create(filepath.Join(n.dir(), CompareFile))
	if err == nil {
		err = errors.Join(compare.WriteMarkdown(file, compared), file.Close())
	}
	if err != nil {
		return errors.Join(own, fmt.Errorf("keep the comparison: %w", err))
	}
	worse, shifted := compared.Worse()
	tellComparison(n.streams.Out, compared)
	fmt.Fprintf(n.streams.Out, "compared with night %s: %d verdicts are worse, %d values have grown\n", before.ID, worse, shifted)
	if own == nil && worse+shifted > 0 {
		return &ExitError{Code: ExitRegression}
	}
	return own
}

// tellComparison prints what differs, and nothing of what only one night had:
// others are generated each time.
func tellComparison(out io.Writer, compared *compare.Comparison) {
	brief := *compared
	brief.OnlyInOne, brief.Appeared, brief.Vanished = nil, nil, nil
	_ = compare.WriteTable(out, &brief)
}
