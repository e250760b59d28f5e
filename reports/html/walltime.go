package html

import (
	"cmp"
	"slices"

	"github.com/meshproof/meshproof/reports/result"
)

// wallTime is what a run's time went into.
type wallTime struct {
	Seconds float64
	// Parts is of how many runs, which may have been at work at once.
	Parts  int
	Phases []phase
	// Named are the phases that scenarios have, in the order of Phases; each of
	// Scenarios, the longest first, has as many times.
	Named     []string
	Scenarios []spent
}

// phase has its share of the wall time in percent, of which a bar is drawn.
type phase struct {
	result.Spent
	Share float64
}

type spent struct {
	Name, ID string
	Seconds  float64
	In       []float64
}

// wallTimeOf is nil for a run that does not say where its time went.
func wallTimeOf(run *result.Run, ids []string) *wallTime {
	if len(run.WallTime) == 0 {
		return nil
	}
	w := &wallTime{Parts: len(run.Parts)}
	for _, one := range run.WallTime {
		w.Seconds += one.Seconds
	}
	for _, one := range run.WallTime {
		p := phase{Spent: one}
		if w.Seconds > 0 {
			p.Share = 100 * one.Seconds / w.Seconds
		}
		w.Phases = append(w.Phases, p)
		if one.Work > 0 {
			w.Named = append(w.Named, one.On)
		}
	}
	for i, scenario := range run.Scenarios {
		if len(scenario.WallTime) == 0 {
			continue
		}
		s := spent{Name: scenario.Name, ID: ids[i], Seconds: scenario.Duration, In: make([]float64, len(w.Named))}
		for _, one := range scenario.WallTime {
			if at := slices.Index(w.Named, one.On); at >= 0 {
				s.In[at] = one.Seconds
			}
		}
		w.Scenarios = append(w.Scenarios, s)
	}
	slices.SortStableFunc(w.Scenarios, func(a, b spent) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return w
}
