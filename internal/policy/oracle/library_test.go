package oracle_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/meshproof/meshproof/internal/policy/paper"
	"github.com/meshproof/meshproof/scenarios"
)

// The library's scenarios carry expectations that people wrote from the
// documents. Here each scenario is played on paper, and every expectation is put to
// the oracle, which has to agree, in each dialect. A difference is a mistake in one
// of the two.
func TestTheOracleAgreesWithTheLibrary(t *testing.T) {
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	asked, leftOut := map[string]int{}, map[string]int{}
	for _, dialect := range []scenarios.Dialect{scenarios.Documented, scenarios.Linkerd} {
		for _, scenario := range set.Scenarios {
			t.Run(string(dialect)+" "+scenario.Metadata.Name, func(t *testing.T) {
				p := paper.New(set, scenario, dialect)
				p.Asked, p.LeftOut = asked, leftOut
				p.Differs = func(c scenarios.Claim, what string) { t.Errorf("%s: %s: %s", c.Pos, c.Name, what) }
				if err := p.Run(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	// The numbers only grow: a library that no longer said anything would go
	// unnoticed.
	for kind, atLeast := range map[string]int{"call": 1000, "policy": 10, "held": 10, "probe": 10, "rate": 20, "admission": 15, "window": 300, "course": 100} {
		if asked[kind] < atLeast {
			t.Errorf("%d expectations of kind %s were put to the oracle, at least %d are in the library", asked[kind], kind, atLeast)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(asked)) {
		t.Logf("%d of kind %s", asked[kind], kind)
	}
	for _, why := range slices.Sorted(maps.Keys(leftOut)) {
		t.Logf("%d claims left out: %s", leftOut[why], why)
	}
}
