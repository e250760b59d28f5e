package scenarios

import (
	"os"
	"strings"
	"testing"
)

func TestEveryNamedValueIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/scenarios.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range Values() {
		if !strings.Contains(string(text), "| `${"+name+"}` | "+is+" |") {
			t.Errorf("docs/scenarios.md has no row: | `${%s}` | %s |", name, is)
		}
	}
}
