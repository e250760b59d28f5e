package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/interrupt"
)

// Exit codes, those of meshproof.
const (
	exitOK          = 0
	exitFinding     = 1
	exitSetup       = 3
	exitUsage       = 4
	exitInterrupted = 130
)

const usage = `usage: go run ./suites/gauntlet COMMAND

  run [-defects NAME,...] [-jobs N] [-keep]   build every defect and have the suite catch it
  clean [-defects NAME,...] [-times N]        run the same scenarios with the right mesh, N times in a row
  build NAME DIR                              leave the programs of a mesh with the defect in DIR
  list                                        name the defects

-bin DIR has the programs of the right mesh (default bin), -out DIR takes runs and tables (default artifacts/gauntlet).
`

func main() {
	ctx, stop := interrupt.Context(context.Background(), os.Stderr)
	where, err := findTree()
	code := exitSetup
	if err == nil {
		code, err = where.do(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// do carries out a command. It returns the exit code, and an error when the
// command could not be carried out.
func (t tree) do(ctx context.Context, args []string, out io.Writer) (int, error) {
	command := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	only := flags.String("defects", "", "")
	bin := flags.String("bin", t.bin, "")
	folder := flags.String("out", filepath.Join(t.root, "artifacts", "gauntlet"), "")
	jobs := flags.Int("jobs", defaultJobs, "")
	times := flags.Int("times", defaultTimes, "")
	keep := flags.Bool("keep", false, "")
	if err := flags.Parse(args); err != nil {
		return exitUsage, fmt.Errorf("%w\n%s", err, usage)
	}
	names := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' || r == ' ' })
	building := command == "build" && flags.NArg() == 2
	if building {
		names = []string{flags.Arg(0)}
	}
	if !building && flags.NArg() > 0 || command == "build" && !building || *jobs < 1 || *times < 1 {
		return exitUsage, errors.New(usage)
	}
	var err error
	if t.bin, err = filepath.Abs(*bin); err != nil {
		return exitSetup, err
	}
	if *folder, err = filepath.Abs(*folder); err != nil {
		return exitSetup, err
	}
	defects, err := readDefects(t.defects(), names)
	if err != nil {
		return exitFinding, err
	}
	switch command {
	case "build":
		if err := t.build(ctx, defects[0], flags.Arg(1)); err != nil {
			return exitFinding, err
		}
		return exitOK, nil
	case "list":
		for _, d := range defects {
			fmt.Fprintf(out, "%s\t%s\n", d.Name, d.Title)
		}
		return exitOK, nil
	case "run":
		return t.runAll(ctx, defects, &gauntlet{out: *folder, jobs: *jobs, keep: *keep, limit: turnLimit}, out)
	case "clean":
		return t.runClean(ctx, defects, *folder, *times, out)
	}
	return exitUsage, errors.New(usage)
}

// defaultJobs is how many clusters there are at once: while one of them starts,
// which is much of a short run, the others have the machine.
const defaultJobs = 3

// runAll runs the gauntlet on a copy of the tree. Before anything starts every
// patch must apply.
func (t tree) runAll(ctx context.Context, defects []*defect, g *gauntlet, out io.Writer) (int, error) {
	began := time.Now()
	var stale []error
	for _, d := range defects {
		if _, err := d.apply(t.root); err != nil {
			stale = append(stale, err)
		}
	}
	if len(stale) > 0 {
		return exitFinding, errors.Join(stale...)
	}
	if err := os.MkdirAll(g.out, 0o755); err != nil {
		return exitSetup, fmt.Errorf("make the gauntlet's folder: %w", err)
	}
	frozen, thaw, err := t.freeze(ctx, g.out)
	if err != nil {
		return exitSetup, err
	}
	defer thaw()
	g.tree = frozen
	var done []verdict
	g.tell = func(v verdict) {
		done = append(done, v)
		_ = newTable(began, done, len(defects)).write(g.out) // evidence, should this end early
		fmt.Fprintf(out, "[%6s] %d/%d %-10s %s: ", seconds(time.Since(began).Seconds()), len(done), len(defects), v.Outcome, v.Name)
		if v.Outcome == caught {
			fmt.Fprintf(out, "%s, after %s of %s\n", v.By, seconds(v.Catch), seconds(v.Total))
			return
		}
		fmt.Fprintf(out, "%s\n", v.Reason)
		if v.Dir != "" {
			fmt.Fprintf(out, "         %s\n", filepath.Join(v.Dir, "report.html"))
		}
	}
	all := newTable(began, g.run(ctx, defects), len(defects))
	if ctx.Err() != nil {
		return exitInterrupted, context.Cause(ctx)
	}
	if err := all.write(g.out); err != nil {
		return exitSetup, err
	}
	fmt.Fprintf(out, "table %s\n%s\n", filepath.Join(g.out, tableFile), all.last())
	if all.Caught < all.Total {
		return exitFinding, nil
	}
	return exitOK, nil
}
