package inbound

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
	"github.com/meshproof/meshproof/internal/mesh/revision"
)

var errTooManyPorts = errors.New("too many ports in use")

// Where a policy in force came from, as the control port names it.
const (
	sourceNone       = "none"
	sourceDefault    = "default"
	sourceController = "controller"
)

// snapshot is the policy of a port at one moment. It is never changed, only
// superseded.
type snapshot struct {
	// port is nil while nothing is known.
	port   *policy.Port
	source string
	// version counts the policies of this port, from 0 for none.
	version int
	// superseded is closed when the next snapshot is in force.
	superseded chan struct{}
}

// cell is a port: its policy in force, its watch, and the open connections.
type cell struct {
	number  uint16
	current atomic.Pointer[snapshot]
	stop    context.CancelFunc
	// watched says that a stream is open on which the controller has answered.
	watched atomic.Bool

	// least is what the policy in force was computed from. Only the watch uses it.
	least revision.Least

	// mu guards sessions and orders updates.
	mu       sync.Mutex
	sessions map[*session]struct{}

	// users and idle belong to the store's mutex.
	users     int
	permanent bool
	idle      *time.Timer
}

func newCell(number uint16, fallback *policy.Port) *cell {
	c := &cell{number: number, sessions: map[*session]struct{}{}}
	first := &snapshot{source: sourceNone, superseded: make(chan struct{})}
	if fallback != nil {
		first.port, first.source = fallback, sourceDefault
	}
	c.current.Store(first)
	return c
}

func (c *cell) add(sess *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sessions[sess] = struct{}{}
}

func (c *cell) remove(sess *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, sess)
}

// put brings a policy into force and rechecks the open connections. The same
// message again changes nothing.
func (c *cell) put(port *policy.Port) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.current.Load()
	if old.source == sourceController && old.port.Hash == port.Hash {
		return false
	}
	next := &snapshot{port: port, source: sourceController, version: old.version + 1, superseded: make(chan struct{})}
	c.current.Store(next)
	close(old.superseded)
	for sess := range c.sessions {
		sess.recheck(next)
	}
	return true
}

// await returns the policy in force, waiting for the first one up to d. nil means that there is none still.
func (c *cell) await(ctx context.Context, d time.Duration) *snapshot {
	snap := c.current.Load()
	if snap.port != nil {
		return snap
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-snap.superseded:
		return c.current.Load()
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// store holds the cells of all ports in use.
type store struct {
	cfg Config

	// ctx is that of all watches; stop ends it.
	ctx  context.Context
	stop context.CancelFunc

	mu    sync.Mutex
	cells map[uint16]*cell
	lazy  int
	// newest is the highest of what any port's policies were computed from, also of
	// ports that nobody uses any more.
	newest revision.Least

	watches sync.WaitGroup
}

func newStore(cfg Config) *store {
	s := &store{cfg: cfg, cells: map[uint16]*cell{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// least is what a policy for the port must be as new as.
func (s *store) least(c *cell) revision.Least {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.With(c.least)
}

// hold notes what the policy in force is of; nil is a controller's that says nothing,
// which is believed whatever it says next.
func (s *store) hold(c *cell, of revision.Revision) {
	c.least = of.Least()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = s.newest.With(c.least)
}

// forget drops what the controller, in its answer's header, calls void: versions that
// the cluster does not have any more. It returns what is left of the stream's bound.
func (s *store) forget(c *cell, stream grpc.ClientStream, least revision.Least) revision.Least {
	header, err := stream.Header()
	if err != nil || len(header.Get(revision.VoidKey)) == 0 {
		return least
	}
	void := revision.ParseKinds(header.Get(revision.VoidKey)[0])
	s.cfg.Logger.Warn("the cluster was set back: versions that it does not have any more are forgotten", "port", c.number, "kinds", void)
	s.mu.Lock()
	defer s.mu.Unlock()
	// What came since the question is of the history that goes on.
	since := func(kind string) bool { return s.newest[kind] > least[kind] }
	s.newest, c.least = s.newest.Without(slices.DeleteFunc(slices.Clone(void), since)), c.least.Without(void)
	return least.Without(void)
}

// start begins the permanent watches (L-01).
func (s *store) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, port := range append([]uint16{s.cfg.AdminPort}, s.cfg.Ports...) {
		c := s.cells[port]
		if c == nil {
			c = s.open(port)
		}
		c.permanent = true
	}
}

// open makes a cell and begins its watch; s.mu is held.
func (s *store) open(port uint16) *cell {
	var fallback *policy.Port
	if s.cfg.Dialect.JudgeBeforeFirstAnswer {
		fallback = s.cfg.Default(port)
	}
	c := newCell(port, fallback)
	s.cells[port] = c
	ctx, stop := context.WithCancel(s.ctx)
	c.stop = stop
	s.watches.Go(func() { s.watch(ctx, c) })
	return c
}

// acquire returns the cell of a port; the caller releases it.
func (s *store) acquire(port uint16) (*cell, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cells[port]
	if c == nil {
		if s.lazy >= maxLazyPorts {
			return nil, errTooManyPorts
		}
		s.lazy++
		c = s.open(port)
	}
	c.users++
	if c.idle != nil {
		c.idle.Stop()
		c.idle = nil
	}
	return c, nil
}

// release lets a port that was found lazily go after its idle time.
func (s *store) release(c *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.users--
	if c.users > 0 || c.permanent {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(s.cfg.Timeouts.PortIdle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.idle != timer || c.users > 0 {
			return
		}
		c.stop()
		delete(s.cells, c.number)
		s.lazy--
	})
	c.idle = timer
}

// close ends all watches and returns when none runs any more.
func (s *store) close() {
	s.stop()
	s.watches.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.cells {
		c.stop()
		if c.idle != nil {
			c.idle.Stop()
			c.idle = nil
		}
	}
}
