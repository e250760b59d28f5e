package engine

import (
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// calls writes a stream as letters: a is allowed, d denied, c closed, t timed
// out; one call every 10 ms, each of which takes 5 ms.
func calls(letters string) []sample {
	start := time.Unix(1000, 0)
	var out []sample
	for i, letter := range letters {
		kind := map[rune]clients.Kind{'a': clients.Allowed, 'd': clients.PermissionDenied, 'c': clients.Closed, 't': clients.Timeout}[letter]
		begun := start.Add(time.Duration(i) * 10 * time.Millisecond)
		out = append(out, sample{int64(i + 1), clients.Outcome{Kind: kind, Start: begun, End: begun.Add(5 * time.Millisecond)}})
	}
	return out
}

func TestTheShapeOfAStreamDecides(t *testing.T) {
	for _, test := range []struct {
		stream string
		want   scenarios.TrafficShape
		result result.Outcome
	}{
		{"aaaaa", scenarios.AllAllowed, result.Passed},
		{"aadaa", scenarios.AllAllowed, result.Failed},
		{"aataa", scenarios.AllAllowed, result.Failed},
		{"ddcdd", scenarios.AllDenied, result.Passed},
		{"ddadd", scenarios.AllDenied, result.Failed},
		{"ddtdd", scenarios.AllDenied, result.Failed},
		{"ttaaa", scenarios.NoneDenied, result.Passed},
		{"ttada", scenarios.NoneDenied, result.Failed},
		{"aaatt", scenarios.NoneDenied, result.Failed},
		{"addda", scenarios.DeniedWindow, result.Passed},
		{"adada", scenarios.DeniedWindow, result.Failed},
		{"dddaa", scenarios.DeniedWindow, result.Failed},
		{"aaddd", scenarios.DeniedWindow, result.Failed},
		{"aaaaa", scenarios.DeniedWindow, result.Failed},
		{"addta", scenarios.DeniedWindow, result.Failed},
	} {
		if got := shapeOf(calls(test.stream)).compare(test.want, 5); got.outcome != test.result {
			t.Errorf("%s as %s: got %s (%s), want %s", test.stream, test.want, got.outcome, got.reason, test.result)
		}
	}
}

// Calls overtake each other on a busy machine: one that overlaps a denial may
// have been decided before the window opened, and one that does not may not.
func TestAnAllowedCallThatOverlapsADenialMayLieOutsideTheWindow(t *testing.T) {
	for _, test := range []struct {
		claim  string
		second time.Duration // the end of the denial that was called first
		want   result.Outcome
	}{
		{"the denial returned while the allowed call was under way", 12 * time.Millisecond, result.Passed},
		{"the denial had returned before the allowed call began", 5 * time.Millisecond, result.Failed},
	} {
		stream := calls("adadda")
		stream[1].outcome.End = stream[1].outcome.Start.Add(test.second)
		if got := shapeOf(stream).compare(scenarios.DeniedWindow, 5); got.outcome != test.want {
			t.Errorf("%s: got %s (%s), want %s", test.claim, got.outcome, got.reason, test.want)
		}
	}
}

func TestTooFewCallsProveNothing(t *testing.T) {
	for _, shape := range scenarios.TrafficShape("").Values() {
		if got := shapeOf(calls("aa")).compare(scenarios.TrafficShape(shape), 3); got.outcome != result.Inconclusive {
			t.Errorf("two calls as %s: got %s, want inconclusive", shape, got.outcome)
		}
		if got := shapeOf(nil).compare(scenarios.TrafficShape(shape), 1); got.outcome != result.Inconclusive {
			t.Errorf("no calls as %s: got %s, want inconclusive", shape, got.outcome)
		}
	}
}

func TestTheWindowIsAsWideAsItsDenials(t *testing.T) {
	if got := shapeOf(calls("aadddda")).width; got != 30*time.Millisecond {
		t.Errorf("width is %s, want 30ms", got)
	}
}
