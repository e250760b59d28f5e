package text

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// Changes writes the line of the last block that says what became of requests
// while policy changed, and how long changes took.
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
			fmt.Fprintf(w, "   %s p50 %s p99 %s max %s", one.name, milliseconds(one.p.P50), milliseconds(one.p.P99), milliseconds(one.p.Max))
		}
	}
	fmt.Fprintln(w)
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
