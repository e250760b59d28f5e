package inbound

import (
	"errors"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/http2"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// This file is the one place where a decision becomes counters, a record and log
// lines, all from the same value.

// decided notes the decision on a request. For a permitted one nothing is
// allocated, once its connection has had another for the same reason; for a
// refused one only its log line.
func (s *Server) decided(c *call) {
	m, sess, d := s.cfg.Metrics, c.sess, &c.made
	if d.Permit != nil {
		h := sess.labels.http(m, sess, d.Permit)
		h.allow.metric.Inc()
		if d.Verdict == policy.Allow {
			h.request.metric.Inc()
		}
		if d.Permit.Audit {
			s.note("Request allowed", sess, d.Server, d.Route, d.Permit)
		}
	}
	switch d.Verdict {
	case policy.Deny:
		sess.labels.refused(m, sess, denial{verdict: policy.Deny, server: d.Server, route: d.Route})
		s.note("Request denied", sess, d.Server, d.Route, nil)
	case policy.NotFound, policy.Ambiguous:
		// No route was chosen for an ambiguous one: it is counted with those that none matches.
		sess.labels.refused(m, sess, denial{verdict: policy.NotFound, server: d.Server})
	case policy.Limited:
		sess.labels.refused(m, sess, denial{verdict: policy.Limited, server: d.Server, route: d.Route, limit: c.snap.port.LimitRef(), scope: d.LimitScope})
	case policy.Fault:
		m.httpError(errUnexpected)
	}
	n := noteOf(sess, c.snap, c.protocol(), d.Verdict.String(), d.Server, d.Permit)
	n.method, n.path, n.route, n.id = c.head.Method, c.head.Path, d.Route, c.head.Field("x-request-id")
	s.cfg.Decisions.add(&n)
}

// allowed notes a permitted connection.
func (s *Server) allowed(sess *session, snap *snapshot, permit *policy.Permit) {
	m := s.cfg.Metrics
	m.tcpAllow.with(concat(sess.labels.connection(m, sess), m.serverValues(permit.Server, sess), refValues(permit.Authz)), inc)
	if permit.Audit {
		s.note("Connection allowed", sess, permit.Server, policy.Ref{}, permit)
	}
	s.opaque(sess, snap, "allow", permit.Server, permit)
}

// denied notes a refused connection; the caller closes it without a byte (N-08).
func (s *Server) denied(sess *session, snap *snapshot) {
	m := s.cfg.Metrics
	m.tcpDeny.with(concat(sess.labels.connection(m, sess), m.serverValues(snap.port.Server, sess)), inc)
	s.note("Connection denied", sess, snap.port.Server, policy.Ref{}, nil)
	s.opaque(sess, snap, "deny", snap.port.Server, nil)
}

// terminated notes an established connection that nothing covers any more, once: it
// may be found again while it is being cut.
func (s *Server) terminated(sess *session, snap *snapshot) {
	if !sess.revoke() {
		return
	}
	m := s.cfg.Metrics
	m.tcpTerminate.with(concat(sess.labels.connection(m, sess), m.serverValues(snap.port.Server, sess)), inc)
	s.note("Connection terminated due to policy change", sess, snap.port.Server, policy.Ref{}, nil)
	s.opaque(sess, snap, "terminate", snap.port.Server, nil)
}

// undiscovered notes a connection that was held in vain: no policy is known for its port.
func (s *Server) undiscovered(sess *session) {
	m := s.cfg.Metrics
	m.tcpError(errNoPolicy, sess.dst.Port())
	m.tcpDeny.with(concat(sess.labels.connection(m, sess), m.serverValues(policy.Ref{}, sess)), inc)
	s.note("Connection denied", sess, policy.Ref{}, policy.Ref{}, nil, "reason", errNoPolicy)
	s.opaque(sess, sess.cell.current.Load(), "deny", policy.Ref{}, nil)
}

// refused notes a connection that the proxy closes without having asked a policy.
// One that its client has left is no refusal, and has no record.
func (s *Server) refused(sess *session, kind, why string, err error) {
	s.cfg.Metrics.tcpError(kind, sess.dst.Port())
	s.log.info("Connection refused", "reason", why, "error", err, "client.addr", sess.client.Addr.String(), "port", sess.dst.Port())
	if kind == errIO {
		return
	}
	snap := &snapshot{}
	if sess.cell != nil {
		snap = sess.cell.current.Load()
	}
	n := noteOf(sess, snap, "opaque", "refuse", policy.Ref{}, nil)
	n.reason = why
	s.cfg.Decisions.add(&n)
}

// opaque remembers the decision on a connection.
func (s *Server) opaque(sess *session, snap *snapshot, verdict string, server policy.Ref, permit *policy.Permit) {
	n := noteOf(sess, snap, "opaque", verdict, server, permit)
	s.cfg.Decisions.add(&n)
}

func noteOf(sess *session, snap *snapshot, protocol, verdict string, server policy.Ref, permit *policy.Permit) note {
	tls, _ := tlsLabels(sess.client.TLS)
	n := note{
		client: sess.client.Addr, identity: sess.client.Identity, tls: tls,
		port: sess.dst.Port(), protocol: protocol, verdict: verdict, server: server,
	}
	if snap.port != nil {
		n.hash = snap.port.Hash
	}
	if permit != nil {
		n.authz = permit.Authz
	}
	return n
}

// note writes a decision's log line, when there is room for one.
func (s *Server) note(msg string, sess *session, server, route policy.Ref, permit *policy.Permit, more ...any) {
	if s.log.admits() {
		s.log.write(msg, append(s.details(sess, server, route, permit), more...)...)
	}
}

// details are the log fields of a decision (N-13).
func (s *Server) details(sess *session, server, route policy.Ref, permit *policy.Permit) []any {
	conn := sess.labels.connection(s.cfg.Metrics, sess)
	fields := []any{
		"server.group", server.Group, "server.kind", server.Kind, "server.name", server.Name,
		"client.tls", conn[3], "client.id", conn[4], "client.ip", sess.client.Addr.Addr().String(), "target.addr", sess.dst.String(),
	}
	if route != (policy.Ref{}) {
		fields = append(fields, "route.group", route.Group, "route.kind", route.Kind, "route.name", route.Name)
	}
	if permit != nil {
		fields = append(fields, "authz.group", permit.Authz.Group, "authz.kind", permit.Authz.Kind, "authz.name", permit.Authz.Name)
	}
	return fields
}

// grpcFailed tells whether a code counts against the server rather than the caller.
func grpcFailed(code int) bool {
	switch code {
	case 2, 4, 13, 14, 15:
		return true
	}
	return false
}

// answered counts the answer to a permitted request once it is complete or has
// broken off. status is 0 for an answer that never came, grpc -1 for none. A client
// that left before there was one has got none.
func (s *Server) answered(c *call, status, grpc int, err error) {
	failed, fault := status >= 500 || grpcFailed(grpc), ""
	switch {
	case c.failed != 0: // the proxy answered in the application's place
		status, grpc, failed = c.failed, -1, true
	case err == nil:
	case errors.Is(err, http1.ErrClient) || errors.Is(err, http2.ErrClient):
		if status == 0 {
			return
		}
	default:
		failed, fault = true, "unclassified"
	}
	s.count(c, status, grpc, failed, fault)
}

func (s *Server) count(c *call, status, grpc int, failed bool, fault string) {
	h := c.sess.labels.http(s.cfg.Metrics, c.sess, c.made.Permit)
	r := h.response(s.cfg.Metrics, status, grpc, failed, fault)
	r.count.metric.Inc()
	r.latency.metric.Observe(float64(time.Since(c.start)) / float64(time.Millisecond))
}
