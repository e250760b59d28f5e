package inbound

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// replica is a stream of a controller: what it tells, each "POLICY revision", and
// then its end.
type replica struct {
	tells []string
	// void are the kinds of its header.
	void []string
}

// told makes a policy that has the name, of a revision; "-" for none.
func told(t *testing.T, text string) *pb.Server {
	t.Helper()
	name, of, _ := strings.Cut(text, " ")
	msg := proto.Clone(server(opaque(), anyone(t, "all"))).(*pb.Server)
	msg.Labels = map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": name}
	if of != "-" {
		msg.Labels[revision.Label] = of
	}
	return msg
}

// plane is a watch of one port through a series of replicas.
type plane struct {
	script
	store   *store
	cell    *cell
	metrics *Metrics
}

// through watches until each replica had its turn. The last one stays.
func through(t *testing.T, replicas ...replica) (force string, p *plane) {
	t.Helper()
	p = &plane{metrics: NewMetrics(prometheus.NewRegistry())}
	for i, r := range replicas {
		p.streams = append(p.streams, func(context.Context) *scripted {
			s := &scripted{void: r.void}
			for _, text := range r.tells {
				s.messages = append(s.messages, told(t, text))
			}
			if i < len(replicas)-1 {
				s.end = status.Error(codes.Unavailable, "the replica goes")
			}
			return s
		})
	}
	synctest.Test(t, func(*testing.T) {
		p.store = newStore(Config{Policies: &p.script, Workload: "apps:app-0", Logger: slog.New(slog.DiscardHandler), Metrics: p.metrics,
			Timeouts: Timeouts{PortIdle: DefaultPortIdle}, watch: defaultWatchLimits})
		c, err := p.store.acquire(80)
		if err != nil {
			t.Error(err)
			return
		}
		p.cell = c
		for len(p.begins()) < len(replicas) {
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if snap := c.current.Load(); snap.port != nil {
			force = snap.port.Server.Name
		}
		p.store.release(c)
		p.store.close()
	})
	return force, p
}

func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func (s *script) begins() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.begun)
}

