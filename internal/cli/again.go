package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/again"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// repeating is what a run is to do again: what an earlier one has left, what has
// failed in it, or itself.
type repeating struct {
	resume, failed string
	times          again.Times

	// from is the folder of the run that is resumed, begun what it was asked for,
	// settled its scenarios that have a verdict, and whole the plan with them.
	from    string
	begun   *again.Begun
	settled []result.Scenario
	whole   *scenarios.Plan
	journal *again.Journal
}

func addRepeatFlags(cmd *cobra.Command) *repeating {
	r := &repeating{}
	flags := cmd.Flags()
	flags.StringVar(&r.resume, "resume", "", "go on with the run in this `folder`: only what has no verdict there")
	flags.StringVar(&r.failed, "rerun-failed", "", "only the scenarios that have not passed in the run in this `folder`")
	flags.IntVar(&r.times.Repeat, "repeat", 0, "`number` of times that all of it is run")
	flags.BoolVar(&r.times.UntilItFails, "until-it-fails", false, "run it again and again until it does not pass, at most --repeat times")
	flags.IntVar(&r.times.Attempts, "flake-attempts", 0, "`number` of times at most that a scenario is run that does not pass: this tells flaky claims from others, and makes none of them good")
	return r
}

// args are the names and paths to run, with what follows from an earlier run.
func (r *repeating) args(cmd *cobra.Command, args []string) ([]string, error) {
	switch {
	case r.resume != "" && r.failed != "":
		return nil, usageError("--resume goes on with a run, --rerun-failed begins another: say one of them")
	case r.times.Repeat < 0 || r.times.Attempts < 0:
		return nil, usageError("--repeat and --flake-attempts are numbers of times")
	case r.times.Attempts > 1 && (r.times.Repeat > 1 || r.times.UntilItFails):
		return nil, usageError("--flake-attempts goes with neither --repeat nor --until-it-fails: those run everything each time")
	case r.resume != "" && !r.times.Once():
		return nil, usageError("--resume goes on with one run, and does not go with repeating it")
	case r.failed != "":
		if len(args) > 0 {
			return nil, usageError("--rerun-failed takes its scenarios from the run in %s, and none by name", r.failed)
		}
		return notPassed(r.failed)
	case r.resume == "":
		return args, nil
	}
	var err error
	r.from = r.resume
	r.begun, r.settled, err = again.Read(r.resume)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError("%s: no run has left a %s there", r.resume, again.JournalFile)
	}
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: err}
	}
	if len(args) > 0 {
		return nil, usageError("--resume takes its scenarios from the run in %s, and none by name", r.resume)
	}
	flags := cmd.Flags()
	if err := flags.Parse(r.begun.Select); err != nil {
		return nil, usageError("what the run in %s was asked for: %w", r.resume, err)
	}
	return flags.Args(), nil
}

// notPassed are the scenarios to run again: by name those of the library, by path
// the others.
func notPassed(dir string) ([]string, error) {
	run, err := reports.Read(dir)
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: err}
	}
	library, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		return nil, err
	}
	var args []string
	for _, s := range run.Scenarios {
		if s.Outcome == result.Passed || s.Outcome == result.Skipped && run.ExitCode < 128 {
			continue
		}
		arg := s.Source.File
		if slices.ContainsFunc(library.Scenarios, func(one *scenarios.Scenario) bool { return one.Metadata.Name == s.Name && one.File == s.Source.File }) {
			arg = s.Name
		}
		if !slices.Contains(args, arg) {
			args = append(args, arg)
		}
	}
	if len(args) == 0 {
		return nil, &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("nothing to run: every scenario of run %s has passed", run.ID)}
	}
	return args, nil
}

// rest is the part of the plan that has no verdict yet.
func (r *repeating) rest(plan *scenarios.Plan) *scenarios.Plan {
	r.whole = plan
	if r.from == "" {
		return plan
	}
	done := map[string]bool{}
	for _, s := range r.settled {
		done[s.Name] = true
	}
	return again.Part(plan, func(name string) bool { return !done[name] })
}

// begin keeps a journal of the run, takes over what the run before it has left,
// and adds to the session's options what they need.
func (r *repeating) begin(ctx context.Context, options *session.Options, selected []string, say func(string)) error {
	if !r.times.Once() {
		r.times.Say = say
		options.Carry = r.times.Carry
		return nil // there is no going on with attempts
	}
	for i := range r.settled {
		if err := r.take(options.Dir, &r.settled[i]); err != nil {
			return fmt.Errorf("keep the evidence of %s: %w", r.settled[i].Name, err)
		}
	}
	var err error
	if r.journal, err = again.Begin(options.Dir, again.Begun{Run: options.ID, Seed: options.Seed, Select: selected}, r.settled); err != nil {
		return err
	}
	observe := options.Observe
	options.Observe = func(e engine.Event) {
		if e.Kind == engine.ScenarioFinished && ctx.Err() == nil {
			r.journal.Add(e.Finished)
		}
		if observe != nil {
			observe(e)
		}
	}
	return nil
}

// take copies the evidence of a scenario of the earlier run.
func (r *repeating) take(dir string, s *result.Scenario) error {
	to := again.Earlier(r.begun.Run)
	for _, part := range []string{s.Bundle, path.Join(s.Folder, history.FileName)} {
		if part == "" || !filepath.IsLocal(part) {
			continue
		}
		from, into := filepath.Join(r.from, part), filepath.Join(dir, to, part)
		info, err := os.Stat(from)
		if err != nil {
			continue // it was not kept
		}
		if _, err := os.Stat(into); err == nil {
			continue // another scenario's, too
		}
		if info.IsDir() {
			err = os.CopyFS(into, os.DirFS(from))
		} else {
			err = copyFile(from, into)
		}
		if err != nil {
			return err
		}
	}
	if s.Bundle != "" {
		s.Bundle = path.Join(to, s.Bundle)
	}
	s.Folder = path.Join(to, s.Folder)
	return nil
}

// copyFile copies a file, and makes the folder that it goes to.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// nothing is the result of a resumed run that has nothing left to do, as one has
// that ended before its reports were written; nil for any other.
func (r *repeating) nothing(plan *scenarios.Plan, options session.Options) *result.Run {
	if r.from == "" || len(plan.Scenarios) > 0 {
		return nil
	}
	now := time.Now()
	out := &result.Run{SchemaVersion: result.SchemaVersion, ID: options.ID, Tool: result.Tool{Version: options.Version}, Seed: options.Seed, Started: now, Finished: now}
	out.Conclude(nil, false)
	return out
}

// end completes the result and closes the journal.
func (r *repeating) end(out *result.Run) error {
	if r.from != "" {
		again.Join(out, r.whole, r.settled)
	}
	if r.journal == nil {
		return nil
	}
	return r.journal.Close()
}
