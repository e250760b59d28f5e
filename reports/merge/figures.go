package merge

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/reports/result"
)

// figures are those of all parts. Of two maxima the larger is the maximum of
// both; any other measure of two parts cannot be had from the measures of each,
// so it stays what it is, under the part's name. A figure that only one part
// has is the whole run's.
func figures(runs []*result.Run) []result.Figure {
	type key struct{ name, unit string }
	holders := map[key]int{}
	for _, run := range runs {
		for _, f := range run.Figures {
			holders[key{f.Name, f.Unit}]++
		}
	}
	var out []result.Figure
	at := map[key]int{}
	for _, run := range runs {
		for _, f := range run.Figures {
			k := key{f.Name, f.Unit}
			i, known := at[k]
			switch {
			case holders[k] > 1 && !strings.HasSuffix(f.Name, ", max"):
				f.Name = fmt.Sprintf("%s: %s", partOf(run), f.Name)
				out = append(out, f)
			case known:
				out[i].N += f.N
				out[i].Value = max(out[i].Value, f.Value)
			default:
				at[k] = len(out)
				out = append(out, f)
			}
		}
	}
	return out
}
