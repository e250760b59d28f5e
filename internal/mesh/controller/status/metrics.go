package status

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// metrics are those of M-14 that concern status.
type metrics struct{ succeeded, failed, timeouts prometheus.Counter }

func newMetrics(registry prometheus.Registerer, holds func() bool) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		registry.MustRegister(c)
		return c
	}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "resource_status_lease_holder", Help: "1 when this replica writes status."}, func() float64 {
		if holds() {
			return 1
		}
		return 0
	}))
	return &metrics{
		succeeded: counter("resource_status_patch_succeeded_total", "Patches of a status that were taken."),
		failed:    counter("resource_status_patch_failed_total", "Patches of a status that were refused."),
		timeouts:  counter("resource_status_patch_timeout_total", "Patches of a status that nobody answered in time."),
	}
}

// patched counts one patch.
func (m *metrics) patched(err error) {
	switch {
	case err == nil:
		m.succeeded.Inc()
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		m.timeouts.Inc()
	case errors.Is(err, context.Canceled):
	default:
		m.failed.Inc()
	}
}
