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

// decided notes the decision on a request.
func (s *Server) decided(c *call) {
	m, sess, d := s.cfg.Metrics, c.sess, &c.made
	verdict := d.Verdict.String()
	if d.Permit != nil {
		h := sess.labels.http(m, sess, d.Permit)
		h.allow.metric.Inc()
		if d.Permit.Audit {
			s.log.info("Request allowed", s.details(sess, d.Server, d.Route, d.Permit)...)
		}
	}
	conn := func() []string { return sess.labels.connection(m, sess) }
	server := func() []string { return m.serverValues(d.Server, sess) }
	switch d.Verdict {
	case policy.Deny:
		m.httpDeny.with(concat(conn(), server(), refValues(d.Route)), inc)
		s.log.info("Request denied", s.details(sess, d.Server, d.Route, nil)...)
	case policy.NotFound:
		m.routeNotFound.with(concat(conn(), server()), inc)
	case policy.Ambiguous:
		// No route was chosen for it; it is counted with those that none matches.
		m.routeNotFound.with(concat(conn(), server()), inc)
	case policy.Limited:
		limit := c.snap.port.LimitRef()
		m.rateLimited.with(concat(conn(), server(), refValues(d.Route), refValues(limit), []string{d.LimitScope}), inc)
	case policy.Fault:
		m.httpError(errUnexpected)
	case policy.Allow:
		sess.labels.http(m, sess, d.Permit).request.metric.Inc()
	}
	record := s.record(sess, c.snap, c.protocol(), verdict, d.Server, d.Permit)
	record.Method, record.Path, record.Route = string(c.head.Method), string(c.head.Path), d.Route.String()
	record.RequestID = string(c.head.Field("x-request-id"))
	s.cfg.Decisions.add(record)
}

// allowed notes a permitted connection.
func (s *Server) allowed(sess *session, snap *snapshot, permit *policy.Permit) {
	m := s.cfg.Metrics
	m.tcpAllow.with(concat(sess.labels.connection(m, sess), m.serverValues(permit.Server, sess), refValues(permit.Authz)), inc)
	if permit.Audit {
		s.log.info("Connection allowed", s.details(sess, permit.Server, policy.Ref{}, permit)...)
	}
	s.cfg.Decisions.add(s.record(sess, snap, "opaque", "allow", permit.Server, permit))
}

// denied notes a refused connection; the caller closes it without a byte (N-08).
func (s *Server) denied(sess *session, snap *snapshot) {
	m := s.cfg.Metrics
	m.tcpDeny.with(concat(sess.labels.connection(m, sess), m.serverValues(snap.port.Server, sess)), inc)
	s.log.info("Connection denied", s.details(sess, snap.port.Server, policy.Ref{}, nil)...)
	s.cfg.Decisions.add(s.record(sess, snap, "opaque", "deny", snap.port.Server, nil))
}

// terminated notes an established connection that nothing covers any more.
func (s *Server) terminated(sess *session, snap *snapshot) {
	m := s.cfg.Metrics
	m.tcpTerminate.with(concat(sess.labels.connection(m, sess), m.serverValues(snap.port.Server, sess)), inc)
	s.log.info("Connection terminated due to policy change", s.details(sess, snap.port.Server, policy.Ref{}, nil)...)
	s.cfg.Decisions.add(s.record(sess, snap, "opaque", "terminate", snap.port.Server, nil))
}

// undiscovered notes a connection that was held in vain: no policy is known for its port.
func (s *Server) undiscovered(sess *session) {
	m := s.cfg.Metrics
	m.tcpError(errNoPolicy, sess.dst.Port())
	m.tcpDeny.with(concat(sess.labels.connection(m, sess), m.serverValues(policy.Ref{}, sess)), inc)
	s.log.info("Connection denied", append(s.details(sess, policy.Ref{}, policy.Ref{}, nil), "reason", errNoPolicy)...)
	s.cfg.Decisions.add(s.record(sess, sess.cell.current.Load(), "opaque", "deny", policy.Ref{}, nil))
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
	record := s.record(sess, snap, "opaque", "refuse", policy.Ref{}, nil)
	record.Reason = why
	s.cfg.Decisions.add(record)
}

func (s *Server) record(sess *session, snap *snapshot, protocol, verdict string, server policy.Ref, permit *policy.Permit) Decision {
	d := Decision{
		Client: sess.client.Addr.String(), ClientIdentity: sess.client.Identity,
		TLS:        sess.labels.connection(s.cfg.Metrics, sess)[3],
		TargetPort: sess.dst.Port(), Protocol: protocol, Verdict: verdict, Server: server.String(),
	}
	if snap.port != nil {
		d.Hash = snap.port.Hash
	}
	if permit != nil {
		d.Authorization = permit.Authz.String()
	}
	return d
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

// grpcFailures are the codes that count against the server rather than the caller.
var grpcFailures = map[int]bool{2: true, 4: true, 13: true, 14: true, 15: true}

// answered counts the answer to a permitted request once it is complete or has
// broken off. status is 0 for an answer that never came, grpc -1 for none. A client
// that left before there was one has got none.
func (s *Server) answered(c *call, status, grpc int, err error) {
	failed, fault := status >= 500 || grpcFailures[grpc], ""
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
