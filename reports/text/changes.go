package text

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// Changes writes the line of the last block that says what became of requests
// while policy changed, and how long changes took. Nothing is told more finely than
// the machine's noise floor, where that is known.
func Changes(w io.Writer, c *result.Changes) {
	fmt.Fprintf(w, "leaks %d   outages %d   ", c.Leaks, c.Outages)
	if c.Others > 0 {
		fmt.Fprintf(w, "other wrong answers %d   ", c.Others)
	}
	fmt.Fprintf(w, "requests %s", thousands(c.Requests))
	if c.Unavailable > 0 {
		fmt.Fprintf(w, " (%s unavailable)", thousands(c.Unavailable))
	}
	for _, one := range []struct {
		name string
		p    *result.Propagated
	}{{"propagation", &c.Propagation}, {"time to cut", c.Cut}, {"between proxies", c.Skew}} {
		if one.p != nil && one.p.N > 0 {
			fmt.Fprintf(w, "   %s p50 %s p99 %s max %s", one.name, told(one.p.P50, c.Floor), told(one.p.P99, c.Floor), told(one.p.Max, c.Floor))
		}
	}
	if c.Floor > 0 {
		fmt.Fprintf(w, "   noise floor %s", milliseconds(math.Ceil(c.Floor)))
	}
	fmt.Fprintln(w)
}

// told is a delay as far as it can be told from none.
func told(ms, floor float64) string {
	if ms < floor {
		return "under " + milliseconds(math.Ceil(floor))
	}
	return milliseconds(ms)
}

// milliseconds is a delay for people.
func milliseconds(ms float64) string {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond).String()
}

// thousands puts commas into a number.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
