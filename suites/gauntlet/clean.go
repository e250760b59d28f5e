package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// defaultTimes is how many clean runs there must be in a row.
const defaultTimes = 20

// runClean runs the scenarios of all defects with the right mesh, again and
// again: a suite that finds something there proves nothing by what it finds
// elsewhere. The first finding ends it. Scenarios of another dialect than the
// usual one have runs of their own.
func (t tree) runClean(ctx context.Context, defects []*defect, folder string, times int, out io.Writer) (int, error) {
	byDialect := map[string][]string{}
	var dialects []string
	for _, d := range defects {
		if byDialect[d.Dialect] == nil {
			dialects = append(dialects, d.Dialect)
		}
		for _, name := range d.Scenarios {
			if !slices.Contains(byDialect[d.Dialect], name) {
				byDialect[d.Dialect] = append(byDialect[d.Dialect], name)
			}
		}
	}
	slices.Sort(dialects)
	home := filepath.Join(folder, "clean")
	programs := filepath.Join(home, "programs")
	if err := t.copyPrograms(programs); err != nil {
		return exitSetup, err
	}
	for _, dialect := range dialects {
		fmt.Fprintf(out, "clean runs%s: %d times %d scenarios\n", of(dialect), times, len(byDialect[dialect]))
	}
	for i := range times {
		for _, dialect := range dialects {
			began := time.Now()
			run, dir, code, err := meshproof(ctx, programs, filepath.Join(home, "runs"), dialect, byDialect[dialect])
			if ctx.Err() != nil {
				return exitInterrupted, context.Cause(ctx)
			}
			if err != nil {
				return exitSetup, fmt.Errorf("clean run %d: %w", i+1, err)
			}
			fmt.Fprintf(out, "clean run %d of %d%s: %d claims of %d scenarios in %s, %d failed, %d inconclusive\n", i+1, times, of(dialect),
				run.Summary.Total, len(run.Scenarios), seconds(time.Since(began).Seconds()), run.Summary.Failed, run.Summary.Inconclusive)
			if code != result.ExitPassed || run.ExitCode != result.ExitPassed {
				for _, one := range failed(run) {
					fmt.Fprintf(out, "  %s: %s\n", one.id, one.claim.Reason)
				}
				fmt.Fprintf(out, "  %s\nclean runs: %d of %d\n", filepath.Join(dir, "report.html"), i, times)
				return exitFinding, nil
			}
		}
	}
	fmt.Fprintf(out, "clean runs: %d of %d\n", times, times)
	return exitOK, nil
}

func of(dialect string) string {
	if dialect == "" {
		return ""
	}
	return " of dialect " + dialect
}
