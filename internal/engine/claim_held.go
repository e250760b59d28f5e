package engine

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/scenarios"
)

// judgeHeld watches a held connection for as long as its claim needs, and holds
// what it sees against the rules too.
func (s *scenarioRun) judgeHeld(ctx context.Context, claim *scenarios.PlannedClaim, base *baseline) verdict {
	c := claim.Claim.Held
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
	// The request that was under way at the beginning is not the next one.
	enough := func() bool {
		return state.EchoesReceived > before.EchoesReceived && (len(c.Next) == 0 || state.Answered >= before.Answered+2)
	}
	for late := time.Now().Add(echoBudget); c.State == scenarios.Open && state.Open && !enough() && time.Now().Before(late); {
		if state, err = held.client.agent.Connection(ctx, held.name, pollInterval); err != nil {
			return unsure("its state cannot be read: %v", err)
		}
	}
	v := compareHeld(c, held.spec.Protocol, before, state, s.terminations(ctx, held, state, base), wait)
	if v.outcome == result.Inconclusive || claim.Claim.NoOracle != "" || held.spec.Protocol == scenarios.GRPCStream {
		return v // a stream that has begun goes on, whatever the rules say of the next
	}
	if held.spec.Protocol.Repeats() && (len(c.Next) == 0 || state.Last == nil) {
		return v
	}
	return s.ruleHeld(ctx, claim, held, state, base, v)
}

// compareHeld holds the state of a connection, before and after it was watched
// for some time, against what is written. ended are the proxy's records of having
// ended it.
func compareHeld(c *scenarios.HeldClaim, protocol scenarios.Protocol, before, state clients.HeldState, ended []string, wait time.Duration) verdict {
	v := verdict{outcome: result.Passed, expected: string(c.State), samples: int(state.EchoesReceived)}
	v.observed = "open, and echoing"
	if !state.Open {
		v.observed = fmt.Sprintf("%s after %d echoes", state.How, state.EchoesReceived)
	}
	if len(c.Next) > 0 {
		v.expected += ", and the next request " + c.Next.String()
	}
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
	if len(c.Next) == 0 {
		return v
	}
	if state.Last == nil || state.Answered < before.Answered+2 {
		v.outcome, v.reason = result.Inconclusive, fmt.Sprintf("no further request on the connection was answered within %s", wait+echoBudget)
		return v
	}
	v.call = state.Last
	v.observed = "open, and the next request " + saw(*state.Last)
	if !slices.Contains(c.Next.Kinds(protocol), state.Last.Kind) {
		return failing(v, "expected the next request on the connection to be %s, observed %s", c.Next, lines(saw(*state.Last), state.Last.Message))
	}
	return v
}

// ruleHeld asks the rules about a connection, or about its next request where it
// carries one after the other.
func (s *scenarioRun) ruleHeld(ctx context.Context, claim *scenarios.PlannedClaim, held *heldRun, state clients.HeldState, base *baseline, v verdict) verdict {
	pods := s.componentPods(held.target.Component)
	at := slices.IndexFunc(pods, ready)
	if at < 0 {
		return unsure("the rules could not be asked: %s has no pod that is ready", held.target.Component)
	}
	q, err := s.question(claim, &held.spec.Request, held.client, pods[at], held.target.Port)
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	if held.spec.Protocol.Repeats() {
		q.Form, q.Observed = history.Call, history.Observed{Kind: state.Last.Kind, HTTPStatus: state.Last.HTTPStatus}
	} else {
		q.Form, q.Observed = history.Held, history.Observed{Kind: clients.Closed}
		if state.Open {
			q.Observed.Kind = clients.Allowed
		}
	}
	world, rules, err := base.world.of(ctx, s, pods[at])
	if err != nil {
		return unsure("the rules could not be asked: %v", err)
	}
	said := rules.Judge(pods[at], q.Port, q.Client, q.Request)
	if contrary := heldContrary(claim.Claim.Held, said, q); contrary != "" {
		v = failing(v, "the expectation contradicts the rule book: %s; observed %s", contrary, v.observed)
		v.details = append(v.details, chain(said)...)
	} else if differences := history.Differences(said, q, rules.Dialect); len(differences) > 0 {
		v = failing(v, "%s", strings.Join(append([]string{v.reason}, differences...), "; "))
		v.reason = strings.TrimPrefix(v.reason, "; ")
		v.details = append(v.details, chain(said)...)
	}
	if err := s.e.history.Add(world, q); err != nil && v.outcome == result.Passed {
		return unsure("%v", err)
	}
	return v
}

// heldContrary says how what is written and the rules disagree, whatever was
// observed; empty when they do not.
func heldContrary(c *scenarios.HeldClaim, said oracle.Verdict, q *history.Question) string {
	if q.Form == history.Held {
		if said.Allowed() != (c.State == scenarios.Open) {
			return fmt.Sprintf("the connection is expected to be %s, and by the rules it is %s", c.State, said.Outcome)
		}
		return ""
	}
	fits := func(kind clients.Kind) bool { return asked.CanBe(kind, said, q.Client, q.Request.Protocol) }
	if !slices.ContainsFunc(c.Next.Kinds(scenarios.Protocol(q.Request.Protocol)), fits) {
		return fmt.Sprintf("the next request is expected to be %s, and by the rules it is %s", c.Next, said.Outcome)
	}
	return ""
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
