package engine

import (
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

func TestAHeldConnectionIsHeldAgainstItsClaim(t *testing.T) {
	before := clients.HeldState{Open: true, EchoesReceived: 5, Answered: 5}
	open := func(answered int64, last clients.Kind) clients.HeldState {
		return clients.HeldState{Open: true, EchoesReceived: answered, Answered: answered, Last: &clients.Outcome{Kind: last, GRPCStatus: -1}}
	}
	denied := scenarios.Expect{scenarios.Denied}
	for _, test := range []struct {
		name  string
		claim scenarios.HeldClaim
		state clients.HeldState
		ended []string
		want  result.Outcome
	}{
		{"it goes on", scenarios.HeldClaim{State: scenarios.Open}, open(6, clients.Forbidden), nil, result.Passed},
		{"it is silent", scenarios.HeldClaim{State: scenarios.Open}, open(5, clients.Allowed), nil, result.Failed},
		{"it is gone", scenarios.HeldClaim{State: scenarios.Open}, clients.HeldState{How: clients.Closed}, nil, result.Failed},
		{"it is cut as claimed", scenarios.HeldClaim{State: scenarios.Cut}, clients.HeldState{How: clients.Reset}, []string{"terminate"}, result.Passed},
		{"it is cut by nobody knows whom", scenarios.HeldClaim{State: scenarios.Cut}, clients.HeldState{How: clients.Reset}, nil, result.Inconclusive},
		{"it survives its cut", scenarios.HeldClaim{State: scenarios.Cut}, open(7, clients.Allowed), nil, result.Failed},
		{"the next request is denied as claimed", scenarios.HeldClaim{State: scenarios.Open, Next: denied}, open(7, clients.Forbidden), nil, result.Passed},
		{"the next request is allowed", scenarios.HeldClaim{State: scenarios.Open, Next: denied}, open(7, clients.Allowed), nil, result.Failed},
		{"the last answer may be that of a request before", scenarios.HeldClaim{State: scenarios.Open, Next: denied}, open(6, clients.Forbidden), nil, result.Inconclusive},
	} {
		if got := compareHeld(&test.claim, scenarios.HTTP1, before, test.state, test.ended, time.Second); got.outcome != test.want {
			t.Errorf("%s: got %s (%s)", test.name, got.outcome, got.reason)
		}
	}
}
