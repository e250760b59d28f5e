package html

import (
	"fmt"

	"github.com/meshproof/meshproof/reports/timeline"
)

// coverage is the heat map of what was seen: features with their rules, by
// client class and protocol.
type coverage struct {
	Groups  []classGroup
	Columns []timeline.Column
	Parts   []part
	// Seen rules were observed at all, Undenied were observed and never with a
	// denial, of All.
	All, Seen, Undenied int
	Transitions         []timeline.Count
}

// classGroup is the heading over the protocols of one class.
type classGroup struct {
	Class string
	N     int
}

// part is a feature.
type part struct {
	Name  string
	Cells []heat
	Rules []heatRow
	Seen  int
}

type heatRow struct {
	ID, Text string
	Cells    []heat
	Seen     bool
}

// heat is one cell.
type heat struct{ timeline.Cell }

// Look is the cell's class.
func (h heat) Look() string {
	shade := 1
	for n := h.Allowed + h.Denied; n >= 10 && shade < 4; n /= 10 {
		shade++
	}
	switch {
	case h.Allowed+h.Denied == 0:
		return ""
	case h.Denied == 0:
		return fmt.Sprintf("undenied i%d", shade)
	case h.Allowed == 0:
		return fmt.Sprintf("unallowed i%d", shade)
	}
	return fmt.Sprintf("both i%d", shade)
}

// Title says what was seen.
func (h heat) Title() string {
	switch {
	case h.Denied == 0:
		return fmt.Sprintf("%d allowed: never observed a denial here", h.Allowed)
	case h.Allowed == 0:
		return fmt.Sprintf("%d denied: never observed anything allowed here", h.Denied)
	}
	return fmt.Sprintf("%d allowed, %d denied", h.Allowed, h.Denied)
}

// Sign tells the looks apart without colour.
func (h heat) Sign() string {
	switch {
	case h.Allowed+h.Denied == 0:
		return ""
	case h.Denied == 0:
		return "!"
	case h.Allowed == 0:
		return "×"
	}
	return "•"
}

// Empty says that nothing was seen.
func (h heat) Empty() bool { return h.Allowed+h.Denied == 0 }

func coverageOf(from *timeline.Coverage) *coverage {
	if from == nil || len(from.Columns) == 0 {
		return nil
	}
	c := &coverage{Columns: from.Columns, Transitions: from.Transitions}
	for _, column := range from.Columns {
		if n := len(c.Groups); n == 0 || c.Groups[n-1].Class != column.Class {
			c.Groups = append(c.Groups, classGroup{Class: column.Class})
		}
		c.Groups[len(c.Groups)-1].N++
	}
	at := map[string]int{}
	for _, rule := range from.Rules {
		i, ok := at[rule.Feature]
		if !ok {
			i = len(c.Parts)
			at[rule.Feature] = i
			c.Parts = append(c.Parts, part{Name: rule.Feature, Cells: make([]heat, len(from.Columns))})
		}
		p := &c.Parts[i]
		row := heatRow{ID: rule.ID, Text: rule.Text}
		sum := timeline.Cell{}
		for j := range from.Columns {
			var cell timeline.Cell
			if j < len(rule.Cells) {
				cell = rule.Cells[j]
			}
			row.Cells = append(row.Cells, heat{cell})
			p.Cells[j].Allowed += cell.Allowed
			p.Cells[j].Denied += cell.Denied
			sum.Allowed += cell.Allowed
			sum.Denied += cell.Denied
		}
		c.All++
		if row.Seen = sum.Allowed+sum.Denied > 0; row.Seen {
			c.Seen++
			p.Seen++
			if sum.Denied == 0 {
				c.Undenied++
			}
		}
		p.Rules = append(p.Rules, row)
	}
	return c
}
