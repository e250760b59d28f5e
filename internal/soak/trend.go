// Package soak watches what the mesh holds while its policies are edited for a
// long time, and says whether any of it grows.
//
// Metrics of the control plane and of the proxies that stand all the time flow in
// (memory, goroutines, open files, watches and streams), and claims flow out: no
// growth, growth, or that nobody can tell. A trend is judged by Sen's slope with
// its confidence interval, which assumes nothing of how values are distributed and
// bears single wild ones. It makes no load of its own, and takes a series that is
// too short for no evidence of anything.
package soak

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Point is a value at a time since the soak began.
type Point struct {
	At    time.Duration `json:"at"`
	Value float64       `json:"value"`
}

// Trend is what became of a value.
type Trend string

// The trends.
const (
	// Steady: it has not grown by more than may be, with confidence.
	Steady Trend = "no growth"
	// Growing: it has grown by more than may be, with confidence.
	Growing Trend = "growth"
	// Unclear: the values are too far apart to tell.
	Unclear Trend = "cannot tell"
	// Short: there are too few of them, or over too short a time.
	Short Trend = "too short to tell"
)

const (
	// shortest is the least time over which growth can be told from the beginning
	// of a program's life.
	shortest = 5 * time.Minute
	// fewest points can have a slope with an interval.
	fewest = 12
	// warmUp is the share of the time that does not count: caches fill, and pools
	// find their size.
	warmUp = 0.25
	// blocks are what many points are averaged to: what follows on each other
	// closely is no evidence of its own.
	blocks = 30
	// deviates is how many standard deviations the interval is wide: it holds the
	// slope in 99 of 100 cases.
	deviates = 2.576
)

// Growth is the judgement of a series.
type Growth struct {
	Trend Trend
	// Over is the time that counted, and N the number of points in it.
	Over time.Duration
	N    int
	// Median of the values, and by how much they have grown over the time: most
	// probably By, and between Low and High with a confidence of 99 %.
	Median, By, Low, High float64
	// May is how much was allowed.
	May float64
}

// Judge says whether a series grows by more than a share of its median and more
// than a floor, which is what is no growth however small the median.
func Judge(points []Point, share, floor float64) Growth {
	if len(points) == 0 {
		return Growth{Trend: Short}
	}
	first, last := points[0].At, points[len(points)-1].At
	begin := first + time.Duration(warmUp*float64(last-first))
	points = slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return p.At < begin })
	g := Growth{N: len(points), Over: last - begin}
	values := make([]float64, len(points))
	for i, p := range points {
		values[i] = p.Value
	}
	slices.Sort(values)
	g.Median = values[len(values)/2]
	g.May = max(floor, share*g.Median)
	if g.N < fewest || g.Over < shortest {
		g.Trend = Short
		return g
	}
	by, low, high := slope(thin(points))
	seconds := g.Over.Seconds()
	g.By, g.Low, g.High = by*seconds, low*seconds, high*seconds
	switch {
	case g.High <= g.May:
		g.Trend = Steady
	case g.Low > 0 && g.By > g.May:
		g.Trend = Growing
	default:
		g.Trend = Unclear
	}
	return g
}

// thin averages points that follow each other, where they are many.
func thin(points []Point) []Point {
	if len(points) <= blocks {
		return points
	}
	out := make([]Point, 0, blocks)
	for b := range blocks {
		part := points[b*len(points)/blocks : (b+1)*len(points)/blocks]
		sum := Point{}
		for _, p := range part {
			sum.At += p.At
			sum.Value += p.Value
		}
		out = append(out, Point{sum.At / time.Duration(len(part)), sum.Value / float64(len(part))})
	}
	return out
}

// slope is Sen's: the median of the slopes of all pairs, per second, with the
// interval that follows from Kendall's statistic.
func slope(points []Point) (middle, low, high float64) {
	var all []float64
	for i, a := range points {
		for _, b := range points[i+1:] {
			if b.At > a.At {
				all = append(all, (b.Value-a.Value)/(b.At-a.At).Seconds())
			}
		}
	}
	slices.Sort(all)
	n, m := float64(len(points)), len(all)
	if m == 0 {
		return 0, math.Inf(-1), math.Inf(1)
	}
	half := deviates * math.Sqrt(n*(n-1)*(2*n+5)/18) / 2
	at := func(rank float64) float64 { return all[min(max(int(rank), 0), m-1)] }
	return at(float64(m) / 2), at(math.Floor(float64(m)/2 - half)), at(math.Ceil(float64(m)/2 + half))
}

// text says it for people, in a unit.
func (g Growth) text(unit func(float64) string) string {
	if g.Trend == Short {
		return fmt.Sprintf("%s: %d values over %s, %s of them wanted", g.Trend, g.N, g.Over.Round(time.Second), shortest)
	}
	return fmt.Sprintf("%s: by %s over %s, between %s and %s with 99 %% confidence; median %s, n=%d",
		g.Trend, unit(g.By), g.Over.Round(time.Second), unit(g.Low), unit(g.High), unit(g.Median), g.N)
}
