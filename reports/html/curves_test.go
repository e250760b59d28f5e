package html

import (
	"testing"

	"github.com/meshproof/meshproof/reports/timeline"
)

// What is said of a kind is never better than what was seen: the late edges count,
// and what never came is told apart.
func TestPropagationIsToldByTheLateEdges(t *testing.T) {
	evidence := &timeline.Evidence{}
	for i := range int64(100) {
		evidence.Changes = append(evidence.Changes, timeline.Change{Kind: "grant", Class: []string{"meshed", "unmeshed"}[i%2], Old: 1000, New: (i + 1) * 1000})
	}
	evidence.Changes = append(evidence.Changes, timeline.Change{Kind: "grant", Class: "meshed", Open: true}, timeline.Change{Kind: "alone", Class: "meshed", Old: 5, New: 5})
	all := curves(evidence)
	if len(all) != 2 || all[0].Kind != "alone" || all[1].Kind != "grant" {
		t.Fatalf("%+v", all)
	}
	c := all[1]
	if c.N != 100 || c.Open != 1 || c.P50 != "50.0 ms" || c.P90 != "90.0 ms" || c.P99 != "99.0 ms" || c.Max != "100 ms" {
		t.Errorf("%+v", c)
	}
	if len(c.Classes) != 2 || c.Classes[0].N != 50 || c.Classes[1].Max != "100 ms" {
		t.Errorf("%+v", c.Classes)
	}
}

// A cell with answers that allow and none that deny is one in which a mesh that
// lets everybody in would not be noticed.
func TestWhatWasNeverDeniedIsMarked(t *testing.T) {
	c := coverageOf(&timeline.Coverage{Columns: []timeline.Column{{Class: "meshed", Protocol: "http1"}, {Class: "meshed", Protocol: "tcp"}, {Class: "plain", Protocol: "tcp"}},
		Rules: []timeline.Rule{
			{ID: "A-01", Feature: "f", Cells: []timeline.Cell{{Allowed: 3}, {Denied: 40}, {}}},
			{ID: "A-02", Feature: "f", Cells: []timeline.Cell{{Allowed: 1}, {Allowed: 1}, {}}},
			{ID: "A-03", Feature: "g", Cells: make([]timeline.Cell, 3)},
		}})
	if c.All != 3 || c.Seen != 2 || c.Undenied != 1 || len(c.Parts) != 2 || len(c.Groups) != 2 || c.Groups[0].N != 2 {
		t.Fatalf("%+v", c)
	}
	var looks []string
	for _, cell := range c.Parts[0].Cells {
		looks = append(looks, cell.Look()+cell.Sign())
	}
	if looks[0] != "undenied i1!" || looks[1] != "both i2•" || looks[2] != "" {
		t.Errorf("%q", looks)
	}
}
