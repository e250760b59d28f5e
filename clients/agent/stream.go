package agent

import (
	"context"
	"sync"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
)

// How many answers are kept for whoever asks.
const (
	// keptOfOne is how many of one stream: at 20,000 calls a second, six seconds
	// between two questions lose none, and at 1,000 two minutes.
	keptOfOne = 1 << 17
	// keptOfAll is how many of all streams, each of which has an equal share: about
	// 100 MiB. Of 2,000 streams of ten calls a second, 13 seconds lose none.
	keptOfAll = 1 << 18
	// keptAtLeast is how many of a stream, however many there are.
	keptAtLeast = 128
)

// share is how many answers each of so many streams keeps.
func share(streams int) int { return min(max(keptOfAll/max(streams, 1), keptAtLeast), keptOfOne) }

// slack is how late a call may be made: what a timer on a busy machine is late by.
// At rates with several calls in that time they are made at once, after which
// the stream is in step again; what is later is missed.
const slack = 2 * time.Millisecond

// stream makes calls at a fixed rate.
type stream struct {
	spec   control.StreamSpec
	agent  *Agent
	series *clients.Series
	cancel context.CancelFunc
	done   chan struct{}
	// slots has as many as there are calls under way, and calls waits for them.
	slots chan struct{}
	calls sync.WaitGroup

	mu sync.Mutex
	// kept are the last answers; the last of them has the number last.
	kept    []control.Numbered
	last    int64
	sent    int64
	missed  int64
	begun   map[int64]time.Time // calls that are under way
	running bool
	// changed is closed at the next change; nil while nobody waits for one.
	changed chan struct{}
}

// startStream has an agent make a stream's calls.
func startStream(a *Agent, spec control.StreamSpec) *stream {
	request := spec.Request
	if request.ID == "" {
		request.ID = spec.Name
	}
	ctx, cancel := context.WithCancel(a.ctx)
	s := &stream{spec: spec, agent: a, series: a.caller.Series(request), cancel: cancel, done: make(chan struct{}),
		slots: make(chan struct{}, spec.InFlight()), begun: map[int64]time.Time{}, running: true}
	a.running.Go(func() { s.run(ctx) })
	return s
}

// run sends each call at its own time, counted from the first one's. A call
// whose time has passed by more than the spacing and slack is missed: a burst to
// catch up would test something else than what was asked for.
func (s *stream) run(ctx context.Context) {
	defer close(s.done)
	defer func() {
		s.calls.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running = false
		s.wake()
	}()
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
		case s.slots <- struct{}{}:
			s.mu.Lock()
			s.sent++
			s.begun[call] = time.Now()
			s.mu.Unlock()
			s.calls.Add(1)
			s.agent.workers.do(job{s, call})
		default:
			s.miss(1)
		}
		due = due.Add(spacing)
	}
}

// make makes one call. One that is under way when the stream is stopped ends with its
// own answer or its own time-out.
func (s *stream) make(call int64) {
	defer s.calls.Done()
	s.add(call, s.series.Do(call))
	<-s.slots
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
	if spare := len(s.kept) + 1 - share(int(s.agent.count.Load())); spare > 0 {
		clear(s.kept[:spare]) // what they hold is given up at once
		s.kept = s.kept[spare:]
	}
	s.kept = append(s.kept, control.Numbered{Seq: s.last, Call: call, Outcome: outcome})
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
	oldest := s.last - int64(len(s.kept)) + 1
	if from < oldest {
		page.Dropped, from = oldest-from, oldest
	}
	if from <= s.last {
		page.Outcomes = append(page.Outcomes, s.kept[from-oldest:]...)
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
