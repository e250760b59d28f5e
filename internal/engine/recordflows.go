package engine

import (
	"context"
	"fmt"
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

// flow starts one stream, out of step with the others.
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
	// The stream flows before the first step: one answer is awaited.
	return r.take(ctx, f, callTimeout)
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

// take reads what a stream has answered; with a wait it waits for an answer.
func (r *recorder) take(ctx context.Context, f *flow, wait time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil
	}
	asked := time.Now()
	page, err := f.from.agent.Stream(ctx, f.name, f.seq, wait)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", f.spec.Name, err)
	}
	r.took(f, page, asked)
	return nil
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
