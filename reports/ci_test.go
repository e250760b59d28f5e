package reports

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

func TestARunThatIsKilledLeavesAnErrorForCI(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := Begin(dir, "20261122-000000-abcd", time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, JUnitFile)
	begun, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(begun), `errors="1"`) || !strings.Contains(string(begun), "has left no result") {
		t.Errorf("error %v, the file:\n%s", err, begun)
	}
	if err := WriteAll(dir, sample()); err != nil {
		t.Fatal(err)
	}
	if done, err := os.ReadFile(file); err != nil || strings.Contains(string(done), "has left no result") {
		t.Errorf("error %v, the file was not replaced:\n%s", err, done)
	}
}

func TestProwFindsHowARunEnded(t *testing.T) {
	ended := func(outcome result.Outcome, code int) *result.Run {
		run := sample()
		run.Outcome, run.ExitCode = outcome, code
		return run
	}
	for _, test := range []struct {
		run    *result.Run
		passed bool
		result string
	}{
		{ended(result.Passed, 0), true, "SUCCESS"}, {ended(result.Failed, 1), false, "FAILURE"}, {ended(result.Inconclusive, 2), false, "FAILURE"},
		{ended(result.Error, 3), false, "ERROR"}, {ended(result.Inconclusive, 130), false, "ABORTED"},
	} {
		t.Run(test.result, func(t *testing.T) {
			dir := t.TempDir()
			if err := WriteProw(dir, test.run); err != nil {
				t.Fatal(err)
			}
			var finished struct {
				Timestamp int64
				Passed    bool
				Result    string
				Metadata  map[string]string
			}
			data, err := os.ReadFile(filepath.Join(dir, FinishedFile))
			if err == nil {
				err = json.Unmarshal(data, &finished)
			}
			if err != nil {
				t.Fatal(err)
			}
			if finished.Passed != test.passed || finished.Result != test.result || finished.Timestamp != test.run.Finished.Unix() || finished.Metadata["seed"] != "42" {
				t.Errorf("finished.json: %s", data)
			}
			if cases, _ := filepath.Glob(filepath.Join(dir, "junit_*.xml")); len(cases) != 1 {
				t.Errorf("%d files with cases, want one", len(cases))
			}
			if _, err := os.Stat(filepath.Join(dir, MetadataFile)); err != nil {
				t.Error(err)
			}
		})
	}
}
