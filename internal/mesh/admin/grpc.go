package admin

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// GRPCMetrics counts what a gRPC server does, under the names of rule M-14. The
// options go to grpc.NewServer.
func GRPCMetrics(registry prometheus.Registerer) []grpc.ServerOption {
	labels := []string{"grpc_service", "grpc_method"}
	started := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_server_started_total", Help: "RPCs begun."}, labels)
	handled := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_server_handled_total", Help: "RPCs ended, by code."}, append(labels, "grpc_code"))
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "grpc_server_msg_sent_total", Help: "Messages sent, those of streams and single ones."}, labels)
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "grpc_server_handling_seconds", Help: "Time from begin to end of an RPC.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}, labels)
	registry.MustRegister(started, handled, sent, seconds)

	ended := func(service, method string, began time.Time, err error) {
		handled.WithLabelValues(service, method, status.Code(err).String()).Inc()
		seconds.WithLabelValues(service, method).Observe(time.Since(began).Seconds())
	}
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			service, method := split(info.FullMethod)
			began := time.Now()
			started.WithLabelValues(service, method).Inc()
			response, err := handle(ctx, request)
			if err == nil {
				sent.WithLabelValues(service, method).Inc()
			}
			ended(service, method, began, err)
			return response, err
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			service, method := split(info.FullMethod)
			began := time.Now()
			started.WithLabelValues(service, method).Inc()
			err := handle(server, countingStream{stream, sent.WithLabelValues(service, method)})
			ended(service, method, began, err)
			return err
		}),
	}
}

type countingStream struct {
	grpc.ServerStream
	sent prometheus.Counter
}

func (s countingStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.sent.Inc()
	}
	return err
}

// split takes "/package.Service/Method" apart.
func split(full string) (service, method string) {
	service, method, _ = strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return service, method
}
