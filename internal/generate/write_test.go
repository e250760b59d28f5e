package generate

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/meshproof/meshproof/scenarios"
)

func TestAWrittenScenarioReadsAsItWas(t *testing.T) {
	set, err := scenarios.Library(scenarios.Folders()...)
	if err != nil {
		t.Fatal(err)
	}
	noPlaces := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[scenarios.Pos]() }, cmp.Ignore())
	read := func(name string) ([]byte, error) {
		return []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"), nil
	}
	for _, scenario := range set.Scenarios {
		text, err := Write(scenario, "about it")
		if err != nil {
			t.Errorf("%s: %v", scenario.Metadata.Name, err)
			continue
		}
		again, err := scenarios.Parse("again.yaml", text, read)
		if err != nil {
			t.Errorf("%s: %v\n%s", scenario.Metadata.Name, err, text)
			continue
		}
		if difference := cmp.Diff(scenario, again.Scenarios[0], noPlaces, cmpopts.EquateEmpty()); difference != "" {
			t.Errorf("%s:\n%s", scenario.Metadata.Name, difference)
		}
	}
}

func TestWhatIsSaidAboutAScenarioStandsAboveIt(t *testing.T) {
	c, err := New(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Write(c.Scenario, "Found on a Sunday.\n\nTwice.")
	if err != nil {
		t.Fatal(err)
	}
	if want := schemaLine + "# Found on a Sunday.\n#\n# Twice.\napiVersion: "; !strings.HasPrefix(string(text), want) {
		t.Errorf("it begins with\n%s", text[:200])
	}
}
