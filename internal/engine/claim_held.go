package engine

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// judgeHeld watches a held connection for as long as its claim needs.
func (s *scenarioRun) judgeHeld(ctx context.Context, c *scenarios.HeldClaim, base *baseline) verdict {
	held := s.held[c.Connection]
	if held == nil {
		return unsure("the connection was never opened")
	}
	wait := holdBudget
	if c.State == scenarios.Cut {
		wait = cutBudget
	}
	before, err := held.client.agent.Connection(ctx, held.name, 0)
	if err != nil {
		return unsure("its state cannot be read: %v", err)
	}
	state, err := held.client.agent.Connection(ctx, held.name, wait)
	if err != nil {
		return unsure("its state cannot be read: %v", err)
	}
	for late := time.Now().Add(echoBudget); c.State == scenarios.Open && state.Open && state.EchoesReceived <= before.EchoesReceived && time.Now().Before(late); {
		if state, err = held.client.agent.Connection(ctx, held.name, pollInterval); err != nil {
			return unsure("its state cannot be read: %v", err)
		}
	}
	v := verdict{outcome: result.Passed, expected: string(c.State), samples: int(state.EchoesReceived)}
	v.observed = "open, and echoing"
	if !state.Open {
		v.observed = fmt.Sprintf("%s after %d echoes", state.How, state.EchoesReceived)
	}
	ended := s.terminations(ctx, held, state, base)
	switch c.State {
	case scenarios.Open:
		if !state.Open {
			v.details = ended
			return failing(v, "expected the connection to survive, observed %s: %s", v.observed, state.Message)
		}
		if state.EchoesReceived <= before.EchoesReceived {
			return failing(v, "the connection is open, and no echo came back within %s", wait+echoBudget)
		}
	case scenarios.Cut:
		if state.Open {
			return failing(v, "expected the connection to be cut, and it is still open %s after the policy was in force", wait)
		}
		if state.How != clients.Closed && state.How != clients.Reset && state.How != clients.PermissionDenied {
			return failing(v, "expected the connection to be cut by the proxy, observed %s: %s", v.observed, state.Message)
		}
		if len(ended) == 0 {
			v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("observed %s, and the proxy has no record of having terminated it", v.observed)
			return v
		}
		v.witness = ended[0]
	}
	return v
}

// terminations are the proxy's records of having ended the held connection.
func (s *scenarioRun) terminations(ctx context.Context, held *heldRun, state clients.HeldState, base *baseline) []string {
	host, _, _ := net.SplitHostPort(state.LocalAddr)
	if held.client.proxied() {
		host = held.client.address.String()
	}
	var out []string
	for _, pod := range s.componentPods(held.target.Component) {
		// The record may precede the claims: the whole of what is kept counts,
		// as far as it is about this client and later than the opening.
		var answer decisions
		var err error
		there := readClock(func() (time.Time, error) {
			answer, err = s.e.decisionsSince(ctx, nameOf(pod), 0, held.target.Port)
			return answer.Now, err
		})
		opened := held.client.clock.local(state.OpenedAt).Add(-there.slack - held.client.clock.slack)
		if err != nil {
			continue
		}
		for _, d := range answer.Decisions {
			ip, _, _ := net.SplitHostPort(d.Client)
			if d.Verdict == "terminate" && ip == host && (held.client.proxied() || d.Client == state.LocalAddr) && there.local(d.Time).After(opened) {
				out = append(out, d.String())
			}
		}
	}
	return out
}
