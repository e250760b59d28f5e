package authz

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// The metrics that the table is made of (rules V-03 to V-05).
const (
	responseTotal   = "response_total"
	denyTotal       = "inbound_http_authz_deny_total"
	latencyBucket   = "response_latency_ms"
	classification  = "classification"
	upperBoundLabel = "le"
)

// series identifies one counter: its name and its labels in sorted order, in
// the exposition format's own notation.
type series string

// sample is what one scrape of one pod said.
type sample struct {
	at     time.Time
	values map[series]float64
	labels map[series]map[string]string
}

// Scrape is how the last attempt to read a pod went.
type Scrape struct {
	Pod string `json:"pod"`
	// At is when a scrape last succeeded, zero when none did.
	At time.Time `json:"at"`
	// Error says why the last attempt failed, empty when it did not.
	Error string `json:"error,omitempty"`
}

// Store keeps the samples of every pod for as long as a window may reach back.
// It is safe for use by several goroutines.
type Store struct {
	mu        sync.Mutex
	retention time.Duration
	pods      map[string]*history
}

type history struct {
	samples []sample
	last    Scrape
}

// NewStore keeps samples for the given time.
func NewStore(retention time.Duration) *Store {
	return &Store{retention: retention, pods: map[string]*history{}}
}

// Add records a successful scrape of a pod (namespace/name).
func (s *Store) Add(pod string, at time.Time, exposition io.Reader) error {
	taken, err := parse(at, exposition)
	if err != nil {
		return fmt.Errorf("read the metrics of %s: %w", pod, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.history(pod)
	h.last = Scrape{Pod: pod, At: at}
	h.samples = append(h.samples, taken)
	// One sample older than the window stays: it is the window's start.
	for len(h.samples) > 1 && at.Sub(h.samples[1].at) >= s.retention {
		h.samples = h.samples[1:]
	}
	return nil
}

// Fail records a scrape that did not succeed.
func (s *Store) Fail(pod string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history(pod).last.Error = err.Error()
}

// Keep forgets every pod that is not named.
func (s *Store) Keep(pods []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pod := range s.pods {
		if !slices.Contains(pods, pod) {
			delete(s.pods, pod)
		}
	}
}

func (s *Store) history(pod string) *history {
	h := s.pods[pod]
	if h == nil {
		h = &history{last: Scrape{Pod: pod}}
		s.pods[pod] = h
	}
	return h
}

// increase is by how much a counter grew within the window.
type increase struct {
	labels map[string]string
	by     float64
}

// increases sums, per metric, how the counters of the pods grew in the window
// that ends now. A counter that is new within the window grew from zero; one
// that went down was restarted and grew from zero too.
func (s *Store) increases(pods []string, now time.Time, window time.Duration) (map[series]increase, []Scrape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := map[series]increase{}
	var scrapes []Scrape
	for _, pod := range pods {
		h := s.pods[pod]
		if h == nil {
			scrapes = append(scrapes, Scrape{Pod: pod, Error: "not scraped yet"})
			continue
		}
		scrapes = append(scrapes, h.last)
		var before sample
		for _, after := range h.samples {
			if now.Sub(after.at) <= window && before.values != nil {
				for id, value := range after.values {
					by := value - before.values[id]
					if by < 0 {
						by = value
					}
					if by > 0 {
						total[id] = increase{labels: after.labels[id], by: total[id].by + by}
					} else if _, seen := total[id]; !seen {
						total[id] = increase{labels: after.labels[id]}
					}
				}
			}
			before = after
		}
	}
	return total, scrapes
}

// parse keeps the inbound series that the table needs.
func parse(at time.Time, exposition io.Reader) (sample, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(exposition)
	if err != nil {
		return sample{}, err
	}
	taken := sample{at: at, values: map[series]float64{}, labels: map[series]map[string]string{}}
	add := func(name string, labels map[string]string, value float64) {
		id := identify(name, labels)
		taken.values[id], taken.labels[id] = value, labels
	}
	for _, name := range append([]string{responseTotal, denyTotal, latencyBucket}, slices.Sorted(maps.Keys(beyond))...) {
		family := families[name]
		if family == nil {
			continue
		}
		for _, metric := range family.Metric {
			labels := labelsOf(metric)
			if d := labels["direction"]; d != "" && d != "inbound" {
				continue
			}
			switch {
			case metric.Counter != nil:
				add(name, labels, metric.Counter.GetValue())
			case metric.Histogram != nil:
				for _, bucket := range metric.Histogram.Bucket {
					bounded := make(map[string]string, len(labels)+1)
					for k, v := range labels {
						bounded[k] = v
					}
					bounded[upperBoundLabel] = fmt.Sprint(bucket.GetUpperBound())
					add(name, bounded, float64(bucket.GetCumulativeCount()))
				}
			}
		}
	}
	return taken, nil
}

func labelsOf(metric *dto.Metric) map[string]string {
	labels := make(map[string]string, len(metric.Label))
	for _, pair := range metric.Label {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

func identify(name string, labels map[string]string) series {
	pairs := make([]string, 0, len(labels))
	for k, v := range labels {
		pairs = append(pairs, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(pairs)
	return series(name + "{" + strings.Join(pairs, ",") + "}")
}
