package index

import "sync/atomic"

// Watch follows the policy of one pod port. Only the latest value is kept: who
// reads slowly misses what was superseded meanwhile and never holds up others.
type Watch struct {
	snapshot atomic.Pointer[Snapshot]
	// changed holds one token while there is a value that was not yet read.
	changed chan struct{}
	// gone is closed by the index, under its lock, when the pod goes.
	gone chan struct{}

	index           *Index
	namespace, name string
	port            uint16
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
	w := &Watch{changed: make(chan struct{}, 1), gone: make(chan struct{}), index: x, namespace: namespace, name: name, port: port}
	c.watchers[w] = struct{}{}
	w.publish(c.snapshot)
	return w, nil
}

func (w *Watch) publish(s *Snapshot) {
	w.snapshot.Store(s)
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Changed yields once for the first value and after each change.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Snapshot is the latest value.
func (w *Watch) Snapshot() *Snapshot { return w.snapshot.Load() }

// Gone is closed when the pod has been deleted.
func (w *Watch) Gone() <-chan struct{} { return w.gone }

// Close ends the watch. It may be called more than once.
func (w *Watch) Close() {
	w.index.mu.Lock()
	defer w.index.mu.Unlock()
	_, p := w.index.find(w.namespace, w.name)
	if p == nil {
		return
	}
	c := p.cells[w.port]
	if c == nil {
		return
	}
	delete(c.watchers, w)
	if len(c.watchers) == 0 {
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
