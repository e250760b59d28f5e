package inbound

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// watchLimits are the durations of a watch.
type watchLimits struct {
	// The stream (L-05): after each of them the port is subscribed again, and the
	// last policy stays in force meanwhile.
	firstMessage, idle, lifetime time.Duration
	// Waits between attempts (L-06).
	retryMin, retryMax time.Duration
}

// defaultWatchLimits are the rule's, but for the longest wait: of the 60 s that
// it allows ten are taken, which bound how long a returned controller goes
// unnoticed.
var defaultWatchLimits = watchLimits{
	firstMessage: 3 * time.Second, idle: 5 * time.Minute, lifetime: time.Hour,
	retryMin: 100 * time.Millisecond, retryMax: 10 * time.Second,
}

// watchJitter is the part of a wait by which it may differ.
const watchJitter = 0.1

// retryWait is the n-th wait in a row from 0; chance is from 0 to 1.
func (l watchLimits) retryWait(n int, chance float64) time.Duration {
	wait := l.retryMin
	for range n {
		if wait = min(2*wait, l.retryMax); wait == l.retryMax {
			break
		}
	}
	return time.Duration(float64(wait) * (1 + watchJitter*(2*chance-1)))
}

// watch keeps the cell's policy current until ctx ends.
func (s *store) watch(ctx context.Context, c *cell) {
	if s.cfg.PoliciesReady != nil {
		select {
		case <-s.cfg.PoliciesReady:
		case <-ctx.Done():
			return
		}
	}
	log := s.cfg.Logger.With("port", c.number)
	for failures := 0; ; failures++ {
		received, err := s.subscribe(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if received {
			failures = 0
		}
		switch status.Code(err) {
		case codes.InvalidArgument, codes.FailedPrecondition:
			// The controller will not answer otherwise to the same question (L-07).
			log.Error("policy watch refused for good, the policy in force stays", "error", err)
			return
		}
		wait := s.cfg.watch.retryWait(failures, rand.Float64())
		level := slog.LevelDebug
		if failures == 0 && err != nil { // the first of a series
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "policy watch ended, the policy in force stays", "error", err, "retry", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// errOlder ends a stream on which a policy came that is older than one that was in
// force: the next one begins with what the controller has by then.
var errOlder = errors.New("the controller tells an older policy than was in force")

// subscribe runs one stream to its end and tells whether a message came that was not
// older than it may be.
//
// What the proxy was told for any port bounds what it takes for this one, from
// whichever controller it comes. The bound is that of the stream's beginning, which
// the controller is told: other ports' streams go on at their own pace, and what is
// newer there makes nothing older here. See package revision.
func (s *store) subscribe(ctx context.Context, c *cell) (received bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.watch.lifetime)
	defer cancel()
	// The stream itself has no time-out per message: cancelling it is one.
	quiet := time.AfterFunc(s.cfg.watch.firstMessage, cancel)
	defer quiet.Stop()
	defer c.watched.Store(false)
	least := s.least(c)
	if len(least) > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, revision.LeastKey, least.String())
	}
	stream, err := s.cfg.Policies.WatchPort(ctx, &pb.PortSpec{Workload: s.cfg.Workload, Port: uint32(c.number)}, grpc.WaitForReady(true))
	if err != nil {
		return false, fmt.Errorf("watch the policy of port %d: %w", c.number, err)
	}
	for {
		msg, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return received, err
		}
		if !received {
			least = s.forget(c, stream, least)
		}
		of, err := takeRevision(msg)
		if behind := of.Behind(least.With(c.least)); err == nil && of != nil && len(behind) > 0 {
			s.cfg.Metrics.policyOlder.Inc()
			return false, fmt.Errorf("%w: of %v, port %d", errOlder, behind, c.number)
		}
		received = true
		quiet.Reset(s.cfg.watch.idle)
		if s.apply(c, msg, err) {
			s.hold(c, of)
		}
		c.watched.Store(true)
	}
}

// takeRevision takes out of a message what it says of its revision, nil when it says
// nothing, so that the rest is the policy alone.
func takeRevision(msg *pb.Server) (revision.Revision, error) {
	text, said := msg.GetLabels()[revision.Label]
	if !said {
		return nil, nil
	}
	delete(msg.Labels, revision.Label)
	of, err := revision.Parse(text)
	if err == nil && len(of) == 0 {
		err = errors.New("a revision of nothing")
	}
	return of, err
}

// apply brings a message into force, and reports whether it is. Of one that cannot be understood nothing is
// taken: the last good policy stays (W-22), and without one everything is
// refused; or, in dialect linkerd, everything is denied from now on (N-09). unclear
// is what was not understood already.
func (s *store) apply(c *cell, msg *pb.Server, unclear error) bool {
	port, err := policy.Parse(msg, s.cfg.Dialect, c.current.Load().port)
	if err = cmp.Or(unclear, err); err != nil {
		s.cfg.Metrics.policyInvalid.Inc()
		kept := !s.cfg.Dialect.InvalidDenies
		s.cfg.Logger.Warn("Server misconfigured", "port", c.number, "error", err, "policy.kept", kept)
		if kept {
			return false
		}
		if port, err = policy.InvalidPort(msg, s.cfg.Timeouts.Detect, s.cfg.Dialect); err != nil {
			return false // it cannot even be named; the policy in force stays
		}
	}
	if c.put(port) {
		s.cfg.Metrics.policyUpdates.Inc()
		s.cfg.Logger.Debug("policy in force", "port", c.number, "hash", port.Hash,
			"server.kind", port.Server.Kind, "server.name", port.Server.Name, "protocol", port.Protocol.String())
	}
	return true
}
