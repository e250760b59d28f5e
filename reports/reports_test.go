package reports

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/reports/result"
)

func sample() *result.Run {
	claim := func(name string, outcome result.Outcome, observed string) result.Claim {
		return result.Claim{Name: name, Outcome: outcome, Client: "web", Target: "voting:8080", Protocol: "grpc",
			Expected: "permission-denied", Observed: observed, Source: result.Source{File: "a.yaml", Line: 7}, Shows: []string{"DOC-27"}}
	}
	run := &result.Run{
		SchemaVersion: result.SchemaVersion, ID: "20261122-000000-abcd", Outcome: result.Failed, ExitCode: 1,
		Started: time.Unix(0, 0).UTC(), Finished: time.Unix(9, 0).UTC(), Seed: 42,
		Scenarios: []result.Scenario{{Name: "walk-through", Outcome: result.Failed, Started: time.Unix(1, 0).UTC(), Steps: []result.Step{
			{Name: "server alone", Outcome: result.Passed, Claims: []result.Claim{claim("denied", result.Passed, "permission-denied")}},
			{Name: "granted", Outcome: result.Failed, Claims: []result.Claim{claim("<b>allowed</b>", result.Failed, "allowed"), claim("unsure", result.Inconclusive, "closed")}},
		}}},
	}
	run.Summary = run.Count()
	return run
}

func TestARunSurvivesWritingAndReading(t *testing.T) {
	dir := t.TempDir()
	want := sample()
	if err := WriteAll(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run.json does not hold the run (-want +got):\n%s", diff)
	}
	left, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(left) > 0 {
		t.Errorf("temporary files stay behind: %v", left)
	}
}

func TestAnUnknownSchemaVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	run := sample()
	run.SchemaVersion++
	if err := WriteAll(dir, run); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "schema version") {
		t.Errorf("Read = %v, want a refusal that names the schema version", err)
	}
}

// unreached is a run of two claims neither of which was judged.
func unreached(outcome result.Outcome) *result.Run {
	claim := result.Claim{Outcome: result.Skipped, Reason: "not reached: because of this"}
	return &result.Run{SchemaVersion: result.SchemaVersion, Outcome: outcome, Reason: "because of this", Scenarios: []result.Scenario{{Name: "one", Outcome: outcome, Reason: "because of this",
		Steps: []result.Step{{Name: "first", Outcome: result.Skipped, Reason: "not reached: because of this", Claims: []result.Claim{claim, claim}}}}}}
}

func TestThePageTellsAStepsReasonOnce(t *testing.T) {
	var buffer bytes.Buffer
	if err := Formats()[3].Write(&buffer, unreached(result.Error)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(buffer.String(), "not reached: because of this"); n != 1 {
		t.Errorf("the reason stands on the page %d times, want once", n)
	}
}

func TestJUnitCountsWhatWasNotShownAsNotPassed(t *testing.T) {
	for _, test := range []struct {
		name                    string
		run                     *result.Run
		tests, failures, errors int
	}{
		{"a failed and an inconclusive claim", sample(), 3, 1, 1},
		{"a run that could not be set up", &result.Run{Outcome: result.Error, Reason: "no namespaces"}, 1, 0, 1},
		{"a run whose claims were not reached", unreached(result.Error), 3, 0, 1},
		{"a run that was interrupted", unreached(result.Inconclusive), 3, 0, 1},
		{"a scenario without a claim", &result.Run{Scenarios: []result.Scenario{{Name: "empty"}}}, 1, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var buffer bytes.Buffer
			if err := Formats()[1].Write(&buffer, test.run); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Tests    int `xml:"tests,attr"`
				Failures int `xml:"failures,attr"`
				Errors   int `xml:"errors,attr"`
			}
			if err := xml.Unmarshal(buffer.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Tests != test.tests || got.Failures != test.failures || got.Errors != test.errors {
				t.Errorf("tests, failures, errors = %+v, want %d, %d, %d", got, test.tests, test.failures, test.errors)
			}
		})
	}
}

func TestThePageEscapesWhatItShows(t *testing.T) {
	var buffer bytes.Buffer
	if err := Formats()[3].Write(&buffer, sample()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(buffer.String(), "<b>allowed</b>") {
		t.Error("a claim's name reaches the page as markup")
	}
	if !strings.Contains(buffer.String(), `class="inconclusive changed">closed`) {
		t.Error("the matrix does not mark the cell that the step changed")
	}
}

func TestPublishKeepsTheLastRunsAndNothingElseIsTouched(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes", "20260101-000000-zzzz"} { // not run folders
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var last string
	for i := range KeepRuns + 3 {
		last = time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format("20060102-150405") + "-00ab"
		if err := os.Mkdir(filepath.Join(dir, last), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Publish(dir, last); err != nil {
			t.Fatal(err)
		}
	}
	runs, _ := filepath.Glob(filepath.Join(dir, "*-00ab"))
	if len(runs) != KeepRuns {
		t.Errorf("%d runs are kept, want %d", len(runs), KeepRuns)
	}
	if target, err := os.Readlink(filepath.Join(dir, "latest")); err != nil || target != last {
		t.Errorf("latest points to %q (%v), want %q", target, err, last)
	}
	for _, name := range []string{"notes", "20260101-000000-zzzz"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("Publish removed %s, which is no run's folder", name)
		}
	}
}
