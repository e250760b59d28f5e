package scenarios

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// Pos is a place in a scenario file. Lines and columns count from 1.
type Pos struct {
	File   string `yaml:"-" json:"file"`
	Line   int    `yaml:"-" json:"line"`
	Column int    `yaml:"-" json:"column"`
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// At returns the place itself; types that embed Pos get it as a method.
func (p Pos) At() Pos { return p }

// Error is one thing wrong with a scenario, at the place where it stands.
type Error struct {
	Pos     Pos
	Message string
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

// Errors are all the things wrong with one or more files, in file order.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// IsInput reports whether err says that a scenario is wrong, as opposed to a
// file that could not be read.
func IsInput(err error) bool {
	var many Errors
	var one *Error
	return errors.As(err, &many) || errors.As(err, &one)
}

// problems collects errors up to a bound: beyond it nobody reads them.
type problems struct{ list Errors }

// maxProblems is how many errors are told about one file.
const maxProblems = 20

func (p *problems) add(at Pos, format string, args ...any) {
	if len(p.list) < maxProblems {
		p.list = append(p.list, &Error{Pos: at, Message: fmt.Sprintf(format, args...)})
	}
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	sort.SliceStable(p.list, func(i, j int) bool {
		a, b := p.list[i].Pos, p.list[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return p.list
}

// didYouMean is the tail of a message about an unknown name: the closest known
// one when it is close enough to be a slip, and else the list.
func didYouMean(got string, known []string) string {
	best, distance := "", len(got)/3+2
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(got), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	if len(known) == 0 {
		return "none is known here"
	}
	sorted := append([]string(nil), known...)
	sort.Strings(sorted)
	return "known are " + strings.Join(sorted, ", ")
}

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
