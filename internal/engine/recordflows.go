package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/internal/history"
	"github.com/meshproof/meshproof/internal/policy/asked"
	"github.com/meshproof/meshproof/scenarios"
)

// unplaced is a request that waits for its records.
type unplaced struct {
	// place among the requests.
	place int
	flow  *flow
	// local is the client's side of the connection.
	local string
}

// flow is a stream of spec.traffic.
type flow struct {
	place  int
	name   string
	spec   *scenarios.Stream
	target scenarios.Target
	from   client

	mu sync.Mutex
	// seq is the last answer that was read; sent, answered, missed and lost count
	// calls, as of asked.
	seq, sent, answered, missed, lost int64
	asked                             time.Time
	stopped                           bool
}

// flow starts one stream, out of step with the others; await says when it flows.
func (r *recorder) flow(ctx context.Context, spec *scenarios.Stream, of int) error {
	s := r.s
	request, from, err := s.request(ctx, &spec.Request, "")
	if err != nil {
		return err
	}
	f := &flow{place: len(r.flows), name: s.res.Name + "-" + spec.Name, spec: spec, from: from}
	f.target, _ = s.planned.Target(spec.Target, spec.Protocol)
	request.ID, request.Keep = s.e.short()+"-"+f.name, false
	one := history.Stream{Name: spec.Name, ClientKind: string(from.Kind), Target: spec.Target, Protocol: string(spec.Protocol), Connection: string(spec.Connection),
		Port: uint16(f.target.Port), Rate: spec.Rate, ID: request.ID}
	if one.Connection == "" {
		one.Connection = string(scenarios.Fresh)
	}
	if one.Client, err = asked.Client(from.Client, asked.From(&spec.Request, from.address), from.identity); err != nil {
		return err
	}
	if one.Request, err = asked.Request(&spec.Request, request.Address); err != nil {
		return err
	}
	one.Request.Headers = s.texts(one.Request.Headers)
	spacing := time.Duration(float64(time.Second) / spec.Rate)
	if err := from.agent.StartStream(ctx, control.StreamSpec{Name: f.name, Request: request, Rate: spec.Rate, Phase: spacing * time.Duration(f.place) / time.Duration(of)}); err != nil {
		return err
	}
	if s.claimsAbout(spec.Name) {
		// They keep books of their own.
		s.streams[spec.Name] = &streamRun{client: from, name: f.name}
	}
	r.flows = append(r.flows, f)
	r.rec.Streams = append(r.rec.Streams, one)
	return nil
}

// claimsAbout says whether a claim judges the stream's calls by itself.
func (s *scenarioRun) claimsAbout(stream string) bool {
	for _, step := range s.planned.Steps {
		for _, claim := range step.Claims {
			if claim.Claim.Traffic != nil && claim.Claim.Traffic.Stream == stream {
				return true
			}
		}
	}
	return false
}

// take reads what streams have answered, with one question to each agent however many
// of them it has; with a wait it waits for an answer of each.
func (r *recorder) take(ctx context.Context, flows []*flow, wait time.Duration) error {
	group := newGroup()
	for agent, theirs := range byAgent(flows) {
		group.do(func() error {
			err := r.takeFrom(theirs, func(since map[string]int64) ([]control.StreamPage, error) { return agent.Streams(ctx, since, wait) })
			if err != nil {
				return fmt.Errorf("read streams: %w", err)
			}
			return nil
		})
	}
	return group.wait()
}

// byAgent tells whose streams they are, each agent's in the order of their places.
func byAgent(flows []*flow) map[*control.Client][]*flow {
	out := map[*control.Client][]*flow{}
	for _, f := range flows {
		out[f.from.agent] = append(out[f.from.agent], f)
	}
	return out
}

// takeFrom reads the streams of one agent by what asks for the pages after their last
// answers. Their locks are taken in the order of their places, so that two who read
// some of them do not wait for each other.
func (r *recorder) takeFrom(flows []*flow, pages func(since map[string]int64) ([]control.StreamPage, error)) error {
	since, left := map[string]int64{}, map[string]*flow{}
	for _, f := range flows {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.stopped {
			since[f.name], left[f.name] = f.seq, f
		}
	}
	if len(since) == 0 {
		return nil
	}
	asked := time.Now()
	got, err := pages(since)
	if err != nil {
		return err
	}
	for _, page := range got {
		if f := left[page.Name]; f != nil {
			r.took(f, page, asked)
			delete(left, page.Name)
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("the agent has no stream %s", strings.Join(sorted(left), ", "))
	}
	return nil
}

// endStreams ends all streams, and takes what they were answered last.
func (r *recorder) endStreams(ctx context.Context) error {
	group := newGroup()
	for agent, theirs := range byAgent(r.flows) {
		group.do(func() error {
			err := r.takeFrom(theirs, func(since map[string]int64) ([]control.StreamPage, error) { return agent.StopStreams(ctx, since) })
			if err != nil {
				return fmt.Errorf("stop streams: %w", err)
			}
			for _, f := range theirs {
				f.mu.Lock()
				f.stopped = true
				f.mu.Unlock()
				if shared := r.s.streams[f.spec.Name]; shared != nil {
					shared.mu.Lock()
					shared.stopped = true
					shared.mu.Unlock()
				}
			}
			return nil
		})
	}
	return group.wait()
}

// took makes requests of answers, for which nobody has been found yet who gave
// them.
func (r *recorder) took(f *flow, page control.StreamPage, asked time.Time) {
	f.sent, f.missed, f.asked = page.Sent, page.Missed, asked
	f.lost += page.Dropped
	f.answered += int64(len(page.Outcomes))
	f.seq = max(f.seq, page.Last)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[f.place] = r.begun[f.place][:0]
	for _, began := range page.UnderWay {
		r.begun[f.place] = append(r.begun[f.place], r.since(f.from.clock.local(began)))
	}
	stream := &r.rec.Streams[f.place]
	stream.Sent, stream.Missed, stream.Lost = f.sent, f.missed, f.lost
	for _, one := range page.Outcomes {
		o := one.Outcome
		r.unplaced = append(r.unplaced, unplaced{place: len(r.rec.Requests), flow: f, local: o.LocalAddr})
		r.rec.Requests = append(r.rec.Requests, history.Request{Stream: f.place, Call: one.Call, Start: r.since(f.from.clock.local(o.Start)), End: r.since(f.from.clock.local(o.End)),
			Kind: o.Kind, HTTPStatus: o.HTTPStatus, GRPCStatus: o.GRPCStatus, Delivered: unknown, ID: stream.CallID(one.Call)})
	}
}
