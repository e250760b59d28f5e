package inbound

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// L-05, the durations themselves.
func TestTheLimitsOfAWatchAreTheRuleBooks(t *testing.T) {
	got := defaultWatchLimits
	if got.firstMessage != 3*time.Second || got.idle != 5*time.Minute || got.lifetime != time.Hour {
		t.Errorf("limits of a stream: %+v", got)
	}
}

// L-06: from 100 ms on each wait doubles, up to the longest, a tenth more or less.
func TestWaitsBetweenAttemptsGrowToALimit(t *testing.T) {
	l := defaultWatchLimits
	for n, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		want *= time.Millisecond
		for chance, part := range map[float64]float64{0: 0.9, 0.5: 1, 1: 1.1} {
			if got := l.retryWait(n, chance); got != time.Duration(float64(want)*part) {
				t.Errorf("wait %d with chance %v: %v, want %v", n, chance, got, time.Duration(float64(want)*part))
			}
		}
	}
	const ruleMax = 60 * time.Second
	if got := l.retryWait(1000, 1); got > ruleMax {
		t.Errorf("after a long outage: %v, and the rule has %v at most", got, ruleMax)
	}
}

// script is a controller whose streams behave as a test says, one after the other.
type script struct {
	pb.InboundServerPoliciesClient
	mu      sync.Mutex
	streams []func(context.Context) *scripted
	begun   []time.Time
	// asked are the questions, and least what they ask to be as new as.
	asked []*pb.PortSpec
	least []string
}

// scripted is one stream: what it sends, and how it ends; with neither it is
// silent until it is cancelled.
type scripted struct {
	grpc.ServerStreamingClient[pb.Server]
	ctx      context.Context
	messages []*pb.Server
	// every is how often the last message comes again.
	every time.Duration
	last  *pb.Server
	end   error
	// void are the kinds in the header.
	void []string
}

func (s *scripted) Header() (metadata.MD, error) {
	if s.void == nil {
		return metadata.MD{}, nil
	}
	return metadata.Pairs(revision.VoidKey, revision.Kinds(s.void)), nil
}

func (s *script) WatchPort(ctx context.Context, spec *pb.PortSpec, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.Server], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.begun)
	s.begun, s.asked = append(s.begun, time.Now()), append(s.asked, spec)
	sent, _ := metadata.FromOutgoingContext(ctx)
	s.least = append(s.least, strings.Join(sent.Get(revision.LeastKey), " and "))
	if n >= len(s.streams) {
		n = len(s.streams) - 1
	}
	stream := s.streams[n](ctx)
	stream.ctx = ctx
	return stream, nil
}

func (s *scripted) Recv() (*pb.Server, error) {
	if len(s.messages) > 0 {
		msg := s.messages[0]
		s.messages, s.last = s.messages[1:], msg
		return msg, nil
	}
	if s.end != nil {
		return nil, s.end
	}
	if s.every > 0 {
		select {
		case <-time.After(s.every):
			return s.last, nil
		case <-s.ctx.Done():
		}
	}
	<-s.ctx.Done()
	return nil, status.FromContextError(s.ctx.Err()).Err()
}

// watching runs the watch of a port against the script for so long, which takes
// no time, and returns what is then in force.
func watching(t *testing.T, s *script, long time.Duration) (snap *snapshot) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		st := newStore(Config{Policies: s, Workload: "apps:app-0", Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
			Timeouts: Timeouts{PortIdle: DefaultPortIdle}, watch: defaultWatchLimits})
		c, err := st.acquire(80)
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(long)
		synctest.Wait()
		snap = c.current.Load()
		st.release(c)
		st.close()
	})
	return snap
}

