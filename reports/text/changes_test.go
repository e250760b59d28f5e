package text

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
)

func TestTheLastBlockTellsWhatHappenedWhilePolicyChanged(t *testing.T) {
	with := func(requests, leaks, outages int, high ...float64) result.Scenario {
		return result.Scenario{Transitions: &result.Transitions{Requests: requests, Leaks: leaks, Outages: outages,
			Propagation: []result.Delays{{Transition: "ServerAuthorization deleted: allow→deny", Class: "meshed http1 fresh", Low: high, High: high}}}}
	}
	run := &result.Run{Scenarios: []result.Scenario{with(1_204_000, 1, 2, 10, 20, 30), with(551, 0, 1, 40), {Name: "without traffic"}}}
	run.Scenarios[1].Transitions.Cuts = []result.Delays{{Transition: "ServerAuthorization deleted", Low: []float64{3}, High: []float64{7}}}
	run.Conclude(nil, false)
	var out strings.Builder
	if err := Summary(&out, run, "report.html"); err != nil {
		t.Fatal(err)
	}
	want := "leaks 1   outages 3   requests 1,204,551   propagation p50 20ms p99 40ms max 40ms   time to cut p50 7ms p99 7ms max 7ms\n"
	if !strings.Contains(out.String(), want) {
		t.Errorf("the last block lacks %q:\n%s", want, out.String())
	}
	run.Heard(&result.Noise{Floor: 20.5})
	out.Reset()
	Changes(&out, run.Changes)
	want = "propagation p50 under 21ms p99 40ms max 40ms   time to cut p50 under 21ms p99 under 21ms max under 21ms   noise floor 21ms\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("with a noise floor it is %q, want at its end %q", out.String(), want)
	}
	if run.Conclude(nil, false); run.Changes.Floor != 20.5 {
		t.Errorf("concluded again, the floor is %v", run.Changes.Floor)
	}
	if kinds := run.Changes.Kinds; len(kinds) != 1 || kinds[0].N != 4 {
		t.Errorf("the kinds are %+v, want one of four", kinds)
	}
	quiet := &result.Run{Scenarios: []result.Scenario{{Name: "without traffic"}}}
	quiet.Conclude(nil, false)
	out.Reset()
	if err := Summary(&out, quiet, "report.html"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "leaks") {
		t.Errorf("there was no traffic that could leak:\n%s", out.String())
	}
}
