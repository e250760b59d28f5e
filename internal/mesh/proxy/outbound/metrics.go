package outbound

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// dstLabels are the labels that the destination service may give an endpoint, in
// the order of endpointMeta.labels; metrics carry them with the prefix dst_.
var dstLabels = [...]string{"namespace", "service", "deployment", "pod", "serviceaccount"}

// Help texts. The first two are the inbound side's: it has metrics of the same
// names in the same registry, and a registry wants one text per name.
const (
	helpRequestTotal       = "Permitted HTTP requests."
	helpResponseTotal      = "Answers to permitted HTTP requests."
	helpTCPOpenTotal       = "Connections opened."
	helpTCPCloseTotal      = "Connections closed."
	helpTCPOpenConnections = "Connections open now."
	helpTCPReadBytes       = "Bytes read from peers."
	helpTCPWriteBytes      = "Bytes written to peers."
)

// metrics are the proxy's counters; label names are those of M-04.
type metrics struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	opened    *prometheus.CounterVec
	openNow   *prometheus.GaugeVec
	closed    *prometheus.CounterVec
	read      *prometheus.CounterVec
	written   *prometheus.CounterVec
	// source counts the connections that applications make.
	source *connMetrics
}

// unchecked hides descriptions from the registry: the inbound side has metrics
// of the same names with other labels, told apart by direction.
type unchecked struct{ prometheus.Collector }

func (unchecked) Describe(chan<- *prometheus.Desc) {}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	targets := []string{"tls", "no_tls_reason", "server_id", "target_addr", "target_ip", "target_port"}
	for _, name := range dstLabels {
		targets = append(targets, "dst_"+name)
	}
	direction := prometheus.Labels{"direction": "outbound"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: direction},
			append(labels, targets...))
	}
	m := &metrics{
		requests:  counter("request_total", helpRequestTotal),
		responses: counter("response_total", helpResponseTotal, "status_code", "grpc_status", "classification"),
		opened:    counter("tcp_open_total", helpTCPOpenTotal, "peer"),
		closed:    counter("tcp_close_total", helpTCPCloseTotal, "peer"),
		read:      counter("tcp_read_bytes_total", helpTCPReadBytes, "peer"),
		written:   counter("tcp_write_bytes_total", helpTCPWriteBytes, "peer"),
		openNow: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tcp_open_connections", Help: helpTCPOpenConnections,
			ConstLabels: direction}, append([]string{"peer"}, targets...)),
	}
	m.source = m.conn("src", make([]string, len(targets)))
	if registerer == nil {
		return m, nil
	}
	var failed error
	for _, c := range []prometheus.Collector{m.requests, m.responses, m.opened, m.openNow, m.closed, m.read, m.written} {
		failed = errors.Join(failed, registerer.Register(unchecked{c}))
	}
	if failed != nil {
		return nil, fmt.Errorf("register metrics: %w", failed)
	}
	return m, nil
}

// connMetrics are the counters of one peer's connections.
type connMetrics struct {
	opened, closed, read, written prometheus.Counter
	openNow                       prometheus.Gauge
}

func (c *connMetrics) open()  { c.opened.Inc(); c.openNow.Inc() }
func (c *connMetrics) close() { c.closed.Inc(); c.openNow.Dec() }

func (m *metrics) conn(peer string, target []string) *connMetrics {
	values := append([]string{peer}, target...)
	return &connMetrics{
		opened: m.opened.WithLabelValues(values...), closed: m.closed.WithLabelValues(values...),
		read: m.read.WithLabelValues(values...), written: m.written.WithLabelValues(values...),
		openNow: m.openNow.WithLabelValues(values...),
	}
}

// endpointMetrics are an endpoint's counters, looked up once.
type endpointMetrics struct {
	conn      *connMetrics
	requests  prometheus.Counter
	responses *prometheus.CounterVec
}

func (m *metrics) endpoint(meta endpointMeta) *endpointMetrics {
	tls := "no_identity"
	if meta.identity != "" {
		tls = "true"
	}
	target := []string{tls, meta.reason, meta.identity, meta.addr.String(), meta.addr.Addr().String(), strconv.Itoa(int(meta.addr.Port()))}
	target = append(target, meta.labels[:]...)
	labels := prometheus.Labels{"tls": tls, "no_tls_reason": meta.reason, "server_id": meta.identity,
		"target_addr": target[3], "target_ip": target[4], "target_port": target[5]}
	for i, name := range dstLabels {
		labels["dst_"+name] = meta.labels[i]
	}
	return &endpointMetrics{conn: m.conn("dst", target), requests: m.requests.WithLabelValues(target...), responses: m.responses.MustCurryWith(labels)}
}

// grpcFailures are the gRPC status codes that count as failures.
var grpcFailures = map[string]bool{"2": true, "4": true, "7": true, "13": true, "14": true, "15": true}

// responded counts one answer; grpcStatus is "" when it is not gRPC's.
func (m *endpointMetrics) responded(status int, grpcStatus string) {
	classification := "success"
	if status >= 500 || grpcFailures[grpcStatus] {
		classification = "failure"
	}
	m.responses.WithLabelValues(strconv.Itoa(status), boundedStatus(grpcStatus), classification).Inc()
}

// boundedStatus keeps what a peer sends from becoming a label of its choice.
func boundedStatus(grpcStatus string) string {
	if grpcStatus == "" {
		return ""
	}
	if n, err := strconv.Atoi(grpcStatus); err != nil || n < 0 || n > 16 {
		return "other"
	}
	return grpcStatus
}
