package generated

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/fuzz"
	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
	"github.com/meshproof/meshproof/scenarios"
	"github.com/meshproof/meshproof/suites/places"
)

var (
	setup     = session.AddFlags(flag.CommandLine)
	where     = places.AddFlags(flag.CommandLine)
	seed      = flag.Int64("seed", 0, "seed of the scenarios (default: from the clock)")
	lasting   = flag.Duration("for", 5*time.Minute, "how long to carry out scenarios")
	most      = flag.Int("most", 0, "`number` of scenarios at most; 0 is as many as there is time for")
	keepGoing = flag.Bool("keep-going", false, "go on after a finding until the time is up")
	defects   = flag.String("defects", "", "`names` of defects of the gauntlet, separated by commas, that are to be found; none: the right mesh is judged")
)

func TestGenerated(t *testing.T) {
	if *seed == 0 {
		*seed = time.Now().UnixNano() % 1_000_000_000
	}
	RegisterFailHandler(Fail)
	config, reporter := GinkgoConfiguration()
	config.FailOnEmpty = true
	RunSpecs(t, "generated", config, reporter)
}

var _ = Describe("generated scenarios", func() {
	It("have no findings", Label("generated"), func(ctx SpecContext) {
		if *defects != "" {
			Skip("meshes with defects are judged")
		}
		out, work, err := judge(ctx)
		Expect(err).NotTo(HaveOccurred())
		fmt.Fprintln(os.Stdout, work.Line())
		for _, found := range work.Findings() {
			AddReportEntry(string(found.Kind), found.String()+"\n"+found.File)
		}
		switch {
		case out.Outcome == result.Failed, len(work.Findings()) > 0:
			Fail(told(work))
		case out.Outcome == result.Error:
			Fail(fmt.Sprintf("the run ended with exit code %d: %s", out.ExitCode, out.Reason))
		}
	})

	It("find every defect that is named, and make it small", Label("defects"), func(ctx SpecContext) {
		if *defects == "" {
			Skip("no defects are named")
		}
		var failed []error
		for name := range strings.SplitSeq(*defects, ",") {
			line, err := hunt(ctx, strings.TrimSpace(name))
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
				line = "NOT FOUND: " + err.Error()
			}
			failed = append(failed, err)
			fmt.Fprintf(os.Stdout, "%s: %s\n", name, line)
		}
		Expect(errors.Join(failed...)).NotTo(HaveOccurred())
	})
})

// judge has the right mesh judged by generated scenarios.
func judge(ctx context.Context) (*result.Run, *fuzz.Fuzz, error) {
	options, _, err := setup.Options()
	if err != nil {
		return nil, nil, err
	}
	_, folder, bin, err := found()
	if err != nil {
		return nil, nil, err
	}
	options.Programs = bin
	now := time.Now()
	id := session.NewID(now)
	dir := filepath.Join(folder, id)
	if err := reports.Begin(dir, id, now); err != nil {
		return nil, nil, err
	}
	work := fuzz.New(fuzz.Options{Seed: *seed, For: *lasting, Most: *most, KeepGoing: *keepGoing, Parallel: options.Parallel, Dir: dir,
		Tell: func(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }})
	options.ID, options.Dir, options.Seed, options.Carry = id, dir, *seed, work.Carry
	options.Observe = func(e engine.Event) {
		if e.Kind == engine.Waiting && e.Scenario == "" {
			fmt.Fprintln(os.Stdout, e.Text)
		}
	}
	first, err := generate.New(*seed, 0)
	if err != nil {
		return nil, nil, err
	}
	planned, _, err := generate.Plan(first.Scenario)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(os.Stdout, "generated scenarios for %s, seed %d\n", *lasting, *seed)
	out := session.Run(ctx, &scenarios.Plan{Set: &scenarios.Set{}, Scenarios: []*scenarios.PlannedScenario{planned}}, options)
	err = errors.Join(reports.WriteAll(dir, out), reports.Publish(folder, id), work.WriteSummary(), text.Summary(os.Stdout, out, filepath.Join(dir, reports.HTMLFile)))
	return out, work, err
}

// told is what a reader needs of the findings.
func told(work *fuzz.Fuzz) string {
	var lines strings.Builder
	for _, found := range work.Findings() {
		fmt.Fprintf(&lines, "%s\n", found)
		if found.File != "" {
			fmt.Fprintf(&lines, "    meshproof run %s\n", found.File)
		}
	}
	return lines.String() + work.Line()
}

// found are the source tree, the folder of runs and that of the programs.
func found() (root, runs, bin string, err error) {
	if root, err = places.SourceTree(); err != nil {
		return
	}
	if runs, err = where.Runs(root); err != nil {
		return
	}
	bin, err = where.Programs(root, "meshproof", "meshproof-agent", "meshproof-kube")
	return
}
