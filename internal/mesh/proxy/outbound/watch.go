package outbound

import (
	"context"
	"sync"
	"time"
)

// watch holds the latest value of something that is followed by one goroutine
// and read by many connections.
type watch[V any] struct {
	// since is when the watch began.
	since time.Time

	mu      sync.Mutex
	value   V
	known   bool
	changed chan struct{} // closed and replaced by set

	// The following belong to watches and are guarded by its lock.
	users  int
	idle   *time.Timer
	cancel context.CancelFunc
}

func newWatch[V any]() *watch[V] {
	return &watch[V]{since: time.Now(), changed: make(chan struct{})}
}

// get returns the value, whether there is one yet, and what is closed when it
// changes.
func (w *watch[V]) get() (value V, known bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.value, w.known, w.changed
}

func (w *watch[V]) set(value V) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.value, w.known = value, true
	close(w.changed)
	w.changed = make(chan struct{})
}

// watches shares one watch per key and drops it some time after its last use.
type watches[K comparable, V any] struct {
	ctx     context.Context
	running *sync.WaitGroup
	keep    time.Duration
	follow  func(ctx context.Context, key K, w *watch[V])

	mu      sync.Mutex
	entries map[K]*watch[V]
}

func newWatches[K comparable, V any](ctx context.Context, running *sync.WaitGroup, keep time.Duration,
	follow func(ctx context.Context, key K, w *watch[V])) *watches[K, V] {
	return &watches[K, V]{ctx: ctx, running: running, keep: keep, follow: follow, entries: map[K]*watch[V]{}}
}

// acquire returns the watch of key, begun if need be; release must follow.
func (s *watches[K, V]) acquire(key K) *watch[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.entries[key]
	if w == nil {
		w = newWatch[V]()
		var ctx context.Context
		ctx, w.cancel = context.WithCancel(s.ctx)
		s.entries[key] = w
		s.running.Go(func() { s.follow(ctx, key, w) })
	}
	w.users++
	if w.idle != nil {
		w.idle.Stop()
		w.idle = nil
	}
	return w
}

// release says that one user is done. The last one starts the clock.
func (s *watches[K, V]) release(key K, w *watch[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.users--; w.users > 0 {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(s.keep, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if w.idle == timer {
			w.cancel()
			delete(s.entries, key)
		}
	})
	w.idle = timer
}
