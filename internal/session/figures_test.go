package session

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/reports/result"
)

// machine is what a cluster's processes look like at one moment.
type machine struct {
	processes []cluster.Process
	memory    map[int]cluster.Memory
	err       error // of the process that has no memory
}

func (m *machine) Processes() ([]cluster.Process, error) { return m.processes, nil }

func (m *machine) Memory(p cluster.Process) (cluster.Memory, error) {
	memory, ok := m.memory[p.PID]
	if !ok {
		return memory, m.err
	}
	return memory, nil
}

func mib(rss, pss int64) cluster.Memory { return cluster.Memory{RSS: rss << 20, PSS: pss << 20} }

func TestClusterHoldsTheSumOfItsProcesses(t *testing.T) {
	m := &machine{processes: []cluster.Process{{PID: 1}, {PID: 2}, {PID: 3}}, memory: map[int]cluster.Memory{1: mib(300, 200), 3: mib(30, 10)},
		err: fmt.Errorf("it has ended: %w", fs.ErrNotExist)}
	want := []result.Figure{{Name: "cluster with mesh, before workloads, PSS", Unit: "MiB", N: 2, Value: 210, Target: 700}}
	if diff := cmp.Diff(want, clusterMemoryFigure(m)); diff != "" {
		t.Error("-want +got:", diff)
	}
	m.err = errors.New("permission denied")
	if got := clusterMemoryFigure(m); got != nil {
		t.Errorf("without one of the processes: %v", got)
	}
}

func TestProxiesAreMeasuredWhileTheyAreIdle(t *testing.T) {
	proxy, echo := []string{"/usr/local/bin/meshproof-agent", "proxy"}, []string{"/usr/local/bin/meshproof-agent", "echo"}
	began := time.Now()
	m := &machine{err: errors.New("nobody should ask")}
	p := &idleProxies{inspector: m}
	for i, look := range []machine{
		{processes: []cluster.Process{
			{PID: 1, Command: proxy}, {PID: 2, Command: proxy}, {PID: 3, Command: echo}, {PID: 4, Command: proxy},
		}},
		{processes: []cluster.Process{ // 1 is idle, 2 works, 4 is another process now, 5 is new
			{PID: 1, Command: proxy, CPU: 40 * time.Millisecond}, {PID: 2, Command: proxy, CPU: 60 * time.Millisecond}, {PID: 3, Command: echo},
			{PID: 4, StartTime: 7, Command: proxy}, {PID: 5, Command: proxy, CPU: time.Second},
		}, memory: map[int]cluster.Memory{1: mib(20, 12)}},
		{processes: []cluster.Process{ // 1 is idle again, 2 is at last, 4 is gone, 5 works
			{PID: 1, Command: proxy, CPU: 50 * time.Millisecond}, {PID: 2, Command: proxy, CPU: 70 * time.Millisecond}, {PID: 3, Command: echo},
			{PID: 5, Command: proxy, CPU: 2 * time.Second},
		}, memory: map[int]cluster.Memory{1: mib(12, 6), 2: mib(40, 16)}},
		{processes: []cluster.Process{ // 1 works again
			{PID: 1, Command: proxy, CPU: time.Second}, {PID: 3, Command: echo},
		}},
	} {
		m.processes, m.memory = look.processes, look.memory
		p.look(began.Add(time.Duration(i) * lookInterval))
	}
	// Too short to tell.
	m.memory = map[int]cluster.Memory{1: mib(1, 1)}
	p.look(p.looked.Add(shortestLook - 1))
	want := []result.Figure{
		{Name: "idle proxy, PSS, p50", Unit: "MiB", N: 2, Value: 6, Target: 15}, {Name: "idle proxy, PSS, max", Unit: "MiB", N: 2, Value: 16, Target: 15},
		{Name: "idle proxy, RSS, p50", Unit: "MiB", N: 2, Value: 12}, {Name: "idle proxy, RSS, max", Unit: "MiB", N: 2, Value: 40},
	}
	if diff := cmp.Diff(want, p.figures()); diff != "" {
		t.Error("-want +got:", diff)
	}
}

// timed is a cluster that tells how long it took.
type timed struct {
	cluster.Cluster
	timings []cluster.Timing
}

func (t timed) Timings() []cluster.Timing { return t.timings }

func TestTheFirstClaimCountsFromReadyNodes(t *testing.T) {
	created := time.Now()
	made := timed{timings: []cluster.Timing{{Component: "ready", Elapsed: 9 * time.Second}, {Component: "nodes", Elapsed: 7 * time.Second}}}
	want := []result.Figure{{Name: "first claim after the nodes were Ready", Unit: "s", N: 1, Value: 3, Target: 30}}
	if diff := cmp.Diff(want, firstClaimFigure(made, created, created.Add(10*time.Second))); diff != "" {
		t.Error("-want +got:", diff)
	}
	if got := firstClaimFigure(made, created, time.Time{}); got != nil {
		t.Errorf("without any verdict: %v", got)
	}
	if got := firstClaimFigure(timed{}, created, created); got != nil {
		t.Errorf("of a cluster that stood before: %v", got)
	}
}
