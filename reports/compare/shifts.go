package compare

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"github.com/meshproof/meshproof/reports/result"
)

// Limits say which shift of a measured value is a regression.
type Limits struct {
	// Threshold is by how much of the old median the new one may be greater; a
	// negative one judges no shift.
	Threshold float64
	// Alpha is how probable a difference by chance may be that counts as one.
	Alpha float64
}

// UsualLimits are wide on purpose: two runs are hardly ever alike on a machine
// that does something else, too.
func UsualLimits() Limits { return Limits{Threshold: 0.5, Alpha: 0.01} }

// confidence of the intervals around medians.
const confidence = 0.95

// Shift is one kind of measured value in both runs.
type Shift struct {
	Name string  `json:"name"`
	Unit string  `json:"unit"`
	Old  Centre  `json:"old"`
	New  Centre  `json:"new"`
	P    float64 `json:"p"`
	// Change is New's median relative to Old's: 0.5 is half as much again.
	Change float64 `json:"change"`
	// Significant says that it is hardly chance, and Regression that it is more than
	// may be, besides.
	Significant bool `json:"significant"`
	Regression  bool `json:"regression"`
	// BelowNoise says that the medians are closer to each other than the machine of
	// one of the runs could tell: then it is no regression, however significant.
	BelowNoise bool `json:"belowNoise,omitempty"`
	// Note says why nothing can be said.
	Note string `json:"note,omitempty"`
}

// Centre is where the values of one run lie.
type Centre struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// shifts compares the samples that both runs have, by the test of Mann, Whitney
// and Wilcoxon: nothing is assumed of how values are distributed.
func shifts(older, newer *result.Run, limits Limits) []Shift {
	thresholds := benchmath.DefaultThresholds
	thresholds.CompareAlpha = limits.Alpha
	judged := limits.Threshold >= 0 && older.Cluster.Provider == newer.Cluster.Provider
	var all []Shift
	for _, was := range older.Samples {
		at := slices.IndexFunc(newer.Samples, func(s result.Sample) bool { return s.Name == was.Name && s.Unit == was.Unit })
		if at < 0 || len(was.Values) == 0 || len(newer.Samples[at].Values) == 0 {
			continue
		}
		before, after := benchmath.NewSample(slices.Clone(was.Values), &thresholds), benchmath.NewSample(slices.Clone(newer.Samples[at].Values), &thresholds)
		test := benchmath.AssumeNothing.Compare(before, after)
		s := Shift{Name: was.Name, Unit: was.Unit, Old: centre(before), New: centre(after), P: test.P}
		if s.Old.Median > 0 {
			s.Change = s.New.Median/s.Old.Median - 1
		}
		s.Significant = test.P < limits.Alpha && s.New.Median != s.Old.Median
		for _, warning := range test.Warnings {
			s.Note = warning.Error()
		}
		floor := max(floorOf(older), floorOf(newer))
		s.BelowNoise = s.Unit == "ms" && s.Significant && math.Abs(s.New.Median-s.Old.Median) < floor
		s.Regression = judged && s.Significant && !s.BelowNoise && s.Change > limits.Threshold
		all = append(all, s)
	}
	return all
}

// floorOf is a run's noise floor in milliseconds, 0 when it is not known.
func floorOf(run *result.Run) float64 {
	if run.Noise == nil {
		return 0
	}
	return run.Noise.Floor
}

func centre(s *benchmath.Sample) Centre {
	summary := benchmath.AssumeNothing.Summary(s, confidence)
	c := Centre{N: len(s.Values), Median: summary.Center, Low: summary.Lo, High: summary.Hi}
	// With few values the interval has no ends, which JSON cannot say.
	if math.IsInf(c.Low, 0) {
		c.Low = s.Values[0]
	}
	if math.IsInf(c.High, 0) {
		c.High = s.Values[len(s.Values)-1]
	}
	return c
}

// delta is the shift for people: a change that may be chance is none.
func (s Shift) delta() string {
	switch {
	case s.Note != "":
		return "? (" + s.Note + ")"
	case !s.Significant:
		return "~"
	case s.BelowNoise:
		return "~ (finer than the noise floor)"
	case s.Regression:
		return fmt.Sprintf("%+.0f %% REGRESSION", 100*s.Change)
	}
	return fmt.Sprintf("%+.0f %%", 100*s.Change)
}

func (c Centre) text(unit string) string { return fmt.Sprintf("%.3g %s (n=%d)", c.Median, unit, c.N) }
