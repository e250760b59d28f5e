package engine

import (
	"testing"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/oracle"
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

func TestAHeldClaimThatTheRulesExcludeContradictsThem(t *testing.T) {
	for _, test := range []struct {
		form     history.Form
		claim    scenarios.HeldClaim
		said     oracle.Outcome
		contrary bool
	}{
		{history.Held, scenarios.HeldClaim{State: scenarios.Open}, oracle.Delivered, false},
		{history.Held, scenarios.HeldClaim{State: scenarios.Open}, oracle.Closed, true},
		{history.Held, scenarios.HeldClaim{State: scenarios.Cut}, oracle.Closed, false},
		{history.Held, scenarios.HeldClaim{State: scenarios.Cut}, oracle.Delivered, true},
		{history.Call, scenarios.HeldClaim{State: scenarios.Open, Next: scenarios.Expect{scenarios.Denied}}, oracle.Forbidden, false},
		{history.Call, scenarios.HeldClaim{State: scenarios.Open, Next: scenarios.Expect{scenarios.Denied}}, oracle.Delivered, true},
		{history.Call, scenarios.HeldClaim{State: scenarios.Open, Next: scenarios.Expect{"allowed"}}, oracle.Forbidden, true},
	} {
		q := &history.Question{Form: test.form, Request: oracle.Request{Protocol: oracle.HTTP1}}
		if got := heldContrary(&test.claim, oracle.Verdict{Outcome: test.said}, q); (got != "") != test.contrary {
			t.Errorf("%+v and %s: got %q", test.claim, test.said, got)
		}
	}
}
