package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/again"
	"github.com/meshproof/meshproof/internal/fuzz"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// newReplay runs what a run ran, or a file: the same plan with the same seed. What
// happens when follows from the plan, faults included.
func newReplay(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "replay RUN_DIR|FILE...", Short: "Run again what a run has run: the same scenarios with the same seed",
		Long: "replay takes the plan and the seed from the folder of a run, generated scenarios included, and runs them again.\n" +
			"Faults come at the same places of the plan and last as long as they did by it.\n\n" + exitCodesHelp,
		Example: "  meshproof replay artifacts/latest\n  meshproof replay artifacts/latest --run revoke\n  meshproof replay artifacts/latest/findings/leak-8412-3.yaml"}
	// Of its own it has one flag; all others are those of run.
	run := newRun(streams)
	only := cmd.Flags().String("run", "", "only scenarios whose names fit this `expression`")
	cmd.Flags().AddFlagSet(run.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("say which run to replay: the folder that it left, or scenario files")
		}
		expression, err := regexp.Compile(*only)
		if err != nil {
			return usageError("--run: %w", err)
		}
		what, seed, err := asRecorded(args, expression)
		if err != nil {
			return err
		}
		settings := map[string]string{}
		if seed != 0 {
			settings["seed"] = strconv.FormatInt(seed, 10)
		}
		if _, err := fuzz.ReadSummary(args[0]); err == nil {
			settings["parallel"] = strconv.Itoa(fuzz.UsualParallel) // they are many
		}
		for name, value := range settings {
			if cmd.Flags().Changed(name) {
				continue
			}
			if err := run.Flags().Set(name, value); err != nil {
				return fmt.Errorf("set --%s: %w", name, err)
			}
		}
		// What was chosen by flags is chosen by them again.
		if err := run.Flags().Parse(what); err != nil {
			return usageError("what the run was asked for: %w", err)
		}
		run.SetContext(cmd.Context())
		return run.RunE(run, run.Flags().Args())
	}
	return cmd
}

// asRecorded are the arguments of run that a run was made with, and its seed; 0 for
// files.
func asRecorded(args []string, only *regexp.Regexp) (what []string, seed int64, err error) {
	info, err := os.Stat(args[0])
	if err != nil {
		return nil, 0, &ExitError{Code: ExitUsage, Err: err}
	}
	if !info.IsDir() {
		return args, 0, nil
	}
	if len(args) > 1 {
		return nil, 0, usageError("replay takes one run's folder at a time")
	}
	dir := args[0]
	if summary, err := fuzz.ReadSummary(dir); err == nil {
		what, err = generatedPlans(dir, only)
		return what, summary.Seed, err
	}
	done, err := reports.Read(dir)
	begun, _, journalErr := again.Read(dir)
	switch {
	case only.String() == "" && journalErr == nil:
		return begun.Select, begun.Seed, nil
	case err == nil:
		what, err = namesOf(done, func(s *result.Scenario) bool { return only.MatchString(s.Name) })
		return what, done.Seed, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, 0, usageError("%s: no run has left its plan there", dir)
	}
	return nil, 0, &ExitError{Code: ExitUsage, Err: err}
}

// generatedPlans are the files of the scenarios that were generated in a run, in
// the order of their numbers.
func generatedPlans(dir string, only *regexp.Regexp) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "scenarios", "*", fuzz.PlanFile))
	if err != nil {
		return nil, fmt.Errorf("look for the plans in %s: %w", dir, err)
	}
	name := func(file string) string { return filepath.Base(filepath.Dir(file)) }
	files = slices.DeleteFunc(files, func(file string) bool { return !only.MatchString(name(file)) })
	slices.SortFunc(files, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(name(a)), len(name(b))), cmp.Compare(name(a), name(b)))
	})
	if len(files) == 0 {
		return nil, usageError("%s holds no generated scenario of such a name", dir)
	}
	return files, nil
}

// namesOf are scenarios of a run as run takes them: by name those of the library,
// by path the others.
func namesOf(run *result.Run, which func(*result.Scenario) bool) ([]string, error) {
	library, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		return nil, err
	}
	var args []string
	for i := range run.Scenarios {
		s := &run.Scenarios[i]
		if !which(s) {
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
		return nil, usageError("run %s has no such scenario", run.ID)
	}
	return args, nil
}
