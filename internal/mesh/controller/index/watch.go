package index

import "sync/atomic"

// Watch follows the policy of one pod port. Only the latest value is kept: who
// reads slowly misses what was superseded meanwhile and never holds up others.
type Watch struct {
	latest atomic.Pointer[Published]
	// changed holds one token while there is a value that was not yet read. The
	// index closes it, under its lock, when the pod goes.
	changed chan struct{}

	index *Index
	name  string
	// cell is nil when the pod is gone or the watch was closed; at is the watch's
	// place among the cell's. Both are the index's, under its lock.
	cell *cell
	at   int
}

// Watch begins to follow a pod's port. The current value is there at once.
func (x *Index) Watch(namespace, name string, port uint16) (*Watch, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns, p := x.find(namespace, name)
	if p == nil {
		return nil, ErrNotFound
	}
	c := p.cells[port]
	if c == nil {
		c = x.enter(ns, name, p, port)
	}
	w := &Watch{changed: make(chan struct{}, 1), index: x, name: name, cell: c, at: len(c.watchers)}
	c.watchers = append(c.watchers, w)
	w.publish(&Published{c.snapshot, x.stamp})
	return w, nil
}

func (w *Watch) publish(p *Published) {
	w.latest.Store(p)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Changed yields once for the first value and after each change, and is closed when
// the pod has been deleted.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Snapshot is the latest value.
func (w *Watch) Snapshot() *Snapshot { return w.latest.Load().Snapshot }

// Latest is the latest value with what it is of. The same pointer is the same word.
func (w *Watch) Latest() *Published { return w.latest.Load() }

// Close ends the watch. It may be called more than once.
func (w *Watch) Close() {
	w.index.mu.Lock()
	defer w.index.mu.Unlock()
	c := w.cell
	if c == nil {
		return
	}
	w.cell = nil
	last := len(c.watchers) - 1
	c.watchers[w.at], c.watchers[last].at = c.watchers[last], w.at
	c.watchers[last] = nil
	c.watchers = c.watchers[:last]
	if last == 0 {
		w.index.leave(w.name, c)
	}
}

// Watched counts the pod ports that are watched, and those who watch them.
func (x *Index) Watched() (ports, watchers int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, ns := range x.namespaces {
		for _, p := range ns.pods {
			ports += len(p.cells)
			for _, c := range p.cells {
				watchers += len(c.watchers)
			}
		}
	}
	return ports, watchers
}
