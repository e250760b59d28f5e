package conformance

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/meshproof/meshproof/reports/result"
)

func claim(feature, name string, outcome result.Outcome, reason string) result.Claim {
	return result.Claim{Name: name, Feature: feature, Outcome: outcome, Reason: reason}
}

func sample(claims ...result.Claim) *result.Run {
	return &result.Run{ID: "one", Finished: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Tool: result.Tool{Version: "v0.4.0"},
		Mesh:      result.Mesh{Name: "builtin", Version: "v0.4.0", Proxy: "v0.4.1", Dialect: "linkerd"},
		Cluster:   result.Cluster{Provider: "embedded", Kubernetes: "v1.36.3"},
		Features:  []result.Feature{{Name: "Server", Profile: "core"}, {Name: "Probes", Profile: "core"}, {Name: "Routes", Profile: "extended"}, {Name: "Cluster", Profile: "all"}},
		Scenarios: []result.Scenario{{Name: "s", Steps: []result.Step{{Name: "t", Claims: claims}}}}}
}

func TestAReportSaysWhatPassedFailedAndWasSkippedByProfileAndFeature(t *testing.T) {
	got := Of(sample(
		claim("Server", "a", result.Passed, ""), claim("Server", "b", result.Skipped, "one node only"),
		claim("Probes", "c", result.Failed, "denied"), claim("Probes", "d", result.Inconclusive, "no witness"),
		claim("Routes", "e", result.Skipped, "not in profile core"), claim("Routes", "f", result.Skipped, "not in profile core"),
		claim("", "g", result.Passed, "")))
	want := &Report{APIVersion: APIVersion, Kind: Kind, Date: "2026-01-02T03:04:05Z", Run: "one", Dialect: "linkerd", Cluster: "embedded",
		Versions: Versions{Meshproof: "v0.4.0", Mesh: "builtin v0.4.0", Proxy: "v0.4.1", Kubernetes: "v1.36.3"},
		Profiles: []Profile{
			{Name: "core", Result: Failure, Statistics: Statistics{Passed: 1, Failed: 1, Inconclusive: 1, Skipped: 1}, SupportedFeatures: []string{"Server"},
				Features: []Feature{{"Server", Partial, Statistics{Passed: 1, Skipped: 1}}, {"Probes", Failure, Statistics{Failed: 1, Inconclusive: 1}}},
				Skipped:  []Skipped{{"one node only", 1}}, FailedClaims: []string{"s / t / c"}, InconclusiveClaims: []string{"s / t / d"}},
			{Name: "extended", Result: NotJudged, Statistics: Statistics{Skipped: 2}, UnsupportedFeatures: []string{"Routes"},
				Features: []Feature{{"Routes", NotJudged, Statistics{Skipped: 2}}}, Skipped: []Skipped{{"not in profile core", 2}}},
			{Name: "all", Result: Success, Statistics: Statistics{Passed: 1}, SupportedFeatures: []string{NoFeature}, UnsupportedFeatures: []string{"Cluster"},
				Features: []Feature{{"Cluster", NotJudged, Statistics{}}, {NoFeature, Success, Statistics{Passed: 1}}}},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

// A reader with the documented types understands the whole file.
func TestAReportIsReadBackAsItWasWritten(t *testing.T) {
	run := sample(claim("Server", "a: \"quoted\"", result.Failed, "- no\n"), claim("Probes", "b", result.Skipped, ""))
	var text bytes.Buffer
	if err := Write(&text, run); err != nil {
		t.Fatal(err)
	}
	var got Report
	decoder := yaml.NewDecoder(bytes.NewReader(text.Bytes()))
	decoder.KnownFields(true)
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	if diff := cmp.Diff(Of(run), &got); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
}

// A run that ended before it knew its cluster has a report all the same.
func TestARunThatJudgedNothingHasAReport(t *testing.T) {
	report := Of(&result.Run{ID: "one"})
	if err := report.Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range report.Profiles {
		if p.Result != NotJudged {
			t.Errorf("profile %s is %s", p.Name, p.Result)
		}
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*Report)
		want string
	}{
		{"kind", func(r *Report) { r.Kind = "Report" }, "it is of kind Report"},
		{"date", func(r *Report) { r.Date = "today" }, `date "today"`},
		{"run", func(r *Report) { r.Run = "" }, "run is missing"},
		{"dialect", func(r *Report) { r.Dialect = "" }, "dialect is missing"},
		{"version", func(r *Report) { r.Versions.Meshproof = "" }, "versions.meshproof is missing"},
		{"profiles", func(r *Report) { r.Profiles = r.Profiles[1:] }, "the profiles are [extended all]"},
		{"result", func(r *Report) { r.Profiles[0].Result = Success }, "profile core: the result is success, and the numbers say failure"},
		{"feature's result", func(r *Report) { r.Profiles[0].Features[0].Result = Success }, "feature Server: the result is success, and the numbers say failure"},
		{"sum", func(r *Report) { r.Profiles[0].Features[0].Statistics.Failed = 2 }, "the features have"},
		{"reason", func(r *Report) { r.Profiles[0].Skipped[0].Reason = "" }, "1 claims were skipped without a reason"},
		{"skipped", func(r *Report) { r.Profiles[0].Skipped = nil }, "reasons are given for 0 skipped claims of 1"},
		{"named", func(r *Report) { r.Profiles[0].FailedClaims = nil }, "0 failed and 0 inconclusive claims are named, of 1 and 0"},
		{"supported", func(r *Report) { r.Profiles[0].SupportedFeatures = []string{"Server"} }, "listed as supported: true"},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := Of(sample(claim("Server", "a", result.Failed, "no"), claim("Server", "b", result.Skipped, "one node only")))
			test.edit(report)
			if err := report.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("have %v, want %s", err, test.want)
			}
		})
	}
}

func TestReasonsThatMostClaimsHaveComeFirst(t *testing.T) {
	p := Of(sample(claim("Server", "a", result.Skipped, "rare"), claim("Server", "b", result.Skipped, "often"), claim("Probes", "c", result.Skipped, "often"))).Profiles[0]
	if want := []Skipped{{"often", 2}, {"rare", 1}}; !slices.Equal(p.Skipped, want) {
		t.Errorf("have %v, want %v", p.Skipped, want)
	}
}
