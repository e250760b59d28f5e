package calibrate

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
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
	// readers is how many streams are read at a time.
	readers = 4
)

// Load is traffic that a client was asked for.
type Load struct {
	// Streams each make Rate calls a second.
	Streams int `json:"streams"`
	Rate    int `json:"rate"`
	// Connection says whether each call has a connection of its own.
	Connection clients.Connection `json:"connection"`
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
	// CPU is what the client used for each call, everything counted.
	CPU time.Duration `json:"cpu"`
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
	// target answers it.
	target string
}

// newClient is a client that is answered by an application of this process; the
// function that is returned ends the application.
func newClient(ctx context.Context, agent *control.Client, pid int) (*Client, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("listen for the calls: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { _ = sink.Serve(ctx, listener, load.HTTP1) })
	return &Client{agent, pid, listener.Addr().String()}, func() { cancel(); serving.Wait() }, nil
}

// Carry has the client carry a load for so long.
func (c *Client) Carry(ctx context.Context, l Load, long time.Duration) (Kept, error) {
	kept := Kept{Load: l}
	count := int64(float64(l.Rate) * long.Seconds())
	spacing := time.Second / time.Duration(l.Rate)
	before, err := cpuTime(c.pid)
	if err != nil {
		return kept, err
	}
	began := time.Now()
	names := make([]string, l.Streams)
	for i := range names {
		names[i] = "calibrate-" + strconv.Itoa(i)
	}
	defer c.stop(context.WithoutCancel(ctx), names)
	err = c.each(ctx, names, func(i int) error {
		request := clients.Request{Protocol: clients.HTTP1, Address: c.target, Path: load.Path, Connection: l.Connection}
		return c.agent.StartStream(ctx, control.StreamSpec{Name: names[i], Request: request, Rate: float64(l.Rate), Count: count,
			Phase: spacing * time.Duration(i) / time.Duration(l.Streams)})
	})
	if err != nil {
		return kept, err
	}
	seen, first := map[string]control.StreamPage{}, map[string]time.Time{}
	since := map[string]int64{} // of those that still run
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
				if one.Outcome.Kind != clients.Allowed {
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
	after, err := cpuTime(c.pid)
	if err != nil {
		return kept, err
	}
	answered := int64(0)
	for _, page := range seen {
		kept.Due += page.Sent + page.Missed
		kept.Missed += page.Missed
		answered += page.Sent
	}
	kept.CPU = (after - before) / time.Duration(max(answered, 1))
	return kept, nil
}

// each does something for every stream, a few at a time, and returns the first
// error.
func (c *Client) each(ctx context.Context, names []string, do func(int) error) error {
	next := make(chan int)
	failed := make(chan error, readers)
	var workers sync.WaitGroup
	for range min(readers, len(names)) {
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

// Most finds the greatest load of that kind that the client keeps, by doubling it:
// many streams at StreamRate, or one stream that is ever faster. Kept.Streams is 0
// when it does not even keep the first.
func (c *Client) Most(ctx context.Context, many bool, connection clients.Connection, long time.Duration) (most Kept, err error) {
	most.Connection = connection
	for calls := firstCalls; calls <= goalCalls; calls *= 2 {
		l := Load{Streams: 1, Rate: calls, Connection: connection}
		if many {
			l = Load{Streams: min(calls/StreamRate, goalStreams), Rate: StreamRate, Connection: connection}
		}
		kept, err := c.Carry(ctx, l, long)
		if err != nil {
			return most, fmt.Errorf("%d streams of %d calls a second: %w", l.Streams, l.Rate, err)
		}
		if !kept.OK() {
			break
		}
		most = kept
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

// tick is what the kernel counts CPU time in.
const tick = 10 * time.Millisecond

// cpuTime is what a process has used.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the client's CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the program's name may have blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the client's CPU time: %d fields", len(fields))
	}
	sum := int64(0)
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the client's CPU time: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}
