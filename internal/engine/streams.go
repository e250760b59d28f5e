package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/scenarios"
)

// streamRun is a stream of calls with the answers so far. Several claims may
// judge one stream at a time, each under mu.
type streamRun struct {
	mu      sync.Mutex
	client  client
	name    string
	seq     int64
	answers []control.Numbered
	missed  int64
	dropped int64
	stopped bool
}

func (s *scenarioRun) start(ctx context.Context, a *scenarios.Stream) (string, error) {
	line := fmt.Sprintf("start stream %s: %s calls %s over %s at %v/s", a.Name, a.Client, a.Target, a.Protocol, a.Rate)
	request, from, err := s.request(ctx, &a.Request, "")
	if err != nil {
		return line, err
	}
	stream := &streamRun{client: from, name: s.res.Name + "-" + a.Name}
	request.ID = stream.name
	if err := from.agent.StartStream(ctx, control.StreamSpec{Name: stream.name, Request: request, Rate: a.Rate}); err != nil {
		return line, err
	}
	s.streams[a.Name] = stream
	// The stream flows before the next action: one answer is awaited.
	return line, stream.read(ctx, callTimeout)
}

// read takes over the answers that have come; with a wait it waits for the
// first of them.
func (r *streamRun) read(ctx context.Context, wait time.Duration) error {
	page, err := r.client.agent.Stream(ctx, r.name, r.seq, wait)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", r.name, err)
	}
	r.take(page)
	return nil
}

func (r *streamRun) take(page control.StreamPage) {
	r.answers = append(r.answers, page.Outcomes...)
	for _, one := range page.Outcomes {
		r.seq = max(r.seq, one.Seq)
	}
	r.missed, r.dropped = page.Missed, r.dropped+page.Dropped
}

func (r *streamRun) stop(ctx context.Context) error {
	page, err := r.client.agent.StopStream(ctx, r.name, r.seq)
	if err != nil {
		return fmt.Errorf("stop stream %s: %w", r.name, err)
	}
	r.take(page)
	r.stopped = true
	return nil
}

// positions are how many calls each running stream has made.
func (s *scenarioRun) positions(ctx context.Context) map[string]int64 {
	out := map[string]int64{}
	for name, stream := range s.streams {
		stream.mu.Lock()
		if !stream.stopped {
			_ = stream.read(ctx, 0)
		}
		out[name] = stream.lastCall()
		stream.mu.Unlock()
	}
	return out
}

func (r *streamRun) lastCall() int64 {
	last := int64(0)
	for _, one := range r.answers {
		last = max(last, one.Call)
	}
	return last
}

// heldRun is a connection that is held open.
type heldRun struct {
	client client
	name   string
	target scenarios.Target
	spec   *scenarios.Hold
	state  clients.HeldState
	// address is what was dialled, and pod namespace/name of the one that it leads
	// to, where there was only one.
	address, pod string
}

func (s *scenarioRun) hold(ctx context.Context, a *scenarios.Hold) (string, error) {
	line := fmt.Sprintf("hold connection %s: %s to %s over %s", a.Name, a.Client, a.Target, a.Protocol)
	request, from, err := s.request(ctx, &a.Request, "")
	if err != nil {
		return line, err
	}
	held := &heldRun{client: from, name: s.res.Name + "-" + a.Name, spec: a, address: request.Address}
	held.target, _ = s.planned.Target(a.Target, a.Protocol)
	if pods := s.componentPods(held.target.Component); len(pods) == 1 {
		held.pod = nameOf(pods[0]).String()
	}
	held.state, err = from.agent.OpenConnection(ctx, control.ConnectionSpec{Name: held.name, Request: request, Interval: a.Every})
	if err != nil {
		return line, err
	}
	s.held[a.Name] = held
	if !held.state.Open || held.state.EchoesReceived == 0 {
		return line, fmt.Errorf("the connection did not come about: %s %s", held.state.How, held.state.Message)
	}
	return line, nil
}
