package destination

// Watch follows one target. Only the latest state matters: who reads slowly
// misses what was superseded meanwhile and never holds up others.
type Watch struct {
	index   *Index
	target  target
	changed chan struct{}
	// namespace is where the last answer came from; changes there wake the watch,
	// and so do changes about the target's address.
	namespace string
}

func (x *Index) watch(t target) *Watch {
	w := &Watch{index: x, target: t, changed: make(chan struct{}, 1), namespace: t.name.namespace}
	w.wake()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watches[w] = struct{}{}
	return w
}

// Changed yields at first and whenever the answer may be another.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Profile is the target's, now.
func (w *Watch) Profile() Profile {
	w.index.mu.Lock()
	defer w.index.mu.Unlock()
	var p Profile
	p, w.namespace = w.index.profile(w.target)
	return p
}

// Endpoints are the target's, now.
func (w *Watch) Endpoints() Endpoints {
	w.index.mu.Lock()
	defer w.index.mu.Unlock()
	var e Endpoints
	e, w.namespace = w.index.endpoints(w.target)
	return e
}

// Close ends the watch.
func (w *Watch) Close() {
	w.index.mu.Lock()
	defer w.index.mu.Unlock()
	delete(w.index.watches, w)
}

func (w *Watch) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
