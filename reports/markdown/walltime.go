package markdown

import (
	"fmt"
	"io"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// wallTime is a table of the phases that the run's time went into, and one of
// those of each scenario.
func wallTime(out io.Writer, run *result.Run) {
	if len(run.WallTime) == 0 {
		return
	}
	sum := 0.0
	var phases []string // that scenarios have
	for _, one := range run.WallTime {
		sum += one.Seconds
		if one.Work > 0 {
			phases = append(phases, one.On)
		}
	}
	open(out, fmt.Sprintf("Where the time went (%.1f s)", sum))
	fmt.Fprint(out, "| phase | seconds of the wall time | seconds of all scenarios |\n|---|--:|--:|\n")
	for _, one := range run.WallTime {
		work := ""
		if one.Work > 0 {
			work = fmt.Sprintf("%.1f", one.Work)
		}
		fmt.Fprintf(out, "| %s | %.1f | %s |\n", escape(one.On), one.Seconds, work)
	}
	if len(phases) > 0 {
		fmt.Fprintf(out, "\n| scenario | seconds | %s |\n|---|--:|%s\n", strings.Join(phases, " | "), strings.Repeat("--:|", len(phases)))
	}
	for _, scenario := range run.Scenarios {
		if len(scenario.WallTime) == 0 || len(phases) == 0 {
			continue
		}
		own := map[string]float64{}
		for _, one := range scenario.WallTime {
			own[one.On] = one.Seconds
		}
		fmt.Fprintf(out, "| %s | %.1f |", escape(scenario.Name), scenario.Duration)
		for _, phase := range phases {
			fmt.Fprintf(out, " %.1f |", own[phase])
		}
		fmt.Fprintln(out)
	}
	end(out)
}
