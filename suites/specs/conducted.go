package specs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/interrupt"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/internal/timelines"
	"github.com/meshproof/meshproof/reports"
	"github.com/meshproof/meshproof/reports/github"
	"github.com/meshproof/meshproof/reports/result"
	"github.com/meshproof/meshproof/reports/text"
	"github.com/meshproof/meshproof/scenarios"
)

// conducted is the session behind the specs.
type conducted struct {
	root, bin, runs string
	plan            *scenarios.Plan
	id, dir         string
	began           time.Time

	progress func(engine.Event)
	ctx      context.Context
	cancel   context.CancelFunc
	release  func()        // gives back the signals
	ended    chan struct{} // nil until the session has started
	out      *result.Run

	mu     sync.Mutex
	claims map[string]*waiter
}

// waiter is closed when its claim has a verdict.
type waiter struct {
	done   chan struct{}
	judged judged
}

// judged is a claim's verdict, with what the client saw where there was one call.
type judged struct {
	result  result.Claim
	outcome *clients.Outcome
}

// start begins the session; it does not wait for anything.
func (c *conducted) start() error {
	setup.Programs = c.bin
	options, why, err := setup.Options()
	if err != nil {
		return err
	}
	c.began, c.claims = time.Now(), map[string]*waiter{}
	c.id, c.progress = session.NewID(c.began), session.Progress(os.Stdout)
	c.dir = filepath.Join(c.runs, c.id)
	if err := reports.Begin(c.dir, c.id, c.began); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	for _, claim := range c.plan.Claims() {
		c.claims[claim.ID] = &waiter{done: make(chan struct{})}
	}
	seed := GinkgoRandomSeed()
	// Ginkgo's own answer to Ctrl-C is the stack of every goroutine, many
	// screens of it.
	signals, release := interrupt.Context(context.Background(), os.Stdout)
	ctx, cancel := context.WithCancel(signals)
	c.ctx, c.cancel, c.release, c.ended = ctx, cancel, release, make(chan struct{})
	fmt.Fprintf(os.Stdout, "\nrun %s: %d claims in %d scenarios on the %s cluster, seed %d\n", c.id, len(c.claims), len(c.plan.Scenarios), options.Provider.Kind(), seed)
	if why != "" {
		fmt.Fprintln(os.Stdout, why)
	}
	options.ID, options.Dir, options.Seed, options.Observe = c.id, c.dir, seed, c.observe
	go func() {
		defer close(c.ended)
		c.out = session.Run(ctx, c.plan, options)
	}()
	return nil
}

// observe prints the progress and wakes the specs.
func (c *conducted) observe(e engine.Event) {
	if e.Kind != engine.ClaimFinished { // Ginkgo tells of those
		c.progress(e)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.claims[e.Claim.ID]; w != nil {
		select {
		case <-w.done:
		default:
			w.judged = judged{*e.Result, e.Outcome}
			close(w.done)
		}
	}
}

// await returns a claim's verdict. The session's end is the last moment at
// which there can be one.
func (c *conducted) await(ctx context.Context, id string) (judged, error) {
	if c == nil {
		return judged{}, errors.New("the session was not started")
	}
	c.mu.Lock()
	w := c.claims[id]
	c.mu.Unlock()
	if w == nil {
		return judged{}, errors.New("it was not selected")
	}
	select {
	case <-w.done:
		return w.judged, nil
	case <-ctx.Done():
		return judged{}, ctx.Err()
	case <-c.ended:
	}
	select {
	case <-w.done:
		return w.judged, nil
	default:
		return judged{}, errors.New("the run ended before")
	}
}

// broken says that the run has ended without having judged anything: every spec
// would tell the same reason.
func (c *conducted) broken() bool {
	select {
	case <-c.ended:
		return c.out.Outcome == result.Error && c.out.Summary.Passed+c.out.Summary.Failed == 0
	default:
		return false
	}
}

// interrupted says which signal has ended the session early, nil when none has.
func (c *conducted) interrupted() error {
	var by *interrupt.Signal
	if errors.As(context.Cause(c.ctx), &by) {
		return by
	}
	return nil
}

// finish ends the session and writes its reports. Specs that are over before
// their claims have been interrupted: the session is then, too.
func (c *conducted) finish() (*result.Run, error) {
	if c.ended == nil {
		return nil, nil
	}
	c.mu.Lock()
	for _, w := range c.claims {
		select {
		case <-w.done:
		default:
			c.cancel()
		}
	}
	c.mu.Unlock()
	<-c.ended
	c.cancel()
	defer c.release()
	err := errors.Join(timelines.Attach(c.dir, c.out), writeReports(c.dir, c.out))
	err = errors.Join(err, publish(c.runs, c.id))
	if prow := os.Getenv("ARTIFACTS"); prow != "" {
		err = errors.Join(err, reports.WriteProw(prow, c.out))
	}
	fmt.Fprintln(os.Stdout)
	// Ginkgo tells of every claim; the rest of the summary is ours.
	text.Digest(os.Stdout, c.out)
	brief := *c.out
	brief.Scenarios = slices.Clone(brief.Scenarios)
	for i := range brief.Scenarios {
		brief.Scenarios[i].Steps = nil
	}
	err = errors.Join(err, text.Summary(os.Stdout, &brief, filepath.Join(c.dir, reports.HTMLFile)))
	// After this Ginkgo names the specs that failed, without saying why.
	text.Brief(os.Stdout, c.out)
	if actions, on := github.Detect(os.Getenv, c.root); on {
		err = errors.Join(err, github.Write(os.Stdout, actions, c.out))
	}
	return c.out, err
}
