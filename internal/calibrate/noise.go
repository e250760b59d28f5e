// Package calibrate says what this machine can tell apart, and how much its clients
// can do.
//
// A Meter takes samples of what a call costs when nobody has anything to decide: how
// late a timer is, how long it takes until somebody who was woken runs, and how long
// one byte takes to a peer on loopback and back. What comes out is the noise floor:
// two times that are closer than it cannot be told apart. Most and its like drive a
// client agent against an application that answers at once, until it no longer keeps
// the rate.
//
// It judges no policy and knows no cluster: who concludes something asks it whether
// the conclusion is finer than the floor.
package calibrate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/meshproof/meshproof/reports/result"
)

const (
	// kept bounds the samples of which a meter remembers the last ones.
	kept = 1 << 16
	// answerLimit bounds a round trip of one byte: a machine that takes longer than
	// this is not fit for anything.
	answerLimit = 10 * time.Second
	// BesideRun is between two samples while something else is going on: seldom
	// enough to cost it well below a hundredth of a processor.
	BesideRun = 50 * time.Millisecond
	// Alone is between two samples when nothing else is to be measured.
	Alone = 2 * time.Millisecond
)

// Meter takes samples until it is stopped.
type Meter struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	conn   net.Conn
	err    error

	timer, handoff, trip, call ring
}

// ring keeps the last samples.
type ring struct {
	n   int
	all []time.Duration
}

func (r *ring) add(d time.Duration) {
	if len(r.all) < kept {
		r.all = append(r.all, d)
	} else {
		r.all[r.n%kept] = d
	}
	r.n++
}

// Start begins to take a sample every so often.
func Start(ctx context.Context, every time.Duration) (*Meter, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the round trips: %w", err)
	}
	defer listener.Close()
	conn, err := net.DialTimeout("tcp", listener.Addr().String(), answerLimit)
	if err != nil {
		return nil, fmt.Errorf("dial for the round trips: %w", err)
	}
	peer, err := listener.Accept()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("accept for the round trips: %w", err)
	}
	m := &Meter{conn: conn}
	ctx, m.cancel = context.WithCancel(ctx)
	woken, ran := make(chan time.Time), make(chan time.Duration)
	m.tasks.Go(func() { echo(peer) })
	m.tasks.Go(func() { wake(ctx, woken, ran) })
	m.tasks.Go(func() {
		defer conn.Close() // which ends echo
		m.err = m.sample(ctx, every, woken, ran)
	})
	return m, nil
}

// echo sends back what comes until the connection ends.
func echo(conn net.Conn) {
	defer conn.Close()
	var buffer [1]byte
	for {
		if _, err := conn.Read(buffer[:]); err != nil {
			return
		}
		if _, err := conn.Write(buffer[:]); err != nil {
			return
		}
	}
}

// wake says how long it took until it ran, on a thread of its own, so that the
// operating system has a part in it.
func wake(ctx context.Context, woken <-chan time.Time, ran chan<- time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case at := <-woken:
			ran <- time.Since(at)
		case <-ctx.Done():
			return
		}
	}
}

func (m *Meter) sample(ctx context.Context, every time.Duration, woken chan<- time.Time, ran <-chan time.Duration) error {
	due := time.Now().Add(every)
	timer := time.NewTimer(every)
	defer timer.Stop()
	var buffer [1]byte
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		late := max(time.Since(due), 0)
		select {
		case woken <- time.Now():
			m.handoff.add(<-ran)
		case <-ctx.Done():
			return nil
		}
		began := time.Now()
		m.conn.SetDeadline(began.Add(answerLimit))
		if _, err := m.conn.Write(buffer[:]); err != nil {
			return fmt.Errorf("write for a round trip: %w", err)
		}
		if _, err := m.conn.Read(buffer[:]); err != nil {
			return fmt.Errorf("read for a round trip: %w", err)
		}
		trip := time.Since(began)
		m.timer.add(late)
		m.trip.add(trip)
		m.call.add(late + trip)
		if due = due.Add(every); time.Until(due) < 0 {
			due = time.Now().Add(every) // what was missed is not made up for
		}
		timer.Reset(time.Until(due))
	}
}

// ErrNoSample is the error of a meter that had no time to take any.
var ErrNoSample = errors.New("no sample was taken")

// Stop ends the meter and says what it has seen.
func (m *Meter) Stop() (Noise, error) {
	m.cancel()
	m.tasks.Wait()
	if m.err != nil {
		return Noise{}, m.err
	}
	if m.call.n == 0 {
		return Noise{}, ErrNoSample
	}
	return Noise{N: m.call.n, Timer: m.timer.spread(), Handoff: m.handoff.spread(), RoundTrip: m.trip.spread(), Call: m.call.spread()}, nil
}

// Spread says how long something took: in the middle, in all but one of a hundred
// cases, and at most. In JSON it is in nanoseconds.
type Spread struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

func (r *ring) spread() Spread {
	sorted := slices.Clone(r.all)
	slices.Sort(sorted)
	n := len(sorted)
	return Spread{sorted[(n-1)/2], sorted[(99*n+99)/100-1], sorted[n-1]}
}

// Noise is what this machine adds to whatever is measured on it.
type Noise struct {
	// N is how many samples there were.
	N int `json:"n"`
	// Timer is how late timers were, Handoff how long one that was woken needed to
	// run, RoundTrip what a byte took to a peer and back.
	Timer     Spread `json:"timer"`
	Handoff   Spread `json:"handoff"`
	RoundTrip Spread `json:"roundTrip"`
	// Call is what a call adds: from when it is due to its answer.
	Call Spread `json:"call"`
}

// Floor is what all but one of a hundred calls add at most: of two times that are
// closer than this nobody can say here which is the greater.
func (n Noise) Floor() time.Duration { return n.Call.P99 }

// FinerError refuses a conclusion.
type FinerError struct {
	What         string
	Asked, Floor time.Duration
}

func (e *FinerError) Error() string {
	return fmt.Sprintf("%s of %s is finer than this machine can tell: its noise floor is %s", e.What, e.Asked, round(e.Floor))
}

// Allows returns a *FinerError when something that is asked for is finer than the
// floor.
func (n Noise) Allows(what string, asked time.Duration) error {
	if asked < n.Floor() {
		return &FinerError{what, asked, n.Floor()}
	}
	return nil
}

// Result is the noise as runs carry it.
func (n Noise) Result() *result.Noise {
	of := func(s Spread) result.Propagated {
		return result.Propagated{N: n.N, P50: milliseconds(s.P50), P99: milliseconds(s.P99), Max: milliseconds(s.Max)}
	}
	return &result.Noise{Floor: milliseconds(n.Floor()), Timer: of(n.Timer), Handoff: of(n.Handoff), RoundTrip: of(n.RoundTrip)}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// round leaves of a time what people read.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

// Listen takes samples for so long and nothing else.
func Listen(ctx context.Context, long time.Duration) (Noise, error) {
	m, err := Start(ctx, Alone)
	if err != nil {
		return Noise{}, err
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	noise, err := m.Stop()
	return noise, errors.Join(context.Cause(ctx), err)
}
