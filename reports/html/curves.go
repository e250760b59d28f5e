package html

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/reports/timeline"
)

// curve is how long changes of one kind took: the share of them that was over
// by a time. Each change is known as a bracket only, so that there are two
// curves, and the truth lies between them.
type curve struct {
	Kind    string
	N, Open int
	// P50, P90, P99 and Max are of the upper ends, as text; Classes tell the same by
	// class of client.
	P50, P90, P99, Max string
	Classes            []classRow
	// Early and Late are paths, and Between is the area they enclose.
	Early, Late, Between string
	Ticks                []tick
	Width, Height        int
	Left, Right, Bottom  int
}

type classRow struct {
	Class              string
	N                  int
	P50, P90, P99, Max string
}

type tick struct {
	X    int
	Text string
}

// The measures of a chart, in pixels.
const (
	chartWidth, chartHeight = 340, 170
	chartLeft, chartRight   = 42, 330
	chartTop, chartBottom   = 12, 140
)

func curves(evidence *timeline.Evidence) []curve {
	kinds := map[string][]timeline.Change{}
	var names []string
	shortest, longest := int64(math.MaxInt64), int64(0)
	for _, c := range evidence.Changes {
		if kinds[c.Kind] == nil {
			names = append(names, c.Kind)
		}
		kinds[c.Kind] = append(kinds[c.Kind], c)
		if !c.Open {
			shortest, longest = min(shortest, max(c.Old, 1)), max(longest, c.New)
		}
	}
	slices.Sort(names)
	// All charts share their axis: whole decades, of which at least two.
	low := math.Floor(math.Log10(float64(max(1, min(shortest, longest)))))
	high := max(math.Ceil(math.Log10(float64(max(longest, 10)))), low+2)
	var all []curve
	for _, name := range names {
		all = append(all, draw(name, kinds[name], low, high))
	}
	return all
}

func draw(kind string, changes []timeline.Change, low, high float64) curve {
	c := curve{Kind: kind, Width: chartWidth, Height: chartHeight, Left: chartLeft, Right: chartRight, Bottom: chartBottom}
	classes := map[string][]int64{}
	var names []string
	var early, late []int64
	for _, one := range changes {
		if one.Open {
			c.Open++
			continue
		}
		if classes[one.Class] == nil {
			names = append(names, one.Class)
		}
		classes[one.Class] = append(classes[one.Class], one.New)
		early, late = append(early, one.Old), append(late, one.New)
	}
	c.N = len(late)
	slices.Sort(early)
	slices.Sort(late)
	slices.Sort(names)
	c.P50, c.P90, c.P99, c.Max = percentiles(late)
	for _, name := range names {
		values := classes[name]
		slices.Sort(values)
		row := classRow{Class: name, N: len(values)}
		row.P50, row.P90, row.P99, row.Max = percentiles(values)
		c.Classes = append(c.Classes, row)
	}
	x := func(us int64) float64 {
		at := (math.Log10(float64(max(us, 1))) - low) / (high - low)
		return chartLeft + min(max(at, 0), 1)*(chartRight-chartLeft)
	}
	y := func(share float64) float64 { return chartBottom - share*(chartBottom-chartTop) }
	steps := func(values []int64) []string {
		points := []string{fmt.Sprintf("%d,%.1f", chartLeft, y(0))}
		for i, v := range values {
			if i+1 < len(values) && values[i+1] == v {
				continue
			}
			before, _ := slices.BinarySearch(values, v)
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(v), y(float64(before)/float64(len(values)))), fmt.Sprintf("%.1f,%.1f", x(v), y(float64(i+1)/float64(len(values)))))
		}
		return append(points, fmt.Sprintf("%d,%.1f", chartRight, y(1)))
	}
	if c.N > 0 {
		left, right := steps(early), steps(late)
		c.Early, c.Late = "M"+strings.Join(left, "L"), "M"+strings.Join(right, "L")
		slices.Reverse(right)
		c.Between = c.Early + "L" + strings.Join(right, "L") + "Z"
	}
	for exponent := low; exponent <= high; exponent++ {
		us := int64(math.Pow(10, exponent))
		c.Ticks = append(c.Ticks, tick{int(x(us)), brief(us)})
	}
	return c
}

// brief is a power of ten of microseconds.
func brief(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%d ms", us/1000)
	}
	return fmt.Sprintf("%d s", us/1_000_000)
}

// percentiles of sorted values, by the nearest rank.
func percentiles(sorted []int64) (p50, p90, p99, top string) {
	if len(sorted) == 0 {
		return "–", "–", "–", "–"
	}
	at := func(q float64) string {
		return span(sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)])
	}
	return at(0.5), at(0.9), at(0.99), at(1)
}
