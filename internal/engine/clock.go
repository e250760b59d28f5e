package engine

import (
	"time"
)

// clock is how another machine's clock stands to this one's.
type clock struct {
	// ahead is by how much it is ahead, as far as the question's round trip does
	// not explain the difference: 0 on one machine.
	ahead time.Duration
	// slack is how far ahead may be wrong.
	slack time.Duration
}

// readClock asks for the time over there. Without an answer the clocks count as
// equal.
func readClock(ask func() (time.Time, error)) clock {
	asked := time.Now()
	there, err := ask()
	if err != nil || there.IsZero() {
		return clock{}
	}
	return compareClocks(asked, time.Now(), there)
}

// compareClocks is about a clock that showed there at some moment between asked
// and answered.
func compareClocks(asked, answered, there time.Time) clock {
	// The monotonic parts must not take part: there has none.
	asked, answered = asked.Round(0), answered.Round(0)
	half := answered.Sub(asked) / 2
	ahead := there.Sub(asked.Add(half))
	if ahead.Abs() <= half {
		return clock{}
	}
	return clock{ahead: ahead, slack: half}
}

// local is a time of that clock as this one shows it.
func (c clock) local(there time.Time) time.Time { return there.Round(0).Add(-c.ahead) }
