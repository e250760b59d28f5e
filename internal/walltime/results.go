package walltime

import "github.com/meshproof/meshproof/reports/result"

// Results is what time went into as reports have it.
func Results(all []Spent) []result.Spent {
	var out []result.Spent
	for _, one := range all {
		out = append(out, result.Spent{On: string(one.Phase), Seconds: one.Wall.Seconds(), Work: one.Work.Seconds()})
	}
	return out
}
