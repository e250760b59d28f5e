package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
	library "github.com/meshproof/meshproof/scenarios"
)

func TestTheScenarioOfPoliciesAsksTwoClientsAboutEach(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(onePolicyAfterTheOther(fewPolicies)), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := library.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	claims := 0
	for _, scenario := range set.Scenarios {
		for _, step := range scenario.Spec.Steps {
			claims += len(step.Claims)
		}
	}
	if claims != 2*fewPolicies {
		t.Errorf("%d claims about %d policies", claims, fewPolicies)
	}
}

func TestTheHarnessIsReadOffARunOfAsManyPolicies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run.json")
	at := func(rows []Row, id string) *float64 {
		return rows[slices.IndexFunc(rows, func(row Row) bool { return row.ID == id })].Measured
	}
	rows := judge(nil)
	if err := fromRun(file, 3, rows); err == nil || at(rows, "P16/scenario") != nil {
		t.Errorf("without a run: %v", err)
	}
	one := []result.Claim{{}}
	run, err := json.Marshal(result.Run{Scenarios: []result.Scenario{{Steps: []result.Step{{Duration: 9}, {Duration: 0.25, Claims: one}, {Duration: 1, Claims: one}, {Duration: 0.25, Claims: one}}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, run, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fromRun(file, 4, rows); err == nil {
		t.Error("a run of fewer policies is taken")
	}
	if err := fromRun(file, 3, rows); err != nil {
		t.Fatal(err)
	}
	if each, all := at(rows, "P16/scenario"), at(rows, "P16/suite"); each == nil || *each != 250 || all == nil || *all != 250 {
		t.Errorf("%v ms each, %v s for all", each, all)
	}
}
