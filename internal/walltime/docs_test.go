package walltime

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheDocumentsExplainEveryPhaseAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../../docs/how-it-works.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Where the time goes")
	table, _, _ = strings.Cut(table, "\n## ")
	var told []Phase
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z ,]+) \|`).FindAllStringSubmatch(table, -1) {
		for _, name := range strings.Split(row[1], ", ") {
			if name != "phase" {
				told = append(told, Phase(name))
			}
		}
	}
	if !slices.Equal(told, Phases()) {
		t.Errorf("the documents have %q, and there are %q", told, Phases())
	}
}
