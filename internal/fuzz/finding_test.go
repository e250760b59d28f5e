package fuzz

import (
	"testing"

	"github.com/meshproof/meshproof/internal/generate"
	"github.com/meshproof/meshproof/reports/result"
)

func TestFindingsAreToldApartByWhatWasExpectedAndSeen(t *testing.T) {
	call := func(expected, observed string) result.Claim {
		return result.Claim{Outcome: result.Failed, Client: "alice", Expected: expected, Observed: observed}
	}
	late := result.Claim{Outcome: result.Failed, Reason: "the policy was not in force in time: port 8080"}
	for _, row := range []struct {
		name string
		step result.Step
		want Kind
	}{
		{"let through", result.Step{Claims: []result.Claim{call("http-403", "allowed (HTTP 200)")}}, Leak},
		{"refused", result.Step{Claims: []result.Claim{call("allowed", "http-403 (HTTP 403)")}}, Outage},
		{"refused, where the application may answer so", result.Step{Claims: []result.Claim{call("closed or reset or refused", "http-403 (HTTP 403)")}}, Form},
		{"as expected, and recorded otherwise", result.Step{Claims: []result.Claim{call("closed or reset or refused", "reset")}}, Record},
		{"too late", result.Step{Outcome: result.Failed, Reason: "port 8080", Claims: []result.Claim{late}}, Late},
		{"too late, and nothing was asked", result.Step{Outcome: result.Failed, Reason: "port 8080"}, Late},
		{"a stream", result.Step{Claims: []result.Claim{{Outcome: result.Failed, Name: "stream-1 during: old or new", Reason: "impossible"}}}, Course},
		{"a stream, outside of all windows", result.Step{Outcome: result.Failed, Reason: "lost", Claims: []result.Claim{{Outcome: result.Passed}}}, Course},
		{"what passes, and what proves nothing", result.Step{Claims: []result.Claim{{Outcome: result.Passed}, {Outcome: result.Inconclusive}}}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			found := find(&result.Scenario{Steps: []result.Step{{Claims: []result.Claim{{Outcome: result.Passed}}}, row.step}}, &generate.Case{})
			switch {
			case found == nil && row.want != "":
				t.Errorf("nothing was found, want %s", row.want)
			case found != nil && (found.Kind != row.want || found.Step != 1):
				t.Errorf("found %s in step %d, want %q in step 1", found.Kind, found.Step, row.want)
			}
		})
	}
}
