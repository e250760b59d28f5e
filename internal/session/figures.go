package session

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/reports/result"
)

// What a run on two cores should come to. Figures are printed beside these and
// never asserted: the machine may be busy with something else.
const (
	readyTarget         = 10 * time.Second
	wholeRunTarget      = 3 * time.Minute
	firstClaimTarget    = 30 * time.Second
	clusterMemoryTarget = 700 // MiB
	proxyMemoryTarget   = 15  // MiB
)

const (
	// lookInterval is between two looks at the proxies: long enough to tell an
	// idle one, seldom enough to disturb nobody.
	lookInterval = 5 * time.Second
	// shortestLook is the least time over which a proxy can be called idle.
	shortestLook = 2 * time.Second
	// idleShare of one processor is what an idle proxy uses at most; the
	// kubelet's probes are part of being idle.
	idleShare = 0.01
)

const mebibyte = 1 << 20

// readyFigure is how long the cluster took; a cluster that stood before took
// nothing.
func readyFigure(made cluster.Cluster) []result.Figure {
	for _, timing := range made.Timings() {
		if timing.Component == "ready" {
			return []result.Figure{{Name: "cluster ready", Unit: "s", N: 1, Value: timing.Elapsed.Seconds(), Target: readyTarget.Seconds()}}
		}
	}
	return nil
}

// nodeReady are the names under which providers tell when their nodes were
// Ready.
var nodeReady = []string{"node", "nodes"}

// firstClaimFigure is how long the first verdict took from the moment at which
// the nodes were Ready: what a run adds to a cluster's own creation. created is
// when Create was called.
func firstClaimFigure(made cluster.Cluster, created, first time.Time) []result.Figure {
	for _, timing := range made.Timings() {
		if slices.Contains(nodeReady, timing.Component) && !first.IsZero() {
			took := first.Sub(created.Add(timing.Elapsed))
			return []result.Figure{{Name: "first claim after the nodes were Ready", Unit: "s", N: 1, Value: took.Seconds(), Target: firstClaimTarget.Seconds()}}
		}
	}
	return nil
}

func wholeRunFigure(took time.Duration) result.Figure {
	return result.Figure{Name: "whole run", Unit: "s", N: 1, Value: took.Seconds(), Target: wholeRunTarget.Seconds()}
}

// clusterMemoryFigure is what all processes of the cluster hold together: n of
// them, each with its share of what it has in common with others.
func clusterMemoryFigure(inspector cluster.Inspector) []result.Figure {
	processes, err := inspector.Processes()
	if err != nil {
		return nil
	}
	n, sum := 0, int64(0)
	for _, p := range processes {
		memory, err := inspector.Memory(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil // a part of the sum is no figure
		}
		n++
		sum += memory.PSS
	}
	if n == 0 {
		return nil
	}
	return []result.Figure{{Name: "cluster with mesh, before workloads, PSS", Unit: "MiB", N: n, Value: float64(sum) / mebibyte, Target: clusterMemoryTarget}}
}

// idleProxies measures the proxies of a run while they have nothing to do. Of
// each proxy the last look counts at which it had been idle since the look
// before; most have carried a scenario's traffic by then.
type idleProxies struct {
	inspector cluster.Inspector

	looked time.Time
	before map[started]time.Duration
	idle   map[started]cluster.Memory
}

// started names a process.
type started struct {
	pid  int
	time uint64
}

// follow looks at the proxies until ctx ends, and then once more.
func (p *idleProxies) follow(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		p.look(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			p.look(time.Now())
			return
		}
	}
}

// look takes the measures that can be taken now. A cluster that cannot be
// looked at yields no figures, which is all that is lost.
func (p *idleProxies) look(now time.Time) {
	processes, err := p.inspector.Processes()
	interval := now.Sub(p.looked)
	if err != nil || interval < shortestLook {
		return
	}
	if p.idle == nil {
		p.idle = map[started]cluster.Memory{}
	}
	used := map[started]time.Duration{}
	for _, one := range processes {
		if !isProxy(one.Command) {
			continue
		}
		name := started{one.PID, one.StartTime}
		used[name] = one.CPU
		before, known := p.before[name]
		if !known || (one.CPU-before).Seconds() > idleShare*interval.Seconds() {
			continue
		}
		if memory, err := p.inspector.Memory(one); err == nil {
			p.idle[name] = memory
		}
	}
	p.looked, p.before = now, used
}

// isProxy tells the mesh's proxy by its command line.
func isProxy(command []string) bool {
	return len(command) > 1 && filepath.Base(command[0]) == "meshproof-agent" && command[1] == "proxy"
}

// figures are about all proxies that were ever seen idle. The target is for
// each of them, so the largest is shown beside the middle one. It is compared
// with PSS: RSS counts the program in full for each proxy although the machine
// holds it once.
func (p *idleProxies) figures() []result.Figure {
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	var pss, rss []int64
	for _, memory := range p.idle {
		pss, rss = append(pss, memory.PSS), append(rss, memory.RSS)
	}
	var out []result.Figure
	for _, kind := range []struct {
		name   string
		values []int64
		target float64
	}{{"PSS", pss, proxyMemoryTarget}, {"RSS", rss, 0}} {
		slices.Sort(kind.values)
		out = append(out,
			result.Figure{Name: "idle proxy, " + kind.name + ", p50", Unit: "MiB", N: n, Value: float64(kind.values[(n-1)/2]) / mebibyte, Target: kind.target},
			result.Figure{Name: "idle proxy, " + kind.name + ", max", Unit: "MiB", N: n, Value: float64(kind.values[n-1]) / mebibyte, Target: kind.target})
	}
	return out
}

// followProxies measures them until the returned function is called, which
// waits and returns the figures.
func followProxies(ctx context.Context, made cluster.Cluster) func() []result.Figure {
	inspector, ok := made.(cluster.Inspector)
	if !ok {
		return func() []result.Figure { return nil }
	}
	proxies := &idleProxies{inspector: inspector}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() { proxies.follow(ctx) })
	return func() []result.Figure {
		stop()
		following.Wait()
		return proxies.figures()
	}
}
