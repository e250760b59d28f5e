package text

import (
	"fmt"
	"io"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// parts writes a line for each run that was merged into this one.
func parts(w io.Writer, run *result.Run) {
	for _, part := range run.Parts {
		fmt.Fprintf(w, "%s %s  %s, %d claims in %s, run %s", Symbol(part.Outcome), part, part.Outcome, part.Claims,
			time.Duration(part.Seconds*float64(time.Second)).Round(time.Second/10), part.Run)
		if part.Seed != run.Seed {
			fmt.Fprintf(w, ", seed %d", part.Seed)
		}
		fmt.Fprintln(w)
	}
}
