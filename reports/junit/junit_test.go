package junit

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/reports/result"
)

// write returns the file, parsed as a reader would.
func write(t *testing.T, run *result.Run) (testSuites, string) {
	t.Helper()
	var text strings.Builder
	if err := Write(&text, run); err != nil {
		t.Fatal(err)
	}
	var parsed testSuites
	if err := xml.Unmarshal([]byte(text.String()), &parsed); err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	return parsed, text.String()
}

func run(claims ...result.Claim) *result.Run {
	for i := range claims {
		claims[i].Source = result.Source{File: "scenarios/library/walk-through.yaml", Line: 7 + i}
	}
	return &result.Run{ID: "20261122-000000-abcd", Seed: 42, Outcome: result.Failed,
		Cluster: result.Cluster{Provider: "kind", Kubernetes: "v1.37.0", Nodes: 2}, Mesh: result.Mesh{Name: "builtin", Version: "dev", Dialect: "documented"},
		Scenarios: []result.Scenario{{Name: "walk-through", Labels: []string{"smoke", "DOC-27"}, Outcome: result.Failed, Started: time.Unix(0, 0),
			Source: result.Source{File: "scenarios/library/walk-through.yaml", Line: 4}, Bundle: "scenarios/walk-through/bundle",
			Steps: []result.Step{{Name: "granted", Outcome: result.Failed, Actions: []string{"apply Server web"}, Claims: claims}}}}}
}

func TestACaseSaysWhatWhereAndWhy(t *testing.T) {
	got, _ := write(t, run(result.Claim{Name: "web is denied", Outcome: result.Failed, Reason: "expected denied, observed allowed",
		Expected: "denied", Observed: "allowed (HTTP 200)", Shows: []string{"DOC-27"}, Duration: 0.25, Details: []string{"decision 13"}}))
	got.XMLName, got.Suites[0].Timestamp = xml.Name{}, ""
	want := testSuites{Name: "meshproof", Tests: 1, Failures: 1, Time: "0.000", Suites: []testSuite{{
		Name: "scenarios/library", Tests: 1, Failures: 1, Time: "0.000",
		Properties: []property{{"run", "20261122-000000-abcd"}, {"seed", "42"}, {"mesh", "builtin dev"}, {"dialect", "documented"},
			{"cluster", "kind"}, {"kubernetes", "v1.37.0"}, {"nodes", "2"}},
		Cases: []testCase{{Name: "granted / web is denied", Classname: "scenarios.library.walk-through",
			File: "scenarios/library/walk-through.yaml", Line: 7, Time: "0.250", Properties: &properties{[]property{{"labels", "smoke DOC-27"}}},
			Failure: &problem{Message: "expected denied, observed allowed", Type: "failed",
				Body: "where: scenarios/library/walk-through.yaml:7\nreason: expected denied, observed allowed\nexpected: denied\nobserved: allowed (HTTP 200)\nshows: DOC-27\ndecision 13"}}},
		Out: "walk-through\ngranted: failed\n  apply Server web\nevidence: scenarios/walk-through/bundle\n",
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
}

func TestASuiteIsAFolder(t *testing.T) {
	r := run(result.Claim{Name: "a", Outcome: result.Passed})
	r.Outcome = result.Passed
	at := func(file string, started int64) {
		scenario := r.Scenarios[0]
		scenario.Name, scenario.Source.File, scenario.Duration, scenario.Started = file, file, 1.5, time.Unix(started, 0)
		r.Scenarios = append(r.Scenarios, scenario)
	}
	at("scenarios/library/transitions/b.yaml", 7)
	at("scenarios/library/c.yaml", 5)
	at("scenarios/library/transitions/d.yaml", 3)
	got, _ := write(t, r)
	var suites []string
	for _, s := range got.Suites {
		suites = append(suites, fmt.Sprint(s.Name, " ", s.Tests, " ", s.Time, " ", s.Timestamp[17:]))
	}
	if diff := cmp.Diff([]string{"scenarios/library 2 1.500 00", "scenarios/library/transitions 2 3.000 03"}, suites); diff != "" {
		t.Errorf("the suites (-want +got):\n%s", diff)
	}
}

func TestOutcomesAreWhatReadersCallThem(t *testing.T) {
	got, _ := write(t, run(result.Claim{Name: "a", Outcome: result.Passed}, result.Claim{Name: "b", Outcome: result.Failed}, result.Claim{Name: "c", Outcome: result.Inconclusive},
		result.Claim{Name: "d", Outcome: result.Skipped, Reason: "one node only"}, result.Claim{Name: "e", Outcome: result.Error}))
	var kinds []string
	for _, c := range got.Suites[0].Cases {
		switch {
		case c.Failure != nil:
			kinds = append(kinds, "failure")
		case c.Error != nil:
			kinds = append(kinds, "error")
		case c.Skipped != nil:
			kinds = append(kinds, "skipped: "+c.Skipped.Message)
		default:
			kinds = append(kinds, "")
		}
	}
	if diff := cmp.Diff([]string{"", "failure", "error", "skipped: one node only", "error"}, kinds); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}

// Readers merge cases whose names and class names are equal.
func TestCellsOfAMatrixHaveNamesOfTheirOwn(t *testing.T) {
	cell := func(protocol string) result.Claim {
		return result.Claim{Name: "nobody is denied", Outcome: result.Passed, Client: "alice", Target: "web", Protocol: protocol}
	}
	got, _ := write(t, run(cell("http1"), cell("grpc")))
	names := map[string]bool{}
	for _, c := range got.Suites[0].Cases {
		names[c.Classname+c.Name] = true
	}
	if len(names) != 2 {
		t.Errorf("names %v, want two", names)
	}
}

func TestClassNamesAreFoldersAndScenario(t *testing.T) {
	for file, want := range map[string]string{
		"scenarios/library/a.yaml": "scenarios.library.x_y", "./a.yaml": "x_y", "a.yaml": "x_y", "../policies/v1.2/a.yaml": "policies.v1_2.x_y", "/home/me/a.yaml": "home.me.x_y",
	} {
		if got := classname(result.Scenario{Name: "x.y", Source: result.Source{File: file}}); got != want {
			t.Errorf("the class name for %s is %q, want %q", file, got, want)
		}
	}
}

func TestTextsAreBoundedAndLegal(t *testing.T) {
	claim := result.Claim{Name: "long", Outcome: result.Failed, Observed: "bytes \x00\x1b[31m and ]]> and \xff", Details: []string{strings.Repeat("käse ", maxText)}}
	r := run(claim)
	for i := range 2000 {
		r.Scenarios[0].Steps[0].Actions = append(r.Scenarios[0].Steps[0].Actions, fmt.Sprintf("apply a Server that has the number %d", i))
	}
	got, text := write(t, r)
	if len(text) > 3*maxText {
		t.Errorf("the file has %d bytes", len(text))
	}
	if body := got.Suites[0].Cases[0].Failure.Body; !strings.Contains(body, "more bytes are in run.json") {
		t.Errorf("the text of %d bytes does not say that it was cut", len(body))
	}
	if out := got.Suites[0].Out; !strings.Contains(out, "more bytes are in run.json)\nevidence: ") {
		t.Errorf("the output of %d bytes does not say that it was cut, or not where the rest is", len(out))
	}
}
