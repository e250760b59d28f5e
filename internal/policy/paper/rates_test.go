package paper

import (
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

func TestANumberOfCallsIsComparedWithSlack(t *testing.T) {
	low, high := 40.0, 60.0
	band := &scenarios.Band{AtLeast: &low, AtMost: &high}
	for _, test := range []struct {
		Counted
		fits bool
	}{{Counted{50, 100}, true}, {Counted{38, 100}, true}, {Counted{36, 100}, false}, {Counted{63, 100}, true}, {Counted{64, 100}, false}, {Counted{0, 100}, false}} {
		if got := test.fits; got != test.Counted.fits(band) {
			t.Errorf("%v in 40 to 60%%: got %v", test.Counted, !got)
		}
	}
	if (Counted{0, 10}).Alike(Counted{1, 10}) || !(Counted{4, 10}).Alike(Counted{5, 10}) || (Counted{40, 60}).Alike(Counted{45, 60}) {
		t.Error("the slack is not what a run has")
	}
}
