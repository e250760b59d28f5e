package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/controller/watch"
)

// metrics registers what the parts do not register themselves.
func (c *controller) metrics() {
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "policy_removed_by_list_total", Help: "Objects that a list has shown to be gone and no event had announced.",
	}, []string{"kind"})
	c.admin.Registry.MustRegister(removed, marks{c.watcher.Marks},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "policy_watched_ports", Help: "Pod ports whose policy somebody watches."},
			func() float64 { ports, _ := c.index.Watched(); return float64(ports) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "policy_watchers", Help: "Streams that watch the policy of a pod's port."},
			func() float64 { _, watchers := c.index.Watched(); return float64(watchers) }),
	)
	c.watcher.RemovedByList = func(kind watch.Kind, n int) { removed.WithLabelValues(string(kind)).Add(float64(n)) }
}

// marks shows how far the index is with each kind.
type marks struct{ *watch.Marks }

var observed = prometheus.NewDesc("policy_observed_resource_version", "Highest resourceVersion that the index has taken.", []string{"kind"}, nil)

// Describe implements prometheus.Collector.
func (m marks) Describe(out chan<- *prometheus.Desc) { out <- observed }

// Collect implements prometheus.Collector.
func (m marks) Collect(out chan<- prometheus.Metric) {
	for kind, version := range m.Seen() {
		out <- prometheus.MustNewConstMetric(observed, prometheus.GaugeValue, float64(version), string(kind))
	}
}
