package check

import (
	"sort"
	"time"
)

// Held is a connection that was let in once and stays open while nothing ends it
// (N14).
type Held struct {
	// Opened is when it was there, and Alive when it was last seen to carry
	// something.
	Opened, Alive time.Duration
	// Closed is when its end was seen, if Ended.
	Closed time.Duration
	Ended  bool
	// Fits are the versions under which it may stay.
	Fits Versions
}

// The findings about connections.
const (
	// Overstayed: it carried data although a version that ends it was in force.
	Overstayed Kind = "overstayed"
	// Cut: it was ended, and no version that can have been in force ends it.
	Cut Kind = "cut"
)

// HeldKinds lists the kinds of findings about connections.
func HeldKinds() []Kind { return []Kind{Overstayed, Cut} }

// Lasted is what became of a connection.
type Lasted struct {
	// Kind is empty where all is as it must be.
	Kind Kind
	// Version that ended it, or had to; 0 when none did.
	Version int
	// Between its last sign of life and its end it was cut: a bracket, like all
	// others. Meaningless unless Version has ended it.
	LastAlive, End time.Duration
}

// Hold judges one connection. A version ends it that it does not fit; one that is
// replaced before its budget is spent may have passed unseen, and so may, but need
// not, have ended it.
func (h *History) Hold(c Held) Lasted {
	due := h.due()
	last := Lasted{LastAlive: c.Alive, End: c.Closed}
	if c.Ended {
		oldest := sort.Search(len(due), func(w int) bool { return due[w] >= c.Opened })
		newest := sort.Search(len(h.Writes), func(w int) bool { return h.Writes[w].Call > c.Closed })
		for v := oldest; v <= newest; v++ {
			if !c.Fits.Contains(v) {
				last.Version = v
				break
			}
		}
		if last.Version == 0 && c.Fits.Contains(0) {
			last.Kind = Cut
		}
	}
	for w := range due {
		if v := w + 1; !c.Fits.Contains(v) && h.settled(due, v) && due[w] < c.Alive && c.Opened <= due[w] {
			return Lasted{Kind: Overstayed, Version: v, LastAlive: c.Alive, End: c.Closed}
		}
	}
	return last
}

// settled reports whether a version must have been in force at the end of its
// budget: nothing was written by then that may have replaced it with one that the
// connection fits.
func (h *History) settled(due []time.Duration, v int) bool {
	return v == len(h.Writes) || h.Writes[v].Call > due[v-1]
}
