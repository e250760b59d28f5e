package inbound

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// maxCachedPermits bounds the caches of one long-lived connection over many policy changes.
const maxCachedPermits = 64

// labelCache keeps the series that a connection counts in, so that a request finds
// its own without making labels of it. They are held as long as the connection.
type labelCache struct {
	// last is what the last request used: most connections need no other.
	last atomic.Pointer[handles]

	mu       sync.Mutex
	conn     []string
	known    map[*policy.Permit]*handles
	refusals map[denial]*series[prometheus.Counter]
	ended    bool
}

// denial is what the series of a refused request are told apart by.
type denial struct {
	// verdict is Deny, NotFound or Limited.
	verdict              policy.Verdict
	server, route, limit policy.Ref
	scope                string
}

func (l *labelCache) connection(m *Metrics, sess *session) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connLocked(m, sess)
}

func (l *labelCache) connLocked(m *Metrics, sess *session) []string {
	if l.conn == nil {
		l.conn = m.connValues(sess)
	}
	return l.conn
}

// http returns the series of a permitted request.
func (l *labelCache) http(m *Metrics, sess *session, permit *policy.Permit) *handles {
	if h := l.last.Load(); h != nil && h.permit == permit {
		return h
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.known[permit]
	if h == nil {
		if h = l.enter(m, sess, permit); l.ended {
			h.release() // the last answer of a connection that is over
			return h
		}
	}
	l.last.Store(h)
	return h
}

// enter makes and keeps the series of a permit; l.mu is locked.
func (l *labelCache) enter(m *Metrics, sess *session, permit *policy.Permit) *handles {
	labels := concat([]string{"inbound"}, l.connLocked(m, sess), m.serverValues(permit.Server, sess), refValues(permit.Route), refValues(permit.Authz))
	h := &handles{
		permit:    permit,
		labels:    labels,
		allow:     m.httpAllow.hold(labels[1:]),
		request:   m.requests.hold(labels),
		responses: map[responseKey]*response{},
	}
	if l.ended {
		return h
	}
	if l.known == nil || len(l.known) >= maxCachedPermits {
		l.releasePermits()
		l.known = map[*policy.Permit]*handles{}
	}
	l.known[permit] = h
	return h
}

// refused counts a request that was not permitted, or was over a limit.
func (l *labelCache) refused(m *Metrics, sess *session, r denial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.refusals[r]
	if s == nil {
		s = m.refusal(l.connLocked(m, sess), m.serverValues(r.server, sess), r)
		if l.ended {
			defer s.release()
		} else {
			if l.refusals == nil || len(l.refusals) >= maxCachedPermits {
				l.releaseRefusals()
				l.refusals = map[denial]*series[prometheus.Counter]{}
			}
			l.refusals[r] = s
		}
	}
	s.metric.Inc()
}

// refusal holds the series of a refused request.
func (m *Metrics) refusal(conn, server []string, r denial) *series[prometheus.Counter] {
	switch r.verdict {
	case policy.NotFound:
		return m.routeNotFound.hold(concat(conn, server))
	case policy.Limited:
		return m.rateLimited.hold(concat(conn, server, refValues(r.route), refValues(r.limit), []string{r.scope}))
	}
	return m.httpDeny.hold(concat(conn, server, refValues(r.route)))
}

// release is called at the connection's end.
func (l *labelCache) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.releasePermits()
	l.releaseRefusals()
	l.known, l.refusals = nil, nil
}

func (l *labelCache) releasePermits() {
	l.last.Store(nil)
	for _, h := range l.known {
		h.release()
	}
}

func (l *labelCache) releaseRefusals() {
	for _, s := range l.refusals {
		s.release()
	}
}

// handles are the series of one permit on one connection.
type handles struct {
	permit         *policy.Permit
	allow, request *series[prometheus.Counter]
	labels         []string // direction, connection, server, route, authorization

	// last is what the last answer was counted in: most are alike.
	last atomic.Pointer[response]

	mu        sync.Mutex
	responses map[responseKey]*response
	released  bool
}

type responseKey struct {
	status, grpc int
	failed       bool
	fault        string
}

type response struct {
	key     responseKey
	count   *series[prometheus.Counter]
	latency *series[prometheus.Observer]
}

func (r *response) release() {
	r.count.release()
	r.latency.release()
}

// release lets all series go; what is asked for afterwards is not held.
func (h *handles) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	h.last.Store(nil)
	h.allow.release()
	h.request.release()
	for _, r := range h.responses {
		r.release()
	}
}

// response returns the series of an answer. status 0 is an answer that never came; grpc -1 is none.
func (h *handles) response(m *Metrics, status, grpc int, failed bool, fault string) *response {
	key := responseKey{status, grpc, failed, fault}
	if r := h.last.Load(); r != nil && r.key == key {
		return r
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.responses[key]
	if !ok {
		if r = h.enter(m, key); h.released {
			r.release()
			return r
		}
		h.responses[key] = r
	}
	h.last.Store(r)
	return r
}

// enter makes the series of an answer, which are held.
func (h *handles) enter(m *Metrics, key responseKey) *response {
	code, grpcCode, class := "", "", "success"
	if key.status != 0 {
		code = strconv.Itoa(key.status)
	}
	if key.grpc >= 0 {
		grpcCode = strconv.Itoa(key.grpc)
	}
	if key.failed {
		class = "failure"
	}
	return &response{
		key:     key,
		count:   m.responses.hold(concat(h.labels, []string{code, class, grpcCode, key.fault})),
		latency: m.latency.hold(concat(h.labels, []string{code})),
	}
}
