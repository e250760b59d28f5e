package agent

import (
	"sync"
	"sync/atomic"
)

// maxIdle is how many of those who make calls wait for the next one; the others of a
// time in which many calls were under way leave.
const maxIdle = 256

// workers make the calls of all streams. Who has made a call makes the next one, of
// whatever stream: its stack has grown already, and an agent with thousands of slow
// streams needs no more of them than it has calls under way.
type workers struct {
	next chan job
	idle atomic.Int32
	all  sync.WaitGroup
}

// job is one call of a stream.
type job struct {
	stream *stream
	call   int64
}

func newWorkers() *workers { return &workers{next: make(chan job)} }

// do has a call made without waiting for it.
func (w *workers) do(j job) {
	select {
	case w.next <- j:
	default:
		w.all.Go(func() { w.work(j) })
	}
}

func (w *workers) work(j job) {
	for ok := true; ok; w.idle.Add(-1) {
		j.stream.make(j.call)
		if w.idle.Add(1) > maxIdle {
			ok = false
			continue
		}
		j, ok = <-w.next
	}
}

// close waits for the calls that are under way; no more may come.
func (w *workers) close() {
	close(w.next)
	w.all.Wait()
}
