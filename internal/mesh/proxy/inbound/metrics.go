package inbound

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/http2"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// Label names (M-04). The order is that of the value slices built below.
var (
	connLabels   = []string{"target_addr", "target_ip", "target_port", "tls", "client_id", "no_tls_reason", "sni"}
	serverLabels = []string{"srv_group", "srv_kind", "srv_name", "srv_port"}
	routeLabels  = []string{"route_group", "route_kind", "route_name"}
	authzLabels  = []string{"authz_group", "authz_kind", "authz_name"}
	limitLabels  = []string{"ratelimit_group", "ratelimit_kind", "ratelimit_name", "ratelimit_scope"}
)

// latencyBuckets are in milliseconds, from one to fifty thousand.
var latencyBuckets = []float64{
	1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
	1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
}

// maxLabelValues bounds the values of labels that strangers choose: server names
// and target ports. Beyond it they are called otherLabel.
const (
	maxLabelValues = 512
	otherLabel     = "other"
)

type (
	counters   = *vector[prometheus.Counter]
	histograms = *vector[prometheus.Observer]
)

// Metrics are the inbound metrics of section 4.4. A series that nobody uses is
// forgotten after seriesRetention.
type Metrics struct {
	httpAllow, httpDeny, routeNotFound, rateLimited counters
	tcpAllow, tcpDeny, tcpTerminate                 counters
	httpErrors, tcpErrors                           counters
	requests, responses                             counters
	latency                                         histograms
	detectResults                                   counters
	policyUpdates, policyInvalid, policyOlder       prometheus.Counter
	// bites, bites1 and bites2 are by limit: of this half, of HTTP/1 and of HTTP/2.
	bites, bites1, bites2 []prometheus.Counter

	ports, names valueSet
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics { return newMetrics(registry, time.Now) }

func newMetrics(registry prometheus.Registerer, clock func() time.Time) *Metrics {
	counter := func(name, help string, labels ...[]string) counters {
		c := newCounters(clock, prometheus.CounterOpts{Name: name, Help: help}, concat(labels...))
		registry.MustRegister(c)
		return c
	}
	direction := []string{"direction"}
	m := &Metrics{
		httpAllow:     counter("inbound_http_authz_allow_total", "HTTP requests that were authorized.", connLabels, serverLabels, routeLabels, authzLabels),
		httpDeny:      counter("inbound_http_authz_deny_total", "HTTP requests that were denied.", connLabels, serverLabels, routeLabels),
		routeNotFound: counter("inbound_http_route_not_found_total", "HTTP requests that no route matches.", connLabels, serverLabels),
		rateLimited:   counter("inbound_http_local_ratelimit_total", "HTTP requests over a rate limit.", connLabels, serverLabels, routeLabels, limitLabels),
		tcpAllow:      counter("inbound_tcp_authz_allow_total", "TCP connections that were authorized.", connLabels, serverLabels, authzLabels),
		tcpDeny:       counter("inbound_tcp_authz_deny_total", "TCP connections that were denied.", connLabels, serverLabels),
		tcpTerminate:  counter("inbound_tcp_authz_terminate_total", "TCP connections cut because of a policy change.", connLabels, serverLabels),
		httpErrors:    counter("inbound_http_errors_total", "HTTP requests that failed in the proxy, policy denials aside.", []string{"error"}),
		tcpErrors:     counter("inbound_tcp_errors_total", "TCP connections that failed in the proxy, policy denials aside.", []string{"error", "target_port"}),
		requests:      counter("request_total", "Permitted HTTP requests.", direction, connLabels, serverLabels, routeLabels, authzLabels),
		responses: counter("response_total", "Answers to permitted HTTP requests.", direction, connLabels, serverLabels, routeLabels, authzLabels,
			[]string{"status_code", "classification", "grpc_status", "error"}),
		detectResults: counter("inbound_tcp_detect_http_results_total", "Outcomes of HTTP detection.", []string{"result"}, serverLabels),
		latency: newHistograms(clock, prometheus.HistogramOpts{
			Name: "response_latency_ms", Help: "Time from the head of a permitted request to the end of its answer.", Buckets: latencyBuckets,
		}, concat(direction, connLabels, serverLabels, routeLabels, authzLabels, []string{"status_code"})),
		policyUpdates: prometheus.NewCounter(prometheus.CounterOpts{Name: "inbound_policy_updates_total", Help: "Policy messages brought into force."}),
		policyInvalid: prometheus.NewCounter(prometheus.CounterOpts{Name: "inbound_policy_invalid_total", Help: "Policy messages that were not understood."}),
		policyOlder:   prometheus.NewCounter(prometheus.CounterOpts{Name: "inbound_policy_older_total", Help: "Policy messages turned down because a newer policy was in force."}),
	}
	bites := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inbound_limits_total", Help: "Times that a limit has ended or refused something."}, []string{"part", "limit"})
	for l := range limits {
		m.bites = append(m.bites, bites.WithLabelValues("inbound", l.String()))
	}
	for l := range http1.EachLimit {
		m.bites1 = append(m.bites1, bites.WithLabelValues("http1", l.String()))
	}
	for l := range http2.EachLimit {
		m.bites2 = append(m.bites2, bites.WithLabelValues("http2", l.String()))
	}
	registry.MustRegister(m.latency, m.policyUpdates, m.policyInvalid, m.policyOlder, bites)
	return m
}

// valueSet admits a bounded number of label values.
type valueSet struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

func (v *valueSet) admit(value string) string {
	if value == "" {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.seen[value]; ok {
		return value
	}
	if len(v.seen) >= maxLabelValues {
		return otherLabel
	}
	if v.seen == nil {
		v.seen = map[string]struct{}{}
	}
	v.seen[value] = struct{}{}
	return value
}

// connValues are the values of connLabels (M-05).
func (m *Metrics) connValues(sess *session) []string {
	port := m.ports.admit(strconv.Itoa(int(sess.dst.Port())))
	ip := sess.dst.Addr().String()
	tls, reason := tlsLabels(sess.client.TLS)
	id, sni := "", ""
	switch sess.client.TLS {
	case policy.Terminated:
		id = sess.client.Identity
	case policy.PassThrough:
		sni = m.names.admit(sess.client.SNI)
	}
	return []string{ip + ":" + port, ip, port, tls, id, reason, sni}
}

// tlsLabels are the values of tls and no_tls_reason (M-05).
func tlsLabels(state policy.TLSState) (tls, reason string) {
	switch state {
	case policy.Terminated:
		return "true", ""
	case policy.PassThrough:
		return "opaque", ""
	case policy.Loopback:
		return "no_identity", "loopback"
	case policy.PortSkipped:
		return "no_identity", "port_skipped"
	}
	return "no_identity", "no_tls_from_remote"
}

func (m *Metrics) serverValues(server policy.Ref, sess *session) []string {
	port := m.ports.admit(strconv.Itoa(int(sess.dst.Port())))
	return []string{server.Group, server.Kind, server.Name, port}
}

func refValues(ref policy.Ref) []string { return []string{ref.Group, ref.Kind, ref.Name} }

func concat(parts ...[]string) []string {
	var all []string
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func (m *Metrics) tcpError(kind string, port uint16) {
	label := ""
	if port != 0 {
		label = m.ports.admit(strconv.Itoa(int(port)))
	}
	m.tcpErrors.with([]string{kind, label}, inc)
}

func (m *Metrics) httpError(kind string) { m.httpErrors.with([]string{kind}, inc) }

func (m *Metrics) detected(snap *snapshot, sess *session, result string) {
	m.detectResults.with(concat([]string{result}, m.serverValues(snap.port.Server, sess)), inc)
}
