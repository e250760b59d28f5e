package soak

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

// over is a series of a value each five seconds.
func over(d time.Duration, value func(minutes float64, dice *rand.Rand) float64) []Point {
	dice := rand.New(rand.NewPCG(5, 5))
	var points []Point
	for at := time.Duration(0); at <= d; at += interval {
		points = append(points, Point{at, value(at.Minutes(), dice)})
	}
	return points
}

const mib = 1 << 20

func TestGrowthIsToldFromNoGrowth(t *testing.T) {
	flat := func(minutes float64, dice *rand.Rand) float64 { return 50*mib + dice.NormFloat64()*mib }
	for _, c := range []struct {
		name  string
		d     time.Duration
		value func(minutes float64, dice *rand.Rand) float64
		want  Trend
	}{
		{"the same all the time", 15 * time.Minute, flat, Steady},
		{"a saw", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 { return 40*mib + math.Mod(minutes*60, 40)*mib/4 }, Steady},
		{"high once", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 {
			if minutes > 9 && minutes < 9.2 {
				return 400 * mib
			}
			return flat(minutes, dice)
		}, Steady},
		{"grows at first only", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 {
			return 20*mib + 30*mib*min(minutes/3, 1) + dice.NormFloat64()*mib
		}, Steady},
		{"shrinks", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 { return 60*mib - minutes*mib }, Steady},
		{"two MiB a minute", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 { return flat(minutes, dice) + minutes*2*mib }, Growing},
		{"two MiB a minute under a saw", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 {
			return 50*mib + minutes*2*mib + math.Mod(minutes*60, 40)*mib/8
		}, Growing},
		{"all over the place", 15 * time.Minute, func(minutes float64, dice *rand.Rand) float64 { return dice.Float64() * 500 * mib }, Unclear},
		{"too short", 4 * time.Minute, func(minutes float64, dice *rand.Rand) float64 { return flat(minutes, dice) + minutes*9*mib }, Short},
		{"nothing", -1, flat, Short},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Judge(over(c.d, c.value), 0.15, 8*mib); got.Trend != c.want {
				t.Errorf("%s, want %s", got.text(mebibytes), c.want)
			}
		})
	}
}

// The interval holds the true slope as often as it says.
func TestTheIntervalHoldsTheSlope(t *testing.T) {
	const rounds, grows = 400, 0.5
	held := 0
	dice := rand.New(rand.NewPCG(8, 8))
	for range rounds {
		var points []Point
		for second := range 30 {
			points = append(points, Point{time.Duration(second) * time.Second, grows*float64(second) + dice.NormFloat64()*3})
		}
		if _, low, high := slope(points); low <= grows && grows <= high {
			held++
		}
	}
	if share := float64(held) / rounds; share < 0.97 {
		t.Errorf("of 100 intervals %.0f hold the slope, want 99", 100*share)
	}
}

func TestWhatStandsAllTheTimeIsClaimedOf(t *testing.T) {
	s := &Soak{began: time.Now(), points: map[series][]Point{}}
	flat := over(10*time.Minute, func(float64, *rand.Rand) float64 { return 50 * mib })
	grows := over(10*time.Minute, func(minutes float64, _ *rand.Rand) float64 { return 50*mib + minutes*5*mib })
	s.looks = len(flat)
	const memory = "process_resident_memory_bytes"
	s.points[series{"policy", "linkerd/a", memory}] = flat
	s.points[series{"proxy", "ns/a", memory}] = flat
	s.points[series{"proxy", "ns/b", memory}] = grows
	s.points[series{"proxy", "ns/came-late", memory}] = grows[:20]
	scenario := s.judge()
	var got []string
	for _, c := range scenario.Steps[0].Claims {
		got = append(got, fmt.Sprintf("%s: %s, %s", c.Name, c.Outcome, c.Details[0]))
	}
	want := []string{"memory of policy: no growth: passed, the worst of 1: linkerd/a", "memory of proxies: no growth: failed, the worst of 2: ns/b"}
	if !slices.Equal(got, want) || scenario.Outcome != result.Failed {
		t.Errorf("%s: %q, want %q", scenario.Outcome, got, want)
	}
}

func TestValuesAreReadFromMetrics(t *testing.T) {
	got := valuesOf([]byte("# TYPE go_goroutines gauge\ngo_goroutines 41\n# TYPE policy_watchers gauge\npolicy_watchers{kind=\"a\"} 2\npolicy_watchers{kind=\"b\"} 3\n# TYPE other counter\nother 7\n"))
	if len(got) != 2 || got["go_goroutines"] != 41 || got["policy_watchers"] != 5 {
		t.Errorf("values %v", got)
	}
}

func TestATooShortSoakIsNoJudgement(t *testing.T) {
	g := Judge(over(2*time.Minute, func(float64, *rand.Rand) float64 { return 1 }), 0.15, 1)
	if o, reason := g.outcome(); o != result.Skipped || !strings.Contains(reason, "cannot tell") {
		t.Errorf("%s: %s", o, reason)
	}
}
