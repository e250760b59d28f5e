package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// flowAs writes a flow of 20 calls per second as letters: a is allowed, l
// limited, d denied. every is the time between two of them.
func flowAs(letters string, every time.Duration, call scenarios.RateCall) *flowRun {
	call.Client, call.Protocol, call.Rate = "alice", scenarios.HTTP1, 20
	f := &flowRun{call: &call, spec: control.StreamSpec{Count: int64(len(letters))}, from: client{clientPod: &clientPod{}}}
	for i, letter := range letters {
		kind := map[rune]clients.Kind{'a': clients.Allowed, 'l': clients.Limited, 'd': clients.Forbidden}[letter]
		start := time.Unix(1000, 0).Add(time.Duration(i) * every)
		header := map[clients.Kind]map[string]string{clients.Limited: {"content-length": "0"}}[kind]
		f.calls = append(f.calls, clients.Outcome{Kind: kind, Start: start, End: start.Add(time.Millisecond), Header: header})
	}
	return f
}

func share(low, high float64) *scenarios.Band { return &scenarios.Band{AtLeast: &low, AtMost: &high} }

func TestAShareOfLimitedCallsIsHeldAgainstItsBand(t *testing.T) {
	const planned = 50 * time.Millisecond
	half := strings.Repeat("al", 20)
	for _, test := range []struct {
		name    string
		letters string
		every   time.Duration
		call    scenarios.RateCall
		all     *scenarios.Band
		want    result.Outcome
	}{
		{name: "within the band", letters: half, every: planned, call: scenarios.RateCall{Limited: share(40, 60)}, want: result.Passed},
		{name: "at its edge", letters: half, every: planned, call: scenarios.RateCall{Limited: share(50, 50)}, want: result.Passed},
		{name: "below it", letters: half, every: planned, call: scenarios.RateCall{Limited: share(60, 80)}, want: result.Failed},
		{name: "above that of all", letters: half, every: planned, all: share(0, 40), want: result.Failed},
		{name: "nothing may be limited", letters: half, every: planned, call: scenarios.RateCall{Limited: share(0, 0)}, want: result.Failed},
		{name: "the others are as expected", letters: half, every: planned, call: scenarios.RateCall{Expect: scenarios.Expect{"allowed"}}, want: result.Passed},
		{name: "the others are not", letters: half + "d", every: planned, call: scenarios.RateCall{Expect: scenarios.Expect{"allowed"}}, want: result.Failed},
		{name: "those that are limited are answered as expected", letters: half, every: planned, call: scenarios.RateCall{Answer: &scenarios.Answer{Headers: map[string]string{"content-length": "0"}}}, want: result.Passed},
		{name: "those that are limited are not", letters: half, every: planned, call: scenarios.RateCall{Answer: &scenarios.Answer{Absent: []string{"content-length"}}}, want: result.Failed},
		{name: "the rate was not reached", letters: half, every: 2 * planned, call: scenarios.RateCall{Limited: share(40, 60)}, want: result.Inconclusive},
	} {
		v := compareRates(&scenarios.RateClaim{Limited: test.all}, []*flowRun{flowAs(test.letters, test.every, test.call)})
		if v.outcome != test.want {
			t.Errorf("%s: got %s (%s)", test.name, v.outcome, v.reason)
		}
	}
	for _, test := range []struct {
		letters, retry string
		want           result.Outcome
	}{{"al", "", result.Passed}, {"al", "1", result.Failed}, {"aa", "", result.Failed}} {
		f := flowAs(strings.Repeat(test.letters, 20), planned, scenarios.RateCall{Answer: &scenarios.Answer{Absent: []string{"retry-after"}}})
		if test.retry != "" {
			f.calls[len(f.calls)-1].Header = map[string]string{"retry-after": test.retry}
		}
		if v := compareRates(&scenarios.RateClaim{}, []*flowRun{f}); v.outcome != test.want {
			t.Errorf("answers to %s with retry-after %q: got %s (%s)", test.letters, test.retry, v.outcome, v.reason)
		}
	}
	missing := flowAs(half, planned, scenarios.RateCall{})
	missing.spec.Count *= 2
	if v := compareRates(&scenarios.RateClaim{}, []*flowRun{missing}); v.outcome != result.Inconclusive || !strings.Contains(v.reason, "planned 80 calls at 20 per second, reached 40 at 20.0") {
		t.Errorf("half of the calls were not made: got %s (%s)", v.outcome, v.reason)
	}
}

func TestABandThatTheRulesExcludeContradictsThem(t *testing.T) {
	flows := []*flowRun{flowAs(strings.Repeat("a", 100), time.Millisecond, scenarios.RateCall{Limited: share(40, 60)})}
	for _, test := range []struct {
		low, high int
		contrary  bool
	}{{45, 55, false}, {10, 40, false}, {60, 70, false}, {0, 0, true}, {61, 99, true}, {0, 39, true}} {
		forecast := history.Forecast{Low: []int{test.low}, High: []int{test.high}, AllHigh: 100}
		if got := contradicted(&scenarios.RateClaim{}, forecast, flows); (got != "") != test.contrary {
			t.Errorf("%d to %d of 100: got %q", test.low, test.high, got)
		}
	}
}

// Two clients on two machines are brought to one time.
func TestTheCallsOfAllFlowsHaveOneClock(t *testing.T) {
	here, there := flowAs("a", 0, scenarios.RateCall{}), flowAs("l", 0, scenarios.RateCall{})
	there.from.clock = clock{ahead: 3 * time.Millisecond}
	got := sent([]*flowRun{here, there})
	if len(got) != 2 || got[0].At != 3000 || got[0].Answered != 4000 || got[1].At != 0 || got[1].Kind != clients.Limited || got[1].Flow != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestOnlyJudgementsThatNeedTheSameWaitForEachOther(t *testing.T) {
	var q queue
	var order string
	for _, one := range []struct{ name, needs string }{{"a", "x"}, {"b", "y"}, {"c", "x"}, {"d", "z"}, {"e", "y z"}} {
		q.add(strings.Fields(one.needs), func() { order += one.name })
	}
	var got []string
	for _, chain := range q.chains() {
		order = ""
		for _, one := range chain {
			one()
		}
		got = append(got, order)
	}
	if want := []string{"ac", "bde"}; !slices.Equal(got, want) {
		t.Errorf("the chains are %v, want %v", got, want)
	}
}
