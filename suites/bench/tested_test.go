package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
)

func TestTheHarnessIsReadOffTheNewestRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.json")
	at := func(rows []Row, id string) *float64 {
		return rows[slices.IndexFunc(rows, func(row Row) bool { return row.ID == id })].Measured
	}
	rows := judge(nil)
	if err := fromRun(file, rows); err != nil || at(rows, "P16/scenario") != nil {
		t.Errorf("without a run: %v", err)
	}
	run, err := json.Marshal(result.Run{Timings: []result.Timing{{Name: "cluster", Seconds: 100}, {Name: "scenarios", Seconds: 6}},
		Scenarios: []result.Scenario{{Steps: []result.Step{{Duration: 0.01}, {Duration: 0.5}}}, {Steps: []result.Step{{Duration: 0.04}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, run, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fromRun(file, rows); err != nil {
		t.Fatal(err)
	}
	if each, all := at(rows, "P16/scenario"), at(rows, "P16/suite"); each == nil || *each != 40 || all == nil || *all != 1000 {
		t.Errorf("%v ms each, %v s for all", each, all)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fromRun(file, rows); err == nil {
		t.Error("half a run is read")
	}
}
