package text

import (
	"strings"
	"testing"

	"github.com/meshproof/meshproof/reports/result"
)

func TestTheLastBlockSaysWhereTheTimeWentAndOfWhomMost(t *testing.T) {
	of := func(name string, seconds float64) result.Scenario {
		return result.Scenario{Name: name, Duration: seconds, WallTime: []result.Spent{{On: "pods", Seconds: seconds - 1}, {On: "writes", Seconds: 0.04}, {On: "judging", Seconds: 1}}}
	}
	for name, c := range map[string]struct {
		run  result.Run
		want string
	}{
		"several scenarios": {
			result.Run{WallTime: []result.Spent{{On: "cluster", Seconds: 4.21}, {On: "pods", Seconds: 10, Work: 31}, {On: "writes", Seconds: 0.01}},
				Scenarios: []result.Scenario{of("b", 9), {Name: "skipped"}, of("d", 11), of("a", 2), of("c", 9)}},
			"wall time 14.2s: cluster 4.2s, pods 10.0s\n" +
				"longest   d 11.0s: pods 10.0s, judging 1.0s\n" +
				"longest   b 9.0s: pods 8.0s, judging 1.0s\n" +
				"longest   c 9.0s: pods 8.0s, judging 1.0s\n",
		},
		"one scenario":          {result.Run{WallTime: []result.Spent{{On: "mesh", Seconds: 2}}, Scenarios: []result.Scenario{of("a", 2)}}, "wall time 2.0s: mesh 2.0s\n"},
		"several parts":         {result.Run{WallTime: []result.Spent{{On: "mesh", Seconds: 2}}, Parts: make([]result.Part, 3)}, "wall time 2.0s of 3 parts: mesh 2.0s\n"},
		"a run of earlier days": {result.Run{Scenarios: []result.Scenario{{Name: "a", Duration: 3}}}, ""},
		"nothing at all":        {result.Run{WallTime: []result.Spent{{On: "rest", Seconds: 0.01}}}, "wall time 0.0s: nothing that took a tenth of a second\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			wallTime(&out, &c.run)
			if out.String() != c.want {
				t.Errorf("got\n%swant\n%s", out.String(), c.want)
			}
		})
	}
}
