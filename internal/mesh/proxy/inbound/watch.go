package inbound

import (
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
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
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

// subscribe runs one stream to its end and tells whether a message came.
func (s *store) subscribe(ctx context.Context, c *cell) (received bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.watch.lifetime)
	defer cancel()
	// The stream itself has no time-out per message: cancelling it is one.
	quiet := time.AfterFunc(s.cfg.watch.firstMessage, cancel)
	defer quiet.Stop()
	defer c.watched.Store(false)
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
		received = true
		quiet.Reset(s.cfg.watch.idle)
		s.apply(c, msg)
		c.watched.Store(true)
	}
}

// apply brings a message into force. Of one that cannot be understood nothing is
// taken: the last good policy stays (W-22), and without one everything is
// refused; or, in dialect linkerd, everything is denied from now on (N-09).
func (s *store) apply(c *cell, msg *pb.Server) {
	port, err := policy.Parse(msg, s.cfg.Dialect, c.current.Load().port)
	if err != nil {
		s.cfg.Metrics.policyInvalid.Inc()
		kept := !s.cfg.Dialect.InvalidDenies
		s.cfg.Logger.Warn("Server misconfigured", "port", c.number, "error", err, "policy.kept", kept)
		if kept {
			return
		}
		if port, err = policy.InvalidPort(msg, s.cfg.Timeouts.Detect, s.cfg.Dialect); err != nil {
			return // it cannot even be named; the policy in force stays
		}
	}
	if c.put(port) {
		s.cfg.Metrics.policyUpdates.Inc()
		s.cfg.Logger.Debug("policy in force", "port", c.number, "hash", port.Hash,
			"server.kind", port.Server.Kind, "server.name", port.Server.Name, "protocol", port.Protocol.String())
	}
}
