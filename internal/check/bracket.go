package check

import "time"

// Bracket says between which two instants a version took effect. It is as wide
// as the requests around it are apart: never a point.
type Bracket struct {
	Version int
	// LastOld is the call of the last request that only an older version
	// explains, or the write's own call when there was none after it.
	LastOld time.Duration
	// FirstNew is the return of the first request that only this version or a
	// later one explains. It is meaningless unless Seen.
	FirstNew time.Duration
	Seen     bool
	// Informative is how many requests tell whether they came before or after, as
	// long as nothing had proved the version.
	Informative int
}

// Brackets finds one bracket for each write. Versions count that can have decided
// a request at all, so an answer that comes back after two further writes says
// nothing of the first one.
func (h *History) Brackets() []Bracket {
	_, spans := h.Explain()
	return h.brackets(spans)
}

// BracketsOf is Brackets by some of the requests, with the spans that Explain
// found from all of them.
func (h *History) BracketsOf(spans []Span, keep func(request int) bool) []Bracket {
	some := History{Writes: h.Writes}
	var theirs []Span
	for i, r := range h.Requests {
		if keep(i) {
			some.Requests, theirs = append(some.Requests, r), append(theirs, spans[i])
		}
	}
	return some.brackets(theirs)
}

func (h *History) brackets(spans []Span) []Bracket {
	brackets := make([]Bracket, len(h.Writes))
	for w, write := range h.Writes {
		brackets[w] = Bracket{Version: w + 1, LastOld: write.Call}
	}
	for i, r := range h.Requests {
		span := spans[i]
		for w := range h.Writes {
			b, v := &brackets[w], w+1
			// Neither what returned before it was written tells of its beginning, nor
			// what was called after it had been proved.
			if span.AtMost < v || span.Decided >= v {
				continue
			}
			switch {
			case !r.Fits.Within(v, span.AtMost):
				b.LastOld = max(b.LastOld, r.Call)
				b.Informative++
			case !r.Fits.Within(min(span.AtLeast, v-1), v-1):
				b.Informative++
				if !b.Seen || r.Return < b.FirstNew {
					b.FirstNew, b.Seen = r.Return, true
				}
			}
		}
	}
	return brackets
}
