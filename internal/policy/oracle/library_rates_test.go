package oracle_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// counted is how many calls of a flow are limited, or of all flows together.
type counted struct{ limited, calls int }

// answerTime is how long a call takes on paper.
const answerTime = 2 * time.Millisecond

// slack is by how many calls a run may be off what paper says: calls are a little
// early or late.
func (c counted) slack() int { return 1 + int(math.Ceil(0.02*float64(c.calls))) }

// alike says that a run could not tell the two apart.
func (c counted) alike(other counted) bool {
	if (c.limited == 0) != (other.limited == 0) {
		return false // that nothing is limited has no slack
	}
	return max(c.limited-other.limited, other.limited-c.limited) <= c.slack()
}

// fits says whether the share can be within the band.
func (c counted) fits(b *scenarios.Band) bool {
	low, high := b.Bounds()
	slack := c.slack()
	if c.limited == 0 {
		slack = 0
	}
	return float64(c.limited+slack) >= low*float64(c.calls) && float64(c.limited-slack) <= high*float64(c.calls)
}

// rate plays the calls at the moments that are planned.
func (p *paper) rate(c scenarios.Claim) {
	var series []oracle.Paced
	var of []int
	for i := range c.Rate.Calls {
		call := &c.Rate.Calls[i]
		port, pod := p.target(call.Target, call.Protocol)
		client, request := p.caller(call.Request), p.request(call.Request)
		verdict := p.oracle().Judge(pod, port, client, request)
		if p.saw != nil {
			p.saw(c, verdict)
		}
		fits := false
		for _, kind := range call.Expect.Kinds(call.Protocol) {
			fits = fits || asked.CanBe(kind, verdict, client, request.Protocol)
		}
		if len(call.Expect) > 0 && !fits {
			p.differs(c, fmt.Sprintf("the calls of %s are said to be %s, and the oracle says %s\n%s", call.Client, call.Expect, verdict.Outcome, chain(verdict)))
		}
		for n := range call.Count(c.Rate.Lasts()) {
			at := time.Duration(float64(n) / call.Rate * float64(time.Second))
			series = append(series, oracle.Paced{At: at + answerTime/2, Replica: fmt.Sprintf("%s:%d", pod.Name, port), Client: client, Limits: verdict.Limits})
			of = append(of, i)
		}
	}
	p.asked["rate"]++
	flows, all := make([]counted, len(c.Rate.Calls)), counted{calls: len(series)}
	for i, limited := range p.oracle().Limited(series) {
		flows[of[i]].calls++
		if limited {
			flows[of[i]].limited++
			all.limited++
		}
	}
	for i, flow := range append(flows, all) {
		who, band := "all calls", c.Rate.Limited
		if i < len(flows) {
			who, band = "the calls of "+c.Rate.Calls[i].Client, c.Rate.Calls[i].Limited
		}
		if p.sawSeries != nil {
			p.sawSeries(c, flow)
		}
		if band != nil && !flow.fits(band) {
			low, high := band.Bounds()
			p.differs(c, fmt.Sprintf("of %s %.0f to %.0f%% are said to be limited, and by the rules it is %d of %d", who, 100*low, 100*high, flow.limited, flow.calls))
		}
		if i < len(flows) && c.Rate.Calls[i].Answer != nil && flow.limited == 0 {
			p.differs(c, fmt.Sprintf("the answers to limited calls of %s are compared, and by the rules none is (%s)", who, clients.Limited))
		}
	}
}

func TestANumberOfCallsIsComparedWithSlack(t *testing.T) {
	low, high := 40.0, 60.0
	band := &scenarios.Band{AtLeast: &low, AtMost: &high}
	for _, test := range []struct {
		counted
		fits bool
	}{{counted{50, 100}, true}, {counted{38, 100}, true}, {counted{36, 100}, false}, {counted{63, 100}, true}, {counted{64, 100}, false}, {counted{0, 100}, false}} {
		if got := test.fits; got != test.counted.fits(band) {
			t.Errorf("%v in 40 to 60%%: got %v", test.counted, !got)
		}
	}
	if (counted{0, 10}).alike(counted{1, 10}) || !(counted{4, 10}).alike(counted{5, 10}) || (counted{40, 60}).alike(counted{45, 60}) {
		t.Error("the slack is not what a run has")
	}
}