// L-05: a stream that brings no first message, falls silent or grows old is given
// up for another one, and what was in force stays so.
func TestAStreamThatIsSilentOrOldIsGivenUpForAnother(t *testing.T) {
	msg := server(opaque(), anyone(t, "all"))
	silent := func(context.Context) *scripted { return &scripted{} }
	once := func(context.Context) *scripted { return &scripted{messages: []*pb.Server{msg}} }
	lively := func(ctx context.Context) *scripted { return &scripted{messages: []*pb.Server{msg}, every: time.Minute} }
	for _, row := range []struct {
		name  string
		first func(context.Context) *scripted
		after time.Duration
		kept  bool
	}{
		{"no first message", silent, 3 * time.Second, false},
		{"silent after one", once, 5 * time.Minute, true},
		{"old", lively, time.Hour, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &script{streams: []func(context.Context) *scripted{row.first, silent}}
			snap := watching(t, s, row.after+time.Second)
			if len(s.begun) != 2 {
				t.Fatalf("%d streams", len(s.begun))
			}
			least, most := row.after, row.after+time.Duration(float64(defaultWatchLimits.retryMin)*(1+watchJitter))
			if waited := s.begun[1].Sub(s.begun[0]); waited < least || waited > most {
				t.Errorf("another one after %v, want between %v and %v", waited, least, most)
			}
			if row.kept != (snap.port != nil) {
				t.Errorf("in force: %+v", snap)
			}
			for _, spec := range s.asked {
				if spec.Port != 80 || spec.Workload != "apps:app-0" {
					t.Errorf("asked for %v", spec)
				}
			}
		})
	}
}

// L-06: each failure makes the next wait longer, and a message ends the series.
func TestAMessageEndsASeriesOfFailures(t *testing.T) {
	failing := func(context.Context) *scripted { return &scripted{end: status.Error(codes.Unavailable, "no")} }
	speaking := func(context.Context) *scripted {
		return &scripted{messages: []*pb.Server{server(opaque(), anyone(t, "all"))}, end: status.Error(codes.Unavailable, "gone")}
	}
	s := &script{streams: []func(context.Context) *scripted{failing, failing, failing, failing, speaking, failing}}
	watching(t, s, 10*time.Second)
	if len(s.begun) < 7 {
		t.Fatalf("%d streams", len(s.begun))
	}
	for i, failures := range []int{0, 1, 2, 3, 0, 1} {
		waited := s.begun[i+1].Sub(s.begun[i])
		if least, most := defaultWatchLimits.retryWait(failures, 0), defaultWatchLimits.retryWait(failures, 1); waited < least || waited > most {
			t.Errorf("wait %d is %v, want between %v and %v", i, waited, least, most)
		}
	}
}

func TestAPortIsWatchedWhileTheControllerTellsOfIt(t *testing.T) {
	msg := server(opaque(), anyone(t, "all"))
	for _, row := range []struct {
		name    string
		stream  scripted
		watched bool
	}{
		{"told", scripted{messages: []*pb.Server{msg}}, true},
		{"not told yet", scripted{}, false},
		{"cut after a message", scripted{messages: []*pb.Server{msg}, end: status.Error(codes.Unavailable, "gone")}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(*testing.T) {
				s := &script{streams: []func(context.Context) *scripted{func(context.Context) *scripted { again := row.stream; return &again }}}
				st := newStore(Config{Policies: s, Workload: "apps:app-0", Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
					Timeouts: Timeouts{PortIdle: DefaultPortIdle}, watch: defaultWatchLimits})
				c, err := st.acquire(80)
				if err != nil {
					t.Error(err)
					return
				}
				synctest.Wait()
				if view, _ := c.view(); view.Watched != row.watched {
					t.Errorf("watched: %v, want %v", view.Watched, row.watched)
				}
				st.release(c)
				st.close()
			})
		})
	}
}

// L-07, as far as nobody outside can see it: the question is not asked again, and
// the policy in force stays.
func TestARefusedQuestionIsNotAskedAgain(t *testing.T) {
	for _, code := range []codes.Code{codes.InvalidArgument, codes.FailedPrecondition} {
		msg := server(opaque(), anyone(t, "all"))
		s := &script{streams: []func(context.Context) *scripted{
			func(context.Context) *scripted {
				return &scripted{messages: []*pb.Server{msg}, end: status.Error(code, fmt.Sprint(code))}
			},
		}}
		limits := defaultWatchLimits
		limits.retryMin = time.Millisecond
		st := newStore(Config{Policies: s, Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), watch: limits})
		c := newCell(80, nil)
		st.watch(t.Context(), c) // returns by itself
		if snap := c.current.Load(); len(s.begun) != 1 || snap.port == nil || snap.port.Protocol != policy.Opaque {
			t.Errorf("%v: asked %d times, in force %+v", code, len(s.begun), snap)
		}
	}
}
