package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/again"
	"github.com/meshproof/meshproof/internal/fuzz"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/result"
)

var anything = regexp.MustCompile("")

func write(t *testing.T, path string, value any) {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAReplayOfGeneratedScenariosTakesThemInOrderWithTheirSeed(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, fuzz.SummaryFile), fuzz.Summary{Seed: 8412, Version: 1})
	for _, name := range []string{"g10", "g2", "g1", "g1-twin"} {
		write(t, filepath.Join(dir, "scenarios", name, fuzz.PlanFile), "any")
	}
	what, seed, err := asRecorded([]string{dir}, anything)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range what {
		names = append(names, filepath.Base(filepath.Dir(file)))
	}
	if want := []string{"g1", "g2", "g10", "g1-twin"}; !slices.Equal(names, want) || seed != 8412 {
		t.Errorf("replays %v with seed %d, want %v", names, seed, want)
	}
	if what, _, err = asRecorded([]string{dir}, regexp.MustCompile("^g2$")); err != nil || len(what) != 1 {
		t.Errorf("of one name there are %v, %v", what, err)
	}
	if _, _, err = asRecorded([]string{dir}, regexp.MustCompile("^h")); exitCode(t.Context(), err) != ExitUsage {
		t.Errorf("of no name: %v", err)
	}
}

func TestAReplayAsksForWhatTheRunWasAskedFor(t *testing.T) {
	dir := t.TempDir()
	asked := []string{"--label-filter", "probes", "transitions"}
	journal, err := again.Begin(dir, again.Begun{Run: "a", Seed: 7, Select: asked}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := journal.Close(); err != nil {
		t.Fatal(err)
	}
	if what, seed, err := asRecorded([]string{dir}, anything); err != nil || seed != 7 || !slices.Equal(what, asked) {
		t.Errorf("replays %v with seed %d: %v", what, seed, err)
	}
	run := &result.Run{SchemaVersion: result.SchemaVersion, ID: "a", Seed: 7, Finished: time.Now(),
		Scenarios: []result.Scenario{{Name: "overlaps", Source: result.Source{File: "scenarios/library/overlaps.yaml"}}, {Name: "mine", Source: result.Source{File: "my/own.yaml"}}}}
	if err := reports.WriteAll(dir, run); err != nil {
		t.Fatal(err)
	}
	if what, _, err := asRecorded([]string{dir}, regexp.MustCompile("^(overlaps|mine)$")); err != nil || !slices.Equal(what, []string{"overlaps", "my/own.yaml"}) {
		t.Errorf("replays %v: %v", what, err)
	}
}

func TestWhatCannotBeReplayedIsBadInput(t *testing.T) {
	for _, args := range [][]string{{t.TempDir()}, {filepath.Join(t.TempDir(), "nothing")}, {t.TempDir(), "more"}} {
		if _, _, err := asRecorded(args, anything); exitCode(t.Context(), err) != ExitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	file := filepath.Join(t.TempDir(), "a.yaml")
	write(t, file, "any")
	if what, seed, err := asRecorded([]string{file}, anything); err != nil || seed != 0 || !slices.Equal(what, []string{file}) {
		t.Errorf("a file: %v, %d, %v", what, seed, err)
	}
}
