package objects

import (
	"fmt"
	"strings"
)

// Place is where an object or a field stands. Lines count from 1.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Problem is one thing wrong with a manifest.
type Problem struct {
	Place   Place
	Message string
}

func (p *Problem) Error() string { return p.Place.String() + ": " + p.Message }

// Problems are all that is wrong with what was read, in the order of reading.
type Problems []*Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// maxProblems is how many are told: beyond it nobody reads them.
const maxProblems = 20
