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
	// Informative is how many requests, from the write on, can tell the version
	// from the one before it.
	Informative int
}

// Brackets finds one bracket for each write.
func (h *History) Brackets() []Bracket {
	brackets := make([]Bracket, len(h.Writes))
	for w, write := range h.Writes {
		b := Bracket{Version: w + 1, LastOld: write.Call}
		for _, r := range h.Requests {
			if r.Return < write.Call {
				continue
			}
			if r.Fits.Contains(w) != r.Fits.Contains(w+1) {
				b.Informative++
			}
			switch {
			case r.Fits.from(w+1) == none: // it was still an older one
				b.LastOld = max(b.LastOld, r.Call)
			case r.Fits.last(w) < 0 && (!b.Seen || r.Return < b.FirstNew):
				b.FirstNew, b.Seen = r.Return, true
			}
		}
		brackets[w] = b
	}
	return brackets
}
