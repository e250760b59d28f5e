package cli

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/lint"
	"github.com/meshproof/meshproof/scenarios"
)

func newLint(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "lint [FILE|FOLDER...]", Short: "Find what is wrong with scenarios, without a cluster",
		Long: "Find what is wrong with scenarios, without a cluster: in files and folders, or in the\nlibrary when none is named. Errors make a run fail for certain; warnings do not.\n\n" +
			"Exit code 0 without errors, 4 with one.",
		Example: "  meshproof lint ./policies\n  meshproof lint ./policies -o json > lint.sarif"}
	output := cmd.Flags().StringP("output", "o", "text", "text (file:line:column), or json (SARIF)")
	dialect := cmd.Flags().String("dialect", string(scenarios.Documented), "dialect of the mesh: documented or linkerd")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		write, known := map[string]func(IOStreams, []lint.Finding) error{"text": lintText, "json": lintJSON}[*output]
		if !known {
			return usageError("unknown output %q: want text or json", *output)
		}
		if !slices.Contains(scenarios.Dialect("").Values(), *dialect) {
			return usageError("unknown dialect %q: want documented or linkerd", *dialect)
		}
		findings, err := lintPaths(scenarios.Dialect(*dialect), args)
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		if err := write(streams, findings); err != nil {
			return fmt.Errorf("print the findings: %w", err)
		}
		if lint.Failed(findings) {
			return &ExitError{Code: ExitUsage}
		}
		return nil
	}
	return cmd
}

func lintPaths(dialect scenarios.Dialect, paths []string) ([]lint.Finding, error) {
	if len(paths) > 0 {
		return lint.Files(dialect, paths...)
	}
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		return nil, err
	}
	return lint.Set(dialect, set), nil
}

// lintText prints a line per finding, and how many there are.
func lintText(streams IOStreams, findings []lint.Finding) error {
	errors := 0
	for _, f := range findings {
		if f.Rule.Level == lint.Error {
			errors++
		}
		if _, err := fmt.Fprintln(streams.Out, f); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(streams.Err, "%d errors, %d warnings\n", errors, len(findings)-errors)
	return err
}

// The parts of SARIF 2.1.0 that are used.
type (
	sarifText struct {
		Text string `json:"text"`
	}
	sarifRule struct {
		ID               string    `json:"id"`
		ShortDescription sarifText `json:"shortDescription"`
	}
	sarifDriver struct {
		Name  string      `json:"name"`
		Rules []sarifRule `json:"rules"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifPlace struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   sarifRegion   `json:"region"`
	}
	sarifLocation struct {
		Place sarifPlace `json:"physicalLocation"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifLog struct {
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
)

// lintJSON prints the findings as SARIF, which code scanners take.
func lintJSON(streams IOStreams, findings []lint.Finding) error {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "meshproof"}}, Results: []sarifResult{}}
	for _, rule := range lint.Rules() {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{rule.ID, sarifText{rule.Text}})
	}
	for _, f := range findings {
		run.Results = append(run.Results, sarifResult{RuleID: f.Rule.ID, Level: string(f.Rule.Level), Message: sarifText{f.Text},
			Locations: []sarifLocation{{sarifPlace{sarifArtifact{f.Pos.File}, sarifRegion{f.Pos.Line, f.Pos.Column}}}}})
	}
	encoder := json.NewEncoder(streams.Out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(sarifLog{Version: "2.1.0", Runs: []sarifRun{run}})
}
