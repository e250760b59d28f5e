package inbound

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// seriesRetention is how long a series is shown after its last use (M-12): the
// pods of a cluster come and go, and a proxy must not remember all of them.
const seriesRetention = 10 * time.Minute

// vector is a metric with labels whose idle series are forgotten when somebody
// looks. What holds a series keeps it.
type vector[M any] struct {
	prometheus.Collector
	enter func(values ...string) M
	drop  func(values ...string) bool
	clock func() time.Time

	// mu is read-locked by uses, so that no use is lost to a series that is being
	// forgotten.
	mu    sync.RWMutex
	known map[string]*series[M]
}

// series is one row of a vector.
type series[M any] struct {
	metric M
	values []string
	clock  func() time.Time
	// used is when it was last used or let go (UnixNano).
	used    atomic.Int64
	holders atomic.Int64
}

func newCounters(clock func() time.Time, opts prometheus.CounterOpts, labels []string) *vector[prometheus.Counter] {
	vec := prometheus.NewCounterVec(opts, labels)
	return &vector[prometheus.Counter]{Collector: vec, enter: vec.WithLabelValues, drop: vec.DeleteLabelValues, clock: clock, known: map[string]*series[prometheus.Counter]{}}
}

func newHistograms(clock func() time.Time, opts prometheus.HistogramOpts, labels []string) *vector[prometheus.Observer] {
	vec := prometheus.NewHistogramVec(opts, labels)
	return &vector[prometheus.Observer]{Collector: vec, enter: vec.WithLabelValues, drop: vec.DeleteLabelValues, clock: clock, known: map[string]*series[prometheus.Observer]{}}
}

// with has act use the series of these label values.
func (v *vector[M]) with(values []string, act func(M)) {
	key := seriesKey(values)
	v.mu.RLock()
	if s := v.known[key]; s != nil {
		defer v.mu.RUnlock()
		s.used.Store(v.clock().UnixNano())
		act(s.metric)
		return
	}
	v.mu.RUnlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	act(v.find(key, values).metric)
}

// hold returns the series of these label values, which stays until it is released.
func (v *vector[M]) hold(values []string) *series[M] {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.find(seriesKey(values), values)
	s.holders.Add(1)
	return s
}

// release lets the series go, which is idle from then on.
func (s *series[M]) release() {
	s.used.Store(s.clock().UnixNano())
	s.holders.Add(-1)
}

// find returns the series, made if need be; v.mu is locked.
func (v *vector[M]) find(key string, values []string) *series[M] {
	s := v.known[key]
	if s == nil {
		s = &series[M]{metric: v.enter(values...), values: values, clock: v.clock}
		s.used.Store(v.clock().UnixNano())
		v.known[key] = s
	}
	return s
}

// Collect implements prometheus.Collector. It forgets what has been idle.
func (v *vector[M]) Collect(ch chan<- prometheus.Metric) {
	before := v.clock().Add(-seriesRetention).UnixNano()
	v.mu.Lock()
	for key, s := range v.known {
		if s.holders.Load() == 0 && s.used.Load() < before {
			v.drop(s.values...)
			delete(v.known, key)
		}
	}
	v.mu.Unlock()
	v.Collector.Collect(ch)
}

func seriesKey(values []string) string { return strings.Join(values, "\x00") }

// inc is the use that most counters get.
func inc(c prometheus.Counter) { c.Inc() }
