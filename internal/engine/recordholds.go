package engine

import (
	"context"
	"time"

	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/scenarios"
)

// holds brings the recording's connections up to date: what their clients see of
// them, and whether a proxy has a record of having ended them.
func (r *recorder) holds(ctx context.Context) {
	for _, name := range sorted(r.s.held) {
		held := r.s.held[name]
		span, err := r.hold(ctx, name, held)
		if err != nil {
			continue // its client cannot be asked any more: what was known stays
		}
		r.mu.Lock()
		at := -1
		for i := range r.rec.Holds {
			if r.rec.Holds[i].Name == name {
				at = i
			}
		}
		if at < 0 {
			r.rec.Holds = append(r.rec.Holds, span)
		} else {
			r.rec.Holds[at] = span
		}
		r.mu.Unlock()
	}
}

func (r *recorder) hold(ctx context.Context, name string, held *heldRun) (history.HoldSpan, error) {
	state, err := held.client.agent.Connection(ctx, held.name, 0)
	if err != nil {
		return history.HoldSpan{}, err
	}
	at := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return r.since(held.client.clock.local(t))
	}
	span := history.HoldSpan{Name: name, ClientKind: string(held.client.Kind), Target: held.spec.Target, Protocol: string(held.spec.Protocol), Port: uint16(held.target.Port), Pod: held.pod,
		Opened: at(state.OpenedAt), LastEcho: at(state.LastEcho), Closed: at(state.ClosedAt)}
	if span.Client, err = asked.Client(held.client.Client, asked.From(&held.spec.Request, held.client.address), held.client.identity); err != nil {
		return span, err
	}
	if span.Request, err = asked.Request(&held.spec.Request, held.address); err != nil {
		return span, err
	}
	span.Request.Headers = r.s.texts(span.Request.Headers)
	if !state.Open {
		span.How = state.How
	}
	if !state.Open && held.spec.Protocol != scenarios.GRPCStream {
		span.Terminated = len(r.s.terminations(ctx, held, state, nil)) > 0
	}
	return span, nil
}
