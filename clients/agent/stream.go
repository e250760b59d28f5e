package agent

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
)

// ringSize is how many answers of one stream are kept for whoever asks: at
// 1000 calls a second, half a minute between two questions loses none.
const ringSize = 32768

// slack is how late a call may be made: what a timer on a busy machine is late by.
// At rates with several calls in that time they are made at once, after which
// the stream is in step again; what is later is missed.
const slack = 2 * time.Millisecond

// maxIdle is how many of those who make a stream's calls wait for the next one; the
// others of a time in which many calls were under way leave.
const maxIdle = 64

// stream makes calls at a fixed rate.
type stream struct {
	spec   control.StreamSpec
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	ring    []control.Numbered
	last    int64
	sent    int64
	missed  int64
	begun   map[int64]time.Time // calls that are under way
	running bool
	// changed is closed at the next change; nil while nobody waits for one.
	changed chan struct{}
}

func startStream(ctx context.Context, caller *clients.Caller, spec control.StreamSpec) *stream {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{spec: spec, cancel: cancel, done: make(chan struct{}), begun: map[int64]time.Time{}, running: true}
	go s.run(ctx, caller)
	return s
}

// run sends each call at its own time, counted from the first one's. A call
// whose time has passed by more than the spacing and slack is missed: a burst to
// catch up would test something else than what was asked for.
func (s *stream) run(ctx context.Context, caller *clients.Caller) {
	defer close(s.done)
	var calls sync.WaitGroup
	defer func() {
		calls.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running = false
		s.wake()
	}()
	slots := make(chan struct{}, s.spec.InFlight())
	// Who has made a call makes the next one, too: its stack has grown already.
	next := make(chan int64)
	defer close(next)
	var idle atomic.Int32
	work := func(call int64) {
		for ok := true; ok; idle.Add(-1) {
			// Not ctx: a call that is under way when the stream is stopped ends with
			// its own answer or its own time-out.
			s.add(call, caller.Do(context.WithoutCancel(ctx), s.request(call)))
			<-slots
			if idle.Add(1) > maxIdle {
				ok = false
				continue
			}
			call, ok = <-next
		}
	}
	spacing := time.Duration(float64(time.Second) / s.spec.Rate)
	due := time.Now().Add(s.spec.Phase)
	timer := time.NewTimer(s.spec.Phase)
	defer timer.Stop()
	for call := int64(1); call <= s.spec.Count; call++ {
		if ahead := time.Until(due); ahead > 0 {
			timer.Reset(ahead)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return
		}
		if behind := time.Since(due); behind > max(spacing, slack) {
			late := min(int64(behind/spacing), s.spec.Count-call)
			s.miss(late)
			call += late
			due = due.Add(time.Duration(late) * spacing)
		}
		select {
		case slots <- struct{}{}:
			s.mu.Lock()
			s.sent++
			s.begun[call] = time.Now()
			s.mu.Unlock()
			select {
			case next <- call:
			default:
				calls.Go(func() { work(call) })
			}
		default:
			s.miss(1)
		}
		due = due.Add(spacing)
	}
}

func (s *stream) request(call int64) clients.Request {
	request := s.spec.Request
	if request.ID == "" {
		request.ID = s.spec.Name
	}
	request.ID += "-" + strconv.FormatInt(call, 10)
	return request
}

func (s *stream) miss(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed += n
}

func (s *stream) add(call int64, outcome clients.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.begun, call)
	s.last++
	answer := control.Numbered{Seq: s.last, Call: call, Outcome: outcome}
	if len(s.ring) < ringSize {
		s.ring = append(s.ring, answer)
	} else {
		s.ring[(s.last-1)%ringSize] = answer
	}
	s.wake()
}

// wake tells waiters that something changed; mu is held.
func (s *stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// page returns the answers after since.
func (s *stream) page(since int64) control.StreamPage {
	s.mu.Lock()
	defer s.mu.Unlock()
	page := control.StreamPage{Name: s.spec.Name, Running: s.running, Sent: s.sent, Missed: s.missed, Last: s.last, Outcomes: []control.Numbered{}}
	for _, at := range s.begun {
		page.UnderWay = append(page.UnderWay, at)
	}
	from := max(since+1, 1)
	if oldest := s.last - int64(len(s.ring)) + 1; from < oldest {
		page.Dropped, from = oldest-from, oldest
	}
	for n := from; n <= s.last; n++ {
		page.Outcomes = append(page.Outcomes, s.ring[(n-1)%ringSize])
	}
	return page
}

// await blocks until there is an answer after since, the stream is over, or
// ctx has ended.
func (s *stream) await(ctx context.Context, since int64) {
	for {
		s.mu.Lock()
		if s.last > since || !s.running {
			s.mu.Unlock()
			return
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// stop ends the stream and waits for the calls in flight.
func (s *stream) stop() {
	s.cancel()
	<-s.done
}
