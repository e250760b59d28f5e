package calibrate

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/meshproof/meshproof/clients"
	"github.com/meshproof/meshproof/clients/agent/control"
	"github.com/meshproof/meshproof/clients/load"
	"github.com/meshproof/meshproof/clients/load/sink"
)

const (
	// lostShare of the calls that were due may be missed by a client that keeps its
	// rate.
	lostShare = 0.01
	// lateLimit is how long after its time a call may be made: what is later was not
	// made at the rate that was asked for, even if there was time for it in the end.
	lateLimit = 20 * time.Millisecond
	// StreamRate is how many calls a second each of many streams makes.
	StreamRate = 10
	// goalCalls and goalStreams are where looking for more ends.
	goalCalls   = control.MaxRate
	goalStreams = goalCalls / StreamRate
	// firstCalls is the rate that is tried first.
	firstCalls = 1250
	// pageEvery is between two readings of what streams were answered.
	pageEvery = 500 * time.Millisecond
	// starters is how many streams are started at a time.
	starters = 4
)

// Load is traffic that a client was asked for.
type Load struct {
	// Streams each make Rate calls a second.
	Streams int `json:"streams"`
	Rate    int `json:"rate"`
	// Connection says whether each call has a connection of its own.
	Connection clients.Connection `json:"connection"`
	// Protocol is clients.HTTP1, also when it is empty, or clients.GRPC.
	Protocol clients.Protocol `json:"protocol"`
}

// Calls a second in all.
func (l Load) Calls() int { return l.Streams * l.Rate }

// Kept is what became of a load.
type Kept struct {
	Load
	// Due counts the calls that there should have been, Missed those that were not
	// made, Late those that were made too late, Wrong those that were not answered as they should be.
	Due    int64 `json:"due"`
	Missed int64 `json:"missed"`
	Late   int64 `json:"late"`
	Wrong  int64 `json:"wrong"`
	// Called are those that were made.
	Called int64 `json:"called"`
	// CPU is what the client used for each call, everything counted, and TargetCPU
	// what the target did.
	CPU       time.Duration `json:"cpu"`
	TargetCPU time.Duration `json:"targetCPU"`
	// Others is what everything else on the machine used in that time, in
	// nanoseconds, and Idle the share of the processors that nobody used.
	Others float64 `json:"others"`
	Idle   float64 `json:"idle"`
	// Wall is for how long calls were made.
	Wall time.Duration `json:"wall"`
}

// OK says that the client was not the bottleneck.
func (k Kept) OK() bool {
	return k.Due > 0 && k.Wrong == 0 && float64(k.Missed+k.Late) <= lostShare*float64(k.Due)
}

// Client is an agent in a process of its own.
type Client struct {
	agent *control.Client
	pid   int
	// targets answer it, by what is spoken.
	targets map[clients.Protocol]string
}

// newClient is a client that is answered by an application of this process; the
// function that is returned ends the application.
func newClient(ctx context.Context, agent *control.Client, pid int) (*Client, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	end := func() { cancel(); serving.Wait() }
	c := &Client{agent, pid, map[clients.Protocol]string{}}
	for spoken, answers := range map[clients.Protocol]load.Protocol{clients.HTTP1: load.HTTP1, clients.GRPC: load.Frames} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			end()
			return nil, nil, fmt.Errorf("listen for the calls: %w", err)
		}
		serving.Go(func() { _ = sink.Serve(ctx, listener, answers) })
		c.targets[spoken] = listener.Addr().String()
	}
	return c, end, nil
}

// request is what a load's calls are.
func (c *Client) request(l Load) clients.Request {
	r := clients.Request{Protocol: cmp.Or(l.Protocol, clients.HTTP1), Path: load.Path, Connection: l.Connection}
	if r.Protocol == clients.GRPC {
		r.Method, r.Path = load.Method, ""
	}
	r.Address = c.targets[r.Protocol]
	return r
}

