package history

import (
	"fmt"
	"math"
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
	// Every call may have come at once or at the last moment. The orders that are
	// tried are the extreme ones, of all flows and of each against the others.
	for order := -2; order < 2*len(q.Flows); order++ {
		late := func(flow int) bool {
			switch {
			case order < 0:
				return order == -1
			default:
				return (flow == order/2) == (order%2 == 0)
			}
		}
		all, each := 0, make([]int, len(q.Flows))
		for i, limited := range o.Limited(q.paced(f.Verdicts, late)) {
			if limited {
				all++
				each[q.Observed.Sent[i].Flow]++
			}
		}
		first := order == -2
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

// paced is the series with the time at which each call came.
func (q *Question) paced(verdicts []oracle.Verdict, late func(flow int) bool) []oracle.Paced {
	var out []oracle.Paced
	for _, sent := range q.Observed.Sent {
		flow := q.Flows[sent.Flow]
		at := sent.At
		if late(sent.Flow) {
			at = sent.Answered
		}
		out = append(out, oracle.Paced{At: time.Duration(at) * time.Microsecond, Replica: fmt.Sprintf("%s:%d", flow.Pod, flow.Port),
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
