package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Flow is one of the clients of a question of form Rate, and what it asks again
// and again.
type Flow struct {
	// Pod is namespace/name.
	Pod     string         `json:"pod"`
	Port    uint16         `json:"port"`
	Client  oracle.Client  `json:"client"`
	Request oracle.Request `json:"request"`
}

// Sent is one call of a series. Times are microseconds since the first call of
// the series was sent.
type Sent struct {
	// Flow is its place in the question's flows.
	Flow     int          `json:"flow"`
	At       int64        `json:"at"`
	Answered int64        `json:"answered"`
	Kind     clients.Kind `json:"kind"`
}

// Forecast is what the rules say of a series.
type Forecast struct {
	// Verdicts of the flows' requests, whatever their number.
	Verdicts []oracle.Verdict
	// Low and High bound how many calls of each flow are limited: nobody knows
	// when the proxy had a call, only when it was sent and answered.
	Low, High []int
	// AllLow and AllHigh bound how many are limited in all.
	AllLow, AllHigh int
}

// forecastSlack is by how much more the number of limited calls may be off: one
// call at either end of the burst, and two of a hundred.
func forecastSlack(calls int) int { return 1 + int(math.Ceil(0.02*float64(calls))) }

// Forecast judges the series of a question of form Rate in its world.
func (q *Question) Forecast(w *World, o oracle.Oracle) (Forecast, error) {
	f := Forecast{Low: make([]int, len(q.Flows)), High: make([]int, len(q.Flows))}
	for _, flow := range q.Flows {
		pod := w.pod(flow.Pod)
		if pod == nil {
			return f, fmt.Errorf("question of claim %s: pod %s is not in its world", q.Claim, flow.Pod)
		}
		f.Verdicts = append(f.Verdicts, o.Judge(pod, flow.Port, flow.Client, flow.Request))
	}
	calls := make([]int, len(q.Flows))
	for _, sent := range q.Observed.Sent {
		calls[sent.Flow]++
	}
	for n, came := range q.orders() {
		all, each := 0, make([]int, len(q.Flows))
		for i, limited := range o.Limited(q.paced(f.Verdicts, came)) {
			if limited {
				all++
				each[q.Observed.Sent[i].Flow]++
			}
		}
		first := n == 0
		f.AllLow, f.AllHigh = widened(first, f.AllLow, f.AllHigh, all)
		for i := range each {
			f.Low[i], f.High[i] = widened(first, f.Low[i], f.High[i], each[i])
		}
	}
	for i := range f.Low {
		f.Low[i], f.High[i] = slackened(f.Low[i], f.High[i], calls[i])
	}
	f.AllLow, f.AllHigh = slackened(f.AllLow, f.AllHigh, len(q.Observed.Sent))
	return f, nil
}

// mixedOrders is how many orders are tried besides the extreme ones: where flows
// keep step with each other, the extremes do not bound what lies between.
const mixedOrders = 32

// orders say when each call may have come, between sending and answer: all flows
// early or late, each against the others, and at any time, by chance that is
// always the same.
func (q *Question) orders() []func(Sent) int64 {
	var out []func(Sent) int64
	lateIf := func(late func(flow int) bool) {
		out = append(out, func(s Sent) int64 {
			if late(s.Flow) {
				return s.Answered
			}
			return s.At
		})
	}
	lateIf(func(int) bool { return false })
	lateIf(func(int) bool { return true })
	for one := range q.Flows {
		lateIf(func(flow int) bool { return flow == one })
		lateIf(func(flow int) bool { return flow != one })
	}
	for seed := range uint64(mixedOrders) {
		chance := rand.New(rand.NewPCG(seed, 0))
		out = append(out, func(s Sent) int64 { return s.At + int64(chance.Float64()*float64(s.Answered-s.At)) })
	}
	return out
}

// paced is the series with the time at which each call came.
func (q *Question) paced(verdicts []oracle.Verdict, came func(Sent) int64) []oracle.Paced {
	var out []oracle.Paced
	for _, sent := range q.Observed.Sent {
		flow := q.Flows[sent.Flow]
		out = append(out, oracle.Paced{At: time.Duration(came(sent)) * time.Microsecond, Replica: fmt.Sprintf("%s:%d", flow.Pod, flow.Port),
			Client: flow.Client, Limits: verdicts[sent.Flow].Limits})
	}
	return out
}

func widened(first bool, low, high, number int) (int, int) {
	if first {
		return number, number
	}
	return min(low, number), max(high, number)
}

// slackened leaves alone that nothing is limited: then nothing may be.
func slackened(low, high, calls int) (int, int) {
	if high == 0 {
		return 0, 0
	}
	return max(0, low-forecastSlack(calls)), min(calls, high+forecastSlack(calls))
}

// Differences is what of the observations is at odds with the forecast.
func (f Forecast) Differences(q *Question) []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	limited, told, all := make([]int, len(q.Flows)), make([]bool, len(q.Flows)), 0
	for _, sent := range q.Observed.Sent {
		flow := q.Flows[sent.Flow]
		if sent.Kind == clients.Limited {
			limited[sent.Flow]++
			all++
		}
		if !told[sent.Flow] && !asked.Fits(sent.Kind, f.Verdicts[sent.Flow], flow.Client, flow.Request.Protocol, false) {
			told[sent.Flow] = true
			add("flow %d: by the rules it is %s, observed %s", sent.Flow+1, f.Verdicts[sent.Flow].Outcome, sent.Kind)
		}
	}
	for i := range q.Flows {
		if !told[i] && (limited[i] < f.Low[i] || limited[i] > f.High[i]) {
			add("flow %d: by the rules %d to %d calls are limited, observed %d", i+1, f.Low[i], f.High[i], limited[i])
		}
	}
	if all < f.AllLow || all > f.AllHigh {
		add("by the rules %d to %d of %d calls are limited, observed %d", f.AllLow, f.AllHigh, len(q.Observed.Sent), all)
	}
	return found
}
