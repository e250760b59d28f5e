// Package report tells people what the index finds wrong with objects that have
// no status: as an Event on the object, a metric, and a log line.
//
// The index says which namespaces have changed; after a moment of quiet their
// findings are computed and compared with what was told before. A finding is
// told when it begins or its text changes, and its metric ends with it.
//
// It refuses to hold up policy: it works beside the index, and an API server
// that takes no events costs nothing but the events.
package report

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

const (
	// settling is how long a namespace is left alone after a change before its
	// findings count: objects that are applied together, or a pod that is being
	// replaced, look wrong for a moment.
	settling = 500 * time.Millisecond
	// restFactor is how much longer than it worked the reporter rests: findings are
	// looked for in whole namespaces, and must not cost more than a twentieth of a
	// processor however large these are.
	restFactor = 20
	// eventTimeout bounds the writing of one event.
	eventTimeout = 5 * time.Second
)

// Recorder writes a finding where users look for it.
type Recorder interface {
	Record(ctx context.Context, finding index.Finding) error
}

// Reporter is made by New.
type Reporter struct {
	index    *index.Index
	recorder Recorder

	// mu guards what follows.
	mu sync.Mutex
	// changed are the namespaces to look at, filled by Note.
	changed map[string]bool
	// told holds the findings that stand, by namespace. Only Run changes it; the
	// lock is for the metric.
	told map[string]map[key]index.Finding
	// wake holds a token while changed is not empty.
	wake chan struct{}

	events *prometheus.CounterVec
}

type key struct {
	object index.Object
	reason index.Reason
}

// New makes a reporter and registers its metrics. It must be the index's OnChange
// (Note) before the first transaction.
func New(x *index.Index, recorder Recorder, registry prometheus.Registerer) *Reporter {
	r := &Reporter{
		index: x, recorder: recorder, changed: map[string]bool{}, told: map[string]map[key]index.Finding{}, wake: make(chan struct{}, 1),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "policy_events_total", Help: "Events about objects that do not do what they seem to, by reason and whether they could be written."},
			[]string{"reason", "result"}),
	}
	registry.MustRegister(r.events, collector{r})
	return r
}

// Note takes note that namespaces have changed. It never blocks.
func (r *Reporter) Note(namespaces []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, namespace := range namespaces {
		r.changed[namespace] = true
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends. It begins once synced is closed: what is found in
// half a cluster is not true.
func (r *Reporter) Run(ctx context.Context, synced <-chan struct{}) {
	select {
	case <-synced:
	case <-ctx.Done():
		return
	}
	var worked time.Duration
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		quiet := time.NewTimer(max(settling, restFactor*worked))
		select {
		case <-quiet.C:
		case <-ctx.Done():
			quiet.Stop()
			return
		}
		worked = 0
		for _, namespace := range r.take() {
			began := time.Now()
			fresh := r.compare(namespace)
			worked += time.Since(began)
			for _, finding := range fresh {
				r.tell(ctx, finding)
			}
		}
	}
}

func (r *Reporter) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := make([]string, 0, len(r.changed))
	for namespace := range r.changed {
		taken = append(taken, namespace)
	}
	clear(r.changed)
	return taken
}

// compare replaces what stands of a namespace and returns what is new in it.
func (r *Reporter) compare(namespace string) []index.Finding {
	found := r.index.Findings(namespace)
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.told[namespace]
	now := make(map[key]index.Finding, len(found))
	var fresh []index.Finding
	for _, finding := range found {
		k := key{finding.Object, finding.Reason}
		now[k] = finding
		if before[k] != finding {
			fresh = append(fresh, finding)
		}
	}
	delete(r.told, namespace)
	if len(now) > 0 {
		r.told[namespace] = now
	}
	return fresh
}

func (r *Reporter) tell(ctx context.Context, finding index.Finding) {
	log := slog.With("kind", finding.Object.Kind, "namespace", finding.Object.Namespace, "name", finding.Object.Name, "reason", finding.Reason)
	log.Warn(finding.Message)
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	result := "written"
	if err := r.recorder.Record(ctx, finding); err != nil {
		result = "failed"
		log.Error("event was not written", "error", err)
	}
	r.events.WithLabelValues(string(finding.Reason), result).Inc()
}

// collector shows the findings that stand: one series of value 1 each.
type collector struct{ *Reporter }

var findings = prometheus.NewDesc("policy_findings", "Objects that do not do what they seem to; 1 while it is so.",
	[]string{"kind", "namespace", "name", "reason"}, nil)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) { out <- findings }

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, standing := range c.told {
		for k := range standing {
			out <- prometheus.MustNewConstMetric(findings, prometheus.GaugeValue, 1, k.object.Kind, k.object.Namespace, k.object.Name, string(k.reason))
		}
	}
}
