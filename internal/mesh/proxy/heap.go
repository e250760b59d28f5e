package proxy

import (
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"
)

// heapMetrics count what is allocated, under the names that Go's own collector
// gives them. That collector stops the program for its figures; these are read
// while it runs.
func heapMetrics() []prometheus.Collector {
	sum := func(names ...string) func() float64 {
		return func() float64 {
			samples := make([]metrics.Sample, len(names))
			for i, name := range names {
				samples[i].Name = name
			}
			metrics.Read(samples)
			total := 0.0
			for _, s := range samples {
				total += float64(s.Value.Uint64())
			}
			return total
		}
	}
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "go_memstats_mallocs_total",
			Help: "Total number of heap objects allocated, both live and gc-ed."},
			sum("/gc/heap/allocs:objects", "/gc/heap/tiny/allocs:objects")),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "go_memstats_heap_alloc_bytes",
			Help: "Number of heap bytes allocated and currently in use."},
			sum("/memory/classes/heap/objects:bytes")),
	}
}
