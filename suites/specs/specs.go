package specs

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"

	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/matchers"
	"github.com/meshproof/meshproof/suites/places"
)

var (
	setup  = session.AddFlags(flag.CommandLine)
	choice = session.ChoiceFlags(flag.CommandLine)
	where  = places.AddFlags(flag.CommandLine)
	files  = flag.String("scenarios", "", "scenario files and folders, separated by commas, instead of the library")
)

// writeReports and publish are how a run's result leaves the suite.
var (
	writeReports = reports.WriteAll
	publish      = reports.Publish
)

// The session of this process; nil until it is started.
var current *conducted

// Run is the suite of one folder of the library, or of the files that the flag
// names instead: the specs are built, and the session is started with the first of
// them. It is called once in a process.
func Run(t *testing.T, folder string) {
	t.Helper()
	root, err := places.SourceTree()
	if err != nil {
		t.Fatal(err)
	}
	set, err := load(folder)
	if err != nil {
		t.Fatalf("\n%v", err)
	}
	plan := scenarios.NewPlan(set, nil)
	build(plan, root)
	suiteConfig, _ := GinkgoConfiguration()
	suiteConfig.FailOnEmpty = true // a filter that selects nothing proves nothing
	if suiteConfig.ParallelTotal > 1 {
		t.Fatal("run this suite in one process: the scenarios run side by side inside it")
	}
	selected := map[string]bool{}
	if !suiteConfig.DryRun {
		bin, err := where.Programs(root, "meshproof-agent", "meshproof-kube")
		if err != nil {
			t.Fatal(err)
		}
		preview := PreviewSpecs(folder)
		for _, spec := range preview.SpecReports {
			if spec.LeafNodeType == types.NodeTypeIt && !spec.State.Is(types.SpecStateSkipped|types.SpecStatePending) {
				selected[idOf(spec, plan)] = true
			}
		}
		runs, err := where.Runs(root)
		if err != nil {
			t.Fatal(err)
		}
		current = &conducted{root: root, bin: bin, runs: runs, plan: scenarios.NewPlan(set, func(c *scenarios.PlannedClaim) bool { return selected[c.ID] })}
		choice.Apply(current.plan)
	}
	BeforeSuite(begin)
	AfterSuite(end)
	RegisterFailHandler(Fail)
	RunSpecs(t, folder, suiteConfig)
}

// load reads the library's folder, or what the flag names. Paths are the user's own, so
// relative ones are taken from where the user stands as far as that is known.
func load(folder string) (*scenarios.Set, error) {
	if *files == "" {
		return scenarios.Library(folder)
	}
	return scenarios.Load(strings.Split(*files, ",")...)
}

// idOf finds the claim of a spec: its ID is one of the labels.
func idOf(spec types.SpecReport, plan *scenarios.Plan) string {
	for _, claim := range plan.Claims() {
		if slices.Contains(spec.LeafNodeLabels, claim.ID) {
			return claim.ID
		}
	}
	return ""
}

// build makes the tree: a container per scenario, one per step, a spec per
// claim.
func build(plan *scenarios.Plan, root string) {
	at := func(p scenarios.Pos) types.CodeLocation {
		file := p.File
		if !filepath.IsAbs(file) && *files == "" {
			file = filepath.Join(root, file)
		}
		return types.CodeLocation{FileName: file, LineNumber: p.Line}
	}
	for _, scenario := range plan.Scenarios {
		Describe(scenario.Metadata.Name, at(scenario.Pos), func() {
			for _, step := range scenario.Steps {
				if len(step.Claims) == 0 {
					continue
				}
				Context(step.Name, at(step.Pos), func() {
					for _, claim := range step.Claims {
						It(claim.Name, at(claim.Source), Label(claim.Labels...), func(ctx SpecContext) {
							assert(ctx, claim)
						})
					}
				})
			}
		})
	}
}

// assert waits for a claim's verdict and turns it into the spec's.
func assert(ctx SpecContext, claim *scenarios.PlannedClaim) {
	GinkgoHelper()
	done, err := current.await(ctx, claim.ID)
	if err != nil {
		Fail(fmt.Sprintf("%s: the claim was not judged: %v", claim.Source, err))
	}
	if current.broken() {
		AbortSuite("the set-up failed: " + done.result.Reason)
	}
	if by := current.interrupted(); by != nil && done.result.Outcome == result.Skipped {
		AbortSuite(by.Error())
	}
	text := report(claim, done)
	switch done.result.Outcome {
	case result.Skipped:
		Skip(done.result.Reason)
	case result.Passed:
		// Where the rules are the expectation the engine has compared with them.
		if claim.Call != nil && done.outcome != nil && len(claim.Call.Expect) > 0 {
			Expect(done.outcome).To(matchers.BeOutcome(claim.Call.Expect.Kinds(claim.Call.Protocol)...), text)
		}
	default:
		Fail(text)
	}
}

// report is what a reader needs to understand a claim that does not hold.
func report(claim *scenarios.PlannedClaim, done judged) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s\n", strings.ToUpper(string(done.result.Outcome)), done.result.Reason)
	for _, field := range []struct{ name, value string }{
		{"where", claim.Source.String()}, {"shows", strings.Join(done.result.Shows, ", ")},
		{"expected", done.result.Expected}, {"observed", done.result.Observed}, {"witness", done.result.Witness},
	} {
		if field.value != "" {
			fmt.Fprintf(&text, "  %-9s %s\n", field.name, field.value)
		}
	}
	for _, line := range done.result.Details {
		fmt.Fprintf(&text, "            %s\n", line)
	}
	return text.String()
}

// begin starts the session.
func begin() {
	if err := current.start(); err != nil {
		AbortSuite(err.Error())
	}
}

// end waits for the session's end and says what no spec can.
func end() {
	if current == nil {
		return
	}
	out, err := current.finish()
	if err != nil {
		Fail(err.Error())
	}
	switch {
	case out == nil:
	case out.Outcome == result.Error:
		Fail(fmt.Sprintf("the run ended with exit code %d: %s", out.ExitCode, out.Reason))
	case out.Summary.Skipped == out.Summary.Total && current.interrupted() == nil:
		Fail("nothing was judged: every claim that was selected is skipped")
	}
}
