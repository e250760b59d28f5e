package lint

import (
	"testing"

	"github.com/meshproof/meshproof/scenarios"
)

// The library is what people copy from: nothing is found in it.
func TestNothingIsFoundInTheLibrary(t *testing.T) {
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, dialect := range []scenarios.Dialect{scenarios.Documented, scenarios.Linkerd} {
		for _, finding := range Set(dialect, set) {
			t.Errorf("%s: %s", dialect, finding)
		}
	}
}
