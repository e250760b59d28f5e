package text

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// maxLongest is how many of the longest scenarios the last block names.
const maxLongest = 3

// wallTime writes what the run's time went into, and that of the scenarios that
// took longest.
func wallTime(w io.Writer, run *result.Run) {
	if len(run.WallTime) == 0 {
		return
	}
	of := ""
	if n := len(run.Parts); n > 0 {
		of = fmt.Sprintf(" of %d parts", n)
	}
	fmt.Fprintf(w, "wall time %.1fs%s: %s\n", total(run.WallTime), of, spent(run.WallTime))
	var longest []result.Scenario
	for _, scenario := range run.Scenarios {
		if len(scenario.WallTime) > 0 {
			longest = append(longest, scenario)
		}
	}
	if len(longest) < 2 {
		return // it is the run
	}
	slices.SortStableFunc(longest, func(a, b result.Scenario) int { return cmp.Compare(b.Duration, a.Duration) })
	for _, scenario := range longest[:min(len(longest), maxLongest)] {
		fmt.Fprintf(w, "longest   %s %.1fs: %s\n", scenario.Name, scenario.Duration, spent(scenario.WallTime))
	}
}

func total(all []result.Spent) float64 {
	sum := 0.0
	for _, one := range all {
		sum += one.Seconds
	}
	return sum
}

// spent is where time went in a line. What would read 0.0 is left out: all of it
// together is less than it takes to read it.
func spent(all []result.Spent) string {
	var parts []string
	for _, one := range all {
		if one.Seconds >= 0.05 {
			parts = append(parts, fmt.Sprintf("%s %.1fs", one.On, one.Seconds))
		}
	}
	if len(parts) == 0 {
		return "nothing that took a tenth of a second"
	}
	return strings.Join(parts, ", ")
}
