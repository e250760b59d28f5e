package engine

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshproof/meshproof/scenarios"
)

// startsPerNode is how many pods of a run may be starting at a time for each node
// of a cluster whose containers are real ones. A node that is asked for a hundred
// at once takes longer for all of them than one after the other, and some of its
// attempts fail and wait to be repeated.
const startsPerNode = 4

// scenariosPerNode is how many scenarios of a run are under way at a time for each
// such node. More of them do not end sooner: the node is busy with containers, a
// node has room for a hundred pods or so, and calls that are to be made at a rate
// come too late.
const scenariosPerNode = 10

// starts has the pods of a run wait for each other, first come, first served.
type starts struct {
	slots *semaphore.Weighted
	size  int64
	held  sync.WaitGroup
	// over is cancelled at the end of the run.
	over context.Context
	stop context.CancelFunc
}

// newStarts lets so many pods start at a time. A nil *starts, which lets all
// start at once, has the same methods.
func newStarts(ctx context.Context, most int) *starts {
	s := &starts{slots: semaphore.NewWeighted(int64(most)), size: int64(most)}
	s.over, s.stop = context.WithCancel(ctx)
	return s
}

// wait waits until pods may start. The caller must then either create them and
// call watch, or call it with a nil function.
func (s *starts) wait(ctx context.Context, pods int) error {
	if s == nil {
		return ctx.Err()
	}
	return s.slots.Acquire(ctx, min(int64(pods), s.size))
}

// watch gives back what wait has taken once until returns, or at once when it
// is nil.
func (s *starts) watch(pods int, until func(context.Context)) {
	if s == nil {
		return
	}
	if until == nil {
		s.slots.Release(min(int64(pods), s.size))
		return
	}
	s.held.Go(func() {
		defer s.slots.Release(min(int64(pods), s.size))
		until(s.over)
	})
}

// close ends everything that watches.
func (s *starts) close() {
	if s != nil {
		s.stop()
		s.held.Wait()
	}
}

// start makes pods when it is their turn, by calling create. find lists them, of
// which there will be so many.
func (e *run) start(ctx context.Context, pods int, create func() error, find func() []*corev1.Pod) error {
	if err := e.starting.wait(ctx, pods); err != nil {
		return err
	}
	if err := create(); err != nil {
		e.starting.watch(pods, nil)
		return err
	}
	e.starting.watch(pods, func(ctx context.Context) {
		seen := false
		_ = e.pods.until(ctx, podsBudget, func() (bool, string) {
			found := find()
			if len(found) == 0 {
				return seen, "" // removed before they were up
			}
			seen = true
			return len(found) >= pods && !slices.ContainsFunc(found, func(pod *corev1.Pod) bool { return !up(pod) }), ""
		})
	})
	return nil
}

// up says whether all containers of a pod have started.
func up(pod *corev1.Pod) bool {
	if len(pod.Status.ContainerStatuses) < len(pod.Spec.Containers) {
		return false
	}
	return !slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.State.Running == nil && status.State.Terminated == nil
	})
}

// costly says whether what the scenario has made would go on to need much of the
// nodes, although nobody asks any more: probes every second.
func (s *scenarioRun) costly() bool {
	return s.e.starting != nil && slices.ContainsFunc(s.planned.Spec.Workloads, func(w scenarios.Workload) bool { return w.Kind == scenarios.Probed })
}
