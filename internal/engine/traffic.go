package engine

import (
	"fmt"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// sample is one call of a stream.
type sample struct {
	call    int64
	outcome clients.Outcome
}

// shape is what the calls of a stream looked like, in the order of calling.
type shape struct {
	calls, allowed, denied, other int
	// firstDenied and lastDenied are indices, -1 when nothing was denied.
	firstDenied, lastDenied int
	// mixed counts allowed calls that cannot have been decided outside one window
	// of denials: they began after a denial had returned and returned before
	// another began. Calls that overlap a denial may have been decided on either
	// side of it, whatever the order of calling.
	mixed int
	// before and after count allowed calls outside the window.
	before, after int
	// lastAllowed says that the last call was allowed.
	lastAllowed bool
	// width is from the first denied call to the last.
	width    time.Duration
	oddest   *clients.Outcome
	firstBad *clients.Outcome
}

func shapeOf(calls []sample) shape {
	s := shape{calls: len(calls), firstDenied: -1, lastDenied: -1}
	for i := range calls {
		outcome := &calls[i].outcome
		switch {
		case outcome.Kind == clients.Allowed:
			s.allowed++
		case outcome.Kind.Denial():
			s.denied++
			if s.firstDenied < 0 {
				s.firstDenied, s.firstBad = i, outcome
			}
			s.lastDenied = i
		default:
			s.other++
			if s.oddest == nil {
				s.oddest = outcome
			}
		}
		s.lastAllowed = outcome.Kind == clients.Allowed
	}
	var opened, closed time.Time // the first denial's return, the last one's call
	for i := range calls {
		outcome := &calls[i].outcome
		if !outcome.Kind.Denial() {
			continue
		}
		if opened.IsZero() || outcome.End.Before(opened) {
			opened = outcome.End
		}
		if outcome.Start.After(closed) {
			closed = outcome.Start
		}
	}
	for i := range calls {
		outcome := &calls[i].outcome
		if outcome.Kind != clients.Allowed {
			continue
		}
		switch {
		case s.firstDenied >= 0 && outcome.Start.After(opened) && outcome.End.Before(closed):
			s.mixed++
		case s.firstDenied < 0 || i < s.firstDenied:
			s.before++
		case i > s.lastDenied:
			s.after++
		}
	}
	if s.firstDenied >= 0 {
		s.width = calls[s.lastDenied].outcome.Start.Sub(calls[s.firstDenied].outcome.Start)
	}
	return s
}

func (s shape) String() string {
	text := fmt.Sprintf("%d calls: %d allowed, %d denied, %d other", s.calls, s.allowed, s.denied, s.other)
	if s.denied > 0 {
		text += fmt.Sprintf("; the denials span %s", s.width.Round(time.Millisecond))
	}
	return text
}

// compare judges the shape. Fewer calls than least prove nothing.
func (s shape) compare(want scenarios.TrafficShape, least int) verdict {
	v := passed(s.String())
	v.samples = s.calls
	for _, bad := range []*clients.Outcome{s.firstBad, s.oddest} {
		if bad != nil {
			v.details = append(v.details, fmt.Sprintf("first %s at %s: %s", saw(*bad), bad.Start.Format("15:04:05.000"), bad.Message))
		}
	}
	if s.calls < least {
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("%d calls were judged, %d are needed", s.calls, least)
		return v
	}
	switch want {
	case scenarios.AllAllowed:
		if s.allowed != s.calls {
			return failing(v, "expected every call to be allowed, observed %s", s)
		}
	case scenarios.AllDenied:
		if s.denied != s.calls {
			return failing(v, "expected every call to be denied, observed %s", s)
		}
	case scenarios.NoneDenied:
		if s.denied > 0 {
			return failing(v, "expected no call to be denied, observed %s", s)
		}
		if !s.lastAllowed {
			return failing(v, "expected the last call to be allowed, observed %s", s)
		}
	case scenarios.DeniedWindow:
		switch {
		case s.denied == 0:
			return failing(v, "expected a window of denials, observed %s", s)
		case s.other > 0:
			return failing(v, "expected denials and nothing else beside allowed calls, observed %s", s)
		case s.before == 0 || s.after == 0:
			return failing(v, "expected allowed calls before and after the window, observed %d before and %d after it", s.before, s.after)
		case s.mixed > 0:
			return failing(v, "expected one window, and %d calls within it were allowed", s.mixed)
		}
	}
	return v
}
