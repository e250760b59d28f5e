package calibrate

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheFloorIsWhatAllButOneOfAHundredCallsAddAtMost(t *testing.T) {
	var r ring
	for i := range 200 {
		r.add(time.Duration(200-i) * time.Millisecond)
	}
	if d := cmp.Diff(Spread{100 * time.Millisecond, 198 * time.Millisecond, 200 * time.Millisecond}, r.spread()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	n := Noise{N: 200, Call: r.spread()}
	if n.Floor() != 198*time.Millisecond {
		t.Errorf("floor %v", n.Floor())
	}
	var finer *FinerError
	if err := n.Allows("a budget", 197*time.Millisecond); !errors.As(err, &finer) || finer.Floor != n.Floor() {
		t.Errorf("a budget below the floor: %v", err)
	}
	if err := n.Allows("a budget", n.Floor()); err != nil {
		t.Errorf("a budget as large as the floor: %v", err)
	}
}

func TestAMeterRemembersTheLastSamplesOnly(t *testing.T) {
	var r ring
	for i := range kept + 10 {
		r.add(time.Duration(i))
	}
	if got := r.spread(); len(r.all) != kept || got.Max != kept+9 || r.n != kept+10 {
		t.Errorf("%d samples kept of %d, the largest %d", len(r.all), r.n, got.Max)
	}
}

func TestAMeterTakesSamplesUntilItIsStopped(t *testing.T) {
	var n Noise
	err := ErrNoSample
	for long := 50 * time.Millisecond; errors.Is(err, ErrNoSample) && long < time.Minute; long *= 2 {
		n, err = Listen(t.Context(), long) // a busy machine may need longer for the first sample
	}
	if err != nil || n.N == 0 || n.Call.Max < n.RoundTrip.P50 || n.RoundTrip.P50 <= 0 || n.Handoff.Max <= 0 {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestAMeterThatHadNoTimeSaysSo(t *testing.T) {
	m, err := Start(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Stop(); !errors.Is(err, ErrNoSample) {
		t.Errorf("error %v", err)
	}
}
