package paper

import (
	"fmt"
	"math"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/scenarios"
)

// Counted is how many calls of a flow are limited, or of all flows together.
type Counted struct{ Limited, Calls int }

// answerTime is how long a call takes on paper.
const answerTime = 2 * time.Millisecond

// slack is by how many calls a run may be off what paper says: calls are a little
// early or late.
func (c Counted) slack() int { return 1 + int(math.Ceil(0.02*float64(c.Calls))) }

// Alike says that a run could not tell the two apart.
func (c Counted) Alike(other Counted) bool {
	if (c.Limited == 0) != (other.Limited == 0) {
		return false // that nothing is limited has no slack
	}
	return max(c.Limited-other.Limited, other.Limited-c.Limited) <= c.slack()
}

// fits says whether the share can be within the band.
func (c Counted) fits(b *scenarios.Band) bool {
	low, high := b.Bounds()
	slack := c.slack()
	if c.Limited == 0 {
		slack = 0
	}
	return float64(c.Limited+slack) >= low*float64(c.Calls) && float64(c.Limited-slack) <= high*float64(c.Calls)
}

// rate plays the calls at the moments that are planned.
func (p *Play) rate(c scenarios.Claim) {
	var series []oracle.Paced
	var of []int
	for i := range c.Rate.Calls {
		call := &c.Rate.Calls[i]
		port, pod := p.target(call.Target, call.Protocol)
		client, request := p.caller(call.Request), p.request(call.Request)
		verdict := p.oracle().Judge(pod, port, client, request)
		if p.Saw != nil {
			p.Saw(c, verdict)
		}
		fits := false
		for _, kind := range call.Expect.Kinds(call.Protocol) {
			fits = fits || asked.CanBe(kind, verdict, client, request.Protocol)
		}
		if len(call.Expect) > 0 && !fits {
			p.Differs(c, fmt.Sprintf("the calls of %s are said to be %s, and the oracle says %s\n%s", call.Client, call.Expect, verdict.Outcome, chain(verdict)))
		}
		for n := range call.Count(c.Rate.Lasts()) {
			at := time.Duration(float64(n) / call.Rate * float64(time.Second))
			series = append(series, oracle.Paced{At: at + answerTime/2, Replica: fmt.Sprintf("%s:%d", pod.Name, port), Client: client, Limits: verdict.Limits})
			of = append(of, i)
		}
	}
	p.Asked["rate"]++
	flows, all := make([]Counted, len(c.Rate.Calls)), Counted{Calls: len(series)}
	for i, limited := range p.oracle().Limited(series) {
		flows[of[i]].Calls++
		if limited {
			flows[of[i]].Limited++
			all.Limited++
		}
	}
	for i, flow := range append(flows, all) {
		who, band := "all calls", c.Rate.Limited
		if i < len(flows) {
			who, band = "the calls of "+c.Rate.Calls[i].Client, c.Rate.Calls[i].Limited
		}
		if p.SawSeries != nil {
			p.SawSeries(c, flow)
		}
		if band != nil && !flow.fits(band) {
			low, high := band.Bounds()
			p.Differs(c, fmt.Sprintf("of %s %.0f to %.0f%% are said to be limited, and by the rules it is %d of %d", who, 100*low, 100*high, flow.Limited, flow.Calls))
		}
		if i < len(flows) && c.Rate.Calls[i].Answer != nil && flow.Limited == 0 {
			p.Differs(c, fmt.Sprintf("the answers to limited calls of %s are compared, and by the rules none is (%s)", who, clients.Limited))
		}
	}
}
