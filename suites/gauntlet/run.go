package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// tries is how often a defect has its turn while nothing can be said of it: a
// cluster that did not come up is no word about the mesh.
const tries = 2

// turnLimit bounds a run: a defect whose every write is waited for in vain must
// not hold up the others. It is far above what a turn takes.
const turnLimit = 90 * time.Second

// errTooLong is a run's that was ended by the limit.
var errTooLong = errors.New("the run has taken too long: name smaller scenarios")

// grace is how long an interrupted run may give its cluster back.
const grace = time.Minute

// turn is a defect with its programs, or why there are none.
type turn struct {
	defect   *defect
	programs string
	err      error
}

// gauntlet runs defects, each in a folder below out.
type gauntlet struct {
	// tree does not change while it runs.
	tree tree
	out  string
	// jobs is how many runs go on side by side.
	jobs int
	// keep leaves the programs of defects that were caught.
	keep bool
	// limit is turnLimit outside tests.
	limit time.Duration
	// tell is told of each verdict, one at a time.
	tell func(verdict)
}

// run has every defect take its turn, builds the next ones meanwhile, and
// returns the verdicts in the order of the defects.
func (g *gauntlet) run(ctx context.Context, defects []*defect) []verdict {
	built := make(chan int)
	turns := make([]turn, len(defects))
	verdicts := make([]verdict, len(defects))
	var workers sync.WaitGroup
	workers.Go(func() {
		defer close(built)
		for i, d := range defects {
			turns[i] = g.build(ctx, d)
			built <- i
		}
	})
	var telling sync.Mutex
	for range g.jobs {
		workers.Go(func() {
			for i := range built {
				v := g.take(ctx, turns[i])
				telling.Lock()
				verdicts[i] = v
				g.tell(v)
				telling.Unlock()
			}
		})
	}
	workers.Wait()
	return verdicts
}

func (g *gauntlet) folder(d *defect) string { return filepath.Join(g.out, d.Name) }

// build makes the defect's programs in a folder that held nothing before.
func (g *gauntlet) build(ctx context.Context, d *defect) turn {
	t := turn{defect: d, programs: filepath.Join(g.folder(d), "programs")}
	if err := os.RemoveAll(g.folder(d)); err != nil {
		t.err = fmt.Errorf("make room for defect %s: %w", d.Name, err)
		return t
	}
	t.err = g.tree.build(ctx, d, t.programs)
	return t
}

// take runs the defect's scenarios with its programs.
func (g *gauntlet) take(ctx context.Context, t turn) verdict {
	v := t.defect.verdict()
	if t.err != nil {
		v.Outcome, v.Reason = unbuilt, t.err.Error()
		return v
	}
	for v.Tries = 1; ; v.Tries++ {
		began := time.Now()
		limited, cancel := context.WithTimeoutCause(ctx, g.limit, errTooLong)
		run, dir, code, err := meshproof(limited, t.programs, filepath.Join(g.folder(t.defect), "runs"), t.defect.Dialect, t.defect.Scenarios)
		cancel()
		v.Total, v.Dir = time.Since(began).Seconds(), dir
		if err != nil {
			v.Outcome, v.Reason = unjudged, err.Error()
		} else {
			t.defect.judge(&v, run, code)
		}
		if v.Outcome != unjudged || v.Tries == tries || errors.Is(err, errTooLong) || ctx.Err() != nil {
			break
		}
	}
	if v.Outcome == caught && !g.keep {
		os.RemoveAll(t.programs)
	}
	return v
}

// meshproof runs scenarios with the programs of a folder on a cluster of its
// own. The error says why there is no result.
func meshproof(ctx context.Context, programs, runs, dialect string, scenarios []string) (run *result.Run, dir string, code int, err error) {
	args := []string{"run", "--quiet", "--output-dir", runs}
	if dialect != "" {
		args = append(args, "--dialect", dialect)
	}
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, "", 0, fmt.Errorf("make a folder for runs: %w", err)
	}
	// Whatever an earlier run has left must not be taken for this one's.
	if err := os.Remove(filepath.Join(runs, "latest")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", 0, fmt.Errorf("make room for the run: %w", err)
	}
	log, err := os.Create(filepath.Join(runs, "output.txt"))
	if err != nil {
		return nil, "", 0, fmt.Errorf("keep the run's output: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(programs, tool), append(args, scenarios...)...)
	cmd.Stdout, cmd.Stderr = log, log
	// A terminal's Ctrl-C is for this process, which passes it on once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = grace
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, "", 0, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, "", 0, fmt.Errorf("run meshproof: %w", err)
	}
	run, dir, err = readRun(runs)
	if err != nil {
		return nil, "", 0, fmt.Errorf("meshproof %s ended with exit code %d: %w", strings.Join(args, " "), cmd.ProcessState.ExitCode(), err)
	}
	return run, dir, cmd.ProcessState.ExitCode(), nil
}