// Carry has the client carry a load for so long.
func (c *Client) Carry(ctx context.Context, l Load, long time.Duration) (Kept, error) {
	kept := Kept{Load: l}
	count := int64(float64(l.Rate) * long.Seconds())
	spacing := time.Second / time.Duration(l.Rate)
	var before, after used
	if err := before.read(c.pid); err != nil {
		return kept, err
	}
	began := time.Now()
	names := make([]string, l.Streams)
	for i := range names {
		names[i] = "calibrate-" + strconv.Itoa(i)
	}
	defer c.stop(context.WithoutCancel(ctx), names)
	request := c.request(l)
	err := c.each(ctx, names, func(i int) error {
		return c.agent.StartStream(ctx, control.StreamSpec{Name: names[i], Request: request, Rate: float64(l.Rate), Count: count,
			Phase: spacing * time.Duration(i) / time.Duration(l.Streams)})
	})
	if err != nil {
		return kept, err
	}
	seen, first := map[string]control.StreamPage{}, map[string]time.Time{}
	since := map[string]int64{} // of those that still run
	read := int64(0)
	for _, name := range names {
		since[name] = 0
	}
	for len(since) > 0 {
		if err := wait(ctx, pageEvery); err != nil {
			return kept, err
		}
		pages, err := c.agent.Streams(ctx, since, 0)
		if err != nil {
			return kept, err
		}
		for _, page := range pages {
			for _, one := range page.Outcomes {
				if read++; one.Outcome.Kind != clients.Allowed {
					kept.Wrong++
				}
				// By the stream's own first call, which is as late as any.
				due := one.Outcome.Start.Add(-spacing * time.Duration(one.Call-1))
				if early, known := first[page.Name]; !known || due.Before(early) {
					first[page.Name] = due
				}
				if due.Sub(first[page.Name]) > lateLimit {
					kept.Late++
				}
			}
			page.Outcomes = nil
			seen[page.Name] = page
			if since[page.Name] = page.Last; !page.Running {
				delete(since, page.Name)
			}
		}
	}
	kept.Wall = time.Since(began)
	if err := after.read(c.pid); err != nil {
		return kept, err
	}
	for _, page := range seen {
		kept.Due += page.Sent + page.Missed
		kept.Missed += page.Missed
		kept.Called += page.Sent
	}
	kept.Late += kept.Called - read // answers that were no longer kept when they were asked for
	kept.spent(before, after)
	return kept, nil
}

// each does something for every stream, a few at a time, and returns the first
// error.
func (c *Client) each(ctx context.Context, names []string, do func(int) error) error {
	next := make(chan int)
	failed := make(chan error, starters)
	var workers sync.WaitGroup
	for range min(starters, len(names)) {
		workers.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < len(names) && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	close(next)
	workers.Wait()
	select {
	case other := <-failed:
		if err == nil {
			err = other
		}
	default:
	}
	return err
}

// stop ends the streams, which have ended unless something went wrong.
func (c *Client) stop(ctx context.Context, names []string) {
	since := map[string]int64{}
	for _, name := range names {
		since[name] = 1 << 62
	}
	_, _ = c.agent.StopStreams(ctx, since)
}

// Found is the greatest load of its kind that a client keeps. Its Streams is 0 when it
// does not even keep the first.
type Found struct {
	Kept
	// Beyond is the next one, which was not kept; nil when it was not tried.
	Beyond *Kept `json:"beyond,omitempty"`
}

// Most finds the greatest load of that kind that the client keeps, by doubling it:
// many streams at StreamRate, or one stream that is ever faster.
func (c *Client) Most(ctx context.Context, many bool, kind Load, long time.Duration) (most Found, err error) {
	most.Load = Load{Connection: kind.Connection, Protocol: cmp.Or(kind.Protocol, clients.HTTP1)}
	for calls := firstCalls; calls <= goalCalls; calls *= 2 {
		l := most.Load
		if l.Streams, l.Rate = 1, calls; many {
			l.Streams, l.Rate = min(calls/StreamRate, goalStreams), StreamRate
		}
		kept, err := c.Carry(ctx, l, long)
		if err != nil {
			return most, fmt.Errorf("%d streams of %d calls a second: %w", l.Streams, l.Rate, err)
		}
		if !kept.OK() {
			most.Beyond = &kept
			break
		}
		most.Kept = kept
	}
	return most, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