// Abuse case 80.
func TestNoReplicaTakesBackWhatWasInForce(t *testing.T) {
	for _, row := range []struct {
		name     string
		replicas []replica
		want     string
		older    float64
	}{
		{"an older cache", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=99,b=90"}}}, "closed", 1},
		{"older in one kind, newer in another", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=110,b=50"}}}, "closed", 1},
		{"and on one stream", []replica{{tells: []string{"closed a=100,b=90", "open a=110,b=50"}}}, "closed", 1},
		{"a cache that lacks a kind", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=110"}}}, "closed", 1},
		{"one as new", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=100,b=90"}}}, "open", 0},
		{"one that is complete to there", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=70-120,b=60-91"}}}, "open", 0},
		{"one that was complete to beyond", []replica{{tells: []string{"closed a=60-100,b=90"}}, {tells: []string{"open a=60-70,b=90"}}}, "open", 0},
		{"one that catches up on its stream is heard on the next", []replica{{tells: []string{"closed a=100"}}, {tells: []string{"open a=99", "newer a=101"}}, {tells: []string{"newer a=101"}}}, "newer", 1},
		{"the same content, once it is as new", []replica{{tells: []string{"closed a=100"}}, {tells: []string{"open a=99"}}, {tells: []string{"open a=101"}}}, "open", 1},
		{"one that says no revision is believed", []replica{{tells: []string{"closed a=100"}}, {tells: []string{"open -"}}}, "open", 0},
		{"and what was before it counts still", []replica{{tells: []string{"closed a=100"}}, {tells: []string{"open -"}}, {tells: []string{"older a=99"}}}, "open", 1},
		{"the same policy of a later revision", []replica{{tells: []string{"closed a=100", "closed a=120"}}, {tells: []string{"open a=110"}}}, "closed", 1},
		{"a message that is not understood moves nothing", []replica{{tells: []string{"closed a=100", "open a=x", "open a=120-110", "open ", "newer a=105"}}}, "newer", 0},
		{"a cluster that was set back", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=50,b=50"}, void: []string{"a", "b"}}}, "open", 0},
		{"and goes on from there", []replica{{tells: []string{"closed a=100"}}, {tells: []string{"open a=50"}, void: []string{"a"}}, {tells: []string{"older a=49"}}}, "open", 1},
		{"one kind's history does not void another's", []replica{{tells: []string{"closed a=100,b=90"}}, {tells: []string{"open a=50,b=50"}, void: []string{"a"}}}, "closed", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			force, p := through(t, row.replicas...)
			if force != row.want {
				t.Errorf("in force is %q, want %q", force, row.want)
			}
			// The last stream is tried again and again while it is turned down.
			if older := counted(t, p.metrics.policyOlder); (older > 0) != (row.older > 0) {
				t.Errorf("%v messages were counted as older", older)
			}
		})
	}
}

// The controller can only wait until it is as new when it knows as new as what.
func TestAReplicaIsToldWhatItMustBeAsNewAs(t *testing.T) {
	_, p := through(t, replica{tells: []string{"x a=10-100,b=90"}}, replica{tells: []string{"y a=20-100,b=80-95,c=1"}}, replica{tells: []string{"y -"}}, replica{})
	if want := []string{"", "a=10,b=90", "a=20,b=90,c=1", "a=20,b=90,c=1"}; !slices.Equal(p.least[:4], want) {
		t.Errorf("asked to be as new as %q, want %q", p.least, want)
	}
}

// What is told of one port bounds what is believed of another: also of one that
// nobody used any more in between.
func TestAPortThatComesBackIsNoOlderThanItWas(t *testing.T) {
	p := &script{streams: []func(context.Context) *scripted{
		func(context.Context) *scripted { return &scripted{messages: []*pb.Server{told(t, "closed a=100")}} },
		func(context.Context) *scripted { return &scripted{messages: []*pb.Server{told(t, "open a=99")}} },
	}}
	metrics := NewMetrics(prometheus.NewRegistry())
	synctest.Test(t, func(t *testing.T) {
		s := newStore(Config{Policies: p, Logger: slog.New(slog.DiscardHandler), Metrics: metrics, Timeouts: Timeouts{PortIdle: time.Second}, watch: defaultWatchLimits})
		defer s.close()
		c, err := s.acquire(80)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.release(c)
		time.Sleep(2 * time.Second)
		again, err := s.acquire(80)
		if err != nil || again == c {
			t.Fatalf("the port was not let go: %v", err)
		}
		synctest.Wait()
		if snap := again.current.Load(); snap.port != nil {
			t.Errorf("in force is %v", snap.port.Server)
		}
		s.release(again)
	})
	if counted(t, metrics.policyOlder) == 0 {
		t.Error("nothing was counted as older")
	}
}

// Equality of hashes is how a write is known to be in force: they name the policy
// alone.
func TestAPoliciesNameIsWithoutItsRevision(t *testing.T) {
	_, p := through(t, replica{tells: []string{"x a=1"}})
	want, err := policy.Hash(told(t, "x -"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.cell.current.Load().port.Hash; got != want {
		t.Errorf("the hash is %s, want that of the message without its revision, %s", got, want)
	}
}

// A series of older messages is asked about less and less often, and not for ever
// less.
func TestWhoIsTurnedDownIsAskedAgain(t *testing.T) {
	older := replica{tells: []string{"open a=99"}}
	_, p := through(t, replica{tells: []string{"closed a=100"}}, older, older, older, older, older)
	for i, failures := range []int{0, 1, 2, 3} {
		waited := p.begun[i+2].Sub(p.begun[i+1])
		if least, most := defaultWatchLimits.retryWait(failures+1, 0), defaultWatchLimits.retryWait(failures+1, 1); waited < least || waited > most {
			t.Errorf("wait %d is %v, want between %v and %v", i, waited, least, most)
		}
	}
}
