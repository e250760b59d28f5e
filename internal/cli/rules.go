package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/rulebook"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/scenarios"
)

func newRules(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "rules", Short: "Say of every rule of the rule book whether a run has shown it",
		Example: "  meshproof rules --run artifacts/latest\n  meshproof rules --run artifacts/rules/documented --run artifacts/rules/linkerd --tests artifacts/rules/tests.json -o md\n  meshproof rules --missing",
		Args:    exactArgs(0)}
	flags := cmd.Flags()
	output := flags.StringP("output", "o", "table", "table, json or md")
	runs := flags.StringSlice("run", nil, "folders of `runs` to judge by (default artifacts/latest); what one of them shows is shown")
	tests := flags.String("tests", "", "`file` with what go test -json has printed")
	missing := flags.Bool("missing", false, "list the rules that no claim of the library and no test carries, without a run")
	command := flags.Bool("test-command", false, "print the arguments of go that run the tests that show rules")
	cmd.RunE = func(*cobra.Command, []string) error {
		write, known := map[string]func(*rulebook.Report) error{
			"table": func(r *rulebook.Report) error { return r.WriteTable(streams.Out) },
			"json":  func(r *rulebook.Report) error { return r.WriteJSON(streams.Out) },
			"md":    func(r *rulebook.Report) error { return r.WriteMarkdown(streams.Out) },
		}[*output]
		switch {
		case !known:
			return usageError("unknown output %q: want table, json or md", *output)
		case *missing:
			return missingRules(streams)
		case *command:
			_, err := fmt.Fprintln(streams.Out, strings.Join(rulebook.Command(), "\n"))
			return err
		}
		evidence, err := evidence(*runs, *tests)
		if err != nil {
			return err
		}
		report, err := rulebook.Judge(evidence)
		if err != nil {
			return err
		}
		if err := write(report); err != nil {
			return fmt.Errorf("print the rules: %w", err)
		}
		if report.Shown < report.InScope {
			return &ExitError{Code: ExitFinding}
		}
		return nil
	}
	return cmd
}

// missingRules prints a line per rule that nothing carries.
func missingRules(streams IOStreams) error {
	set, err := scenarios.Library()
	if err != nil {
		return err
	}
	missing := rulebook.Missing(set)
	for _, rule := range missing {
		if _, err := fmt.Fprintf(streams.Out, "%s  %s: %s\n", rule.ID, rule.Feature, rule.Text); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(streams.Out, "%d rules without a claim or a test\n", len(missing))
	return err
}

// evidence reads what rules are judged by. Without any run there is nothing to
// judge by.
func evidence(folders []string, testFile string) (rulebook.Evidence, error) {
	var e rulebook.Evidence
	if len(folders) == 0 {
		folders = []string{filepath.Join(artifacts(""), "latest")}
		if _, err := os.Stat(folders[0]); errors.Is(err, os.ErrNotExist) {
			return e, &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("there is no run to judge by: %s does not exist; name one with --run", folders[0])}
		}
	}
	for _, folder := range folders {
		run, err := reports.Read(folder)
		if errors.Is(err, os.ErrNotExist) {
			return e, &ExitError{Code: ExitInconclusive, Err: fmt.Errorf("there is no run to judge by: %w", err)}
		}
		if err != nil {
			return e, &ExitError{Code: ExitUsage, Err: err}
		}
		one := rulebook.Run{Result: run}
		recording, err := history.Open(folder)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return e, &ExitError{Code: ExitUsage, Err: err}
		}
		if err == nil {
			one.Recording = recording
		}
		e.Runs = append(e.Runs, one)
	}
	if testFile == "" {
		return e, nil
	}
	file, err := os.Open(testFile)
	if err != nil {
		return e, &ExitError{Code: ExitUsage, Err: err}
	}
	defer file.Close() // read only: nothing can be lost
	if e.Tests, err = rulebook.ReadTests(file); err != nil {
		return e, &ExitError{Code: ExitUsage, Err: fmt.Errorf("%s: %w", testFile, err)}
	}
	return e, nil
}
