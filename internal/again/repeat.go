package again

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/reports/repeat"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// Folder holds the attempts after the first, by their numbers, below the run's.
const Folder = "attempts"

// Times says how often a plan is carried out.
type Times struct {
	// Repeat is how many times all of it is; 0 means once.
	Repeat int
	// UntilItFails stops after the first attempt that does not pass; without a
	// Repeat there is no other end.
	UntilItFails bool
	// Attempts is how often scenarios are carried out at most that have not passed;
	// those that have are left in peace. It goes with neither of the others.
	Attempts int
	// Say is told when an attempt begins; nil: nobody.
	Say func(string)
}

// Once reports whether there is nothing to repeat.
func (t Times) Once() bool { return t.Repeat <= 1 && !t.UntilItFails && t.Attempts <= 1 }

// Carry is session.Options.Carry.
func (t Times) Carry(ctx context.Context, config *rest.Config, plan *scenarios.Plan, options engine.Options) *result.Run {
	return t.carry(ctx, plan, options, func(ctx context.Context, plan *scenarios.Plan, options engine.Options) *result.Run {
		return engine.Run(ctx, config, plan, options)
	})
}

func (t Times) carry(ctx context.Context, plan *scenarios.Plan, options engine.Options, run func(context.Context, *scenarios.Plan, engine.Options) *result.Run) *result.Run {
	dir := options.Dir
	options.Leave = false // what one attempt has made must not meet the next
	var done []repeat.Attempt
	for n := 1; ; n++ {
		one := repeat.Attempt{}
		if n > 1 {
			one.Folder = fmt.Sprintf("%s/%d", Folder, n)
			if dir != "" {
				options.Dir = filepath.Join(dir, Folder, fmt.Sprint(n))
				_ = os.MkdirAll(options.Dir, 0o755) // where there is none, the run says so
			}
			options.Timings = nil // of the session, which the first attempt has told
			if t.Say != nil {
				t.Say(fmt.Sprintf("attempt %d: %d scenarios", n, len(plan.Scenarios)))
			}
		}
		one.Run = run(ctx, plan, options)
		done = append(done, one)
		if ctx.Err() != nil || one.Run.ExitCode == result.ExitSetup {
			break
		}
		if t.Attempts > 1 {
			if plan = failed(plan, one.Run); n == t.Attempts || len(plan.Scenarios) == 0 {
				break
			}
			continue
		}
		if n >= t.Repeat && (t.Repeat > 0 || !t.UntilItFails) || t.UntilItFails && one.Run.Outcome != result.Passed {
			break
		}
	}
	return repeat.Fold(done)
}

// failed is the part of the plan that has not passed.
func failed(plan *scenarios.Plan, run *result.Run) *scenarios.Plan {
	bad := map[string]bool{}
	for _, s := range run.Scenarios {
		bad[s.Name] = s.Outcome != result.Passed && s.Outcome != result.Skipped
	}
	return Part(plan, func(name string) bool { return bad[name] })
}

// Part is the plan with those scenarios only whose names are wanted.
func Part(plan *scenarios.Plan, wanted func(name string) bool) *scenarios.Plan {
	part := &scenarios.Plan{Set: plan.Set}
	for _, s := range plan.Scenarios {
		if wanted(s.Metadata.Name) {
			part.Scenarios = append(part.Scenarios, s)
		}
	}
	return part
}
