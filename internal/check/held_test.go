package check_test

import (
	"testing"
	"time"

	"github.com/meshproof/meshproof/internal/check"
)

func TestAConnectionLastsAsLongAsItsVersionsLetIt(t *testing.T) {
	// Version 1 is written from 10 to 12, version 2 from 30 to 32; the budget is 5.
	history := check.History{Writes: []check.Write{{Call: 10, Ack: 12}, {Call: 30, Ack: 32}}, Budget: 5}
	open := func(alive time.Duration, fits check.Versions) check.Held {
		return check.Held{Opened: 1, Alive: alive, Fits: fits}
	}
	ended := func(alive, closed time.Duration, fits check.Versions) check.Held {
		return check.Held{Opened: 1, Alive: alive, Closed: closed, Ended: true, Fits: fits}
	}
	hasty := check.History{Writes: []check.Write{{Call: 10, Ack: 12}, {Call: 14, Ack: 15}}, Budget: 5}
	for name, one := range map[string]struct {
		history check.History
		held    check.Held
		kind    check.Kind
		version int
	}{
		"it survives what has nothing to do with it": {history, open(60, check.Of(0, 1, 2)), "", 0},
		"it is cut by what revokes it":               {history, ended(11, 13, check.Of(0, 2)), "", 1},
		"it is cut by the later one":                 {history, ended(31, 33, check.Of(0, 1)), "", 2},
		"it outlives its revocation":                 {history, open(18, check.Of(0, 2)), check.Overstayed, 1},
		"it is still alive within the budget":        {history, open(17, check.Of(0)), "", 0},
		"it is cut too late":                         {history, ended(20, 21, check.Of(0)), check.Overstayed, 1},
		"it is cut by nothing":                       {history, ended(20, 21, check.Of(0, 1, 2)), check.Cut, 0},
		"it is cut before anybody wrote":             {history, ended(4, 5, check.Of(0)), check.Cut, 0},
		"what passed in between may have ended it":   {hasty, ended(13, 16, check.Of(0, 2)), "", 1},
		"or not": {hasty, open(50, check.Of(0, 2)), "", 0},
		"a budget without end leaves nothing to be late": {check.History{Writes: history.Writes, Budget: check.Unlimited}, open(60, check.Of(0)), "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := one.history.Hold(one.held); got.Kind != one.kind || got.Version != one.version {
				t.Errorf("it %q by version %d, want %q by %d", got.Kind, got.Version, one.kind, one.version)
			}
		})
	}
	during := history
	during.Suspended = []check.Interval{{From: 11, To: 100}}
	if got := during.Hold(open(50, check.Of(0))); got.Kind != "" {
		t.Errorf("a proxy that cannot be told need not cut: %+v", got)
	}
}
