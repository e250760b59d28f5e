package emojivoto

import (
	"context"
	"net/http"
	"path"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// metrics is what emoji and voting show on their port named prom.
type metrics struct {
	registry *prometheus.Registry
	handled  *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{prometheus.NewRegistry(), prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_server_handled_total", Help: "Calls answered, by service, method and status code.",
	}, []string{"grpc_service", "grpc_method", "grpc_code"})}
	m.registry.MustRegister(m.handled, collectors.NewGoCollector())
	return m
}

// unary counts each unary call. Reflection, which streams, is not counted.
func (m *metrics) unary(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	out, err := next(ctx, in)
	m.handled.WithLabelValues(path.Base(path.Dir(info.FullMethod)), path.Base(info.FullMethod), status.Code(err).String()).Inc()
	return out, err
}

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
