package inbound

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

type sessionKey struct{}

// Headers of the mesh's own (I-07, H-01, N-06, N-10).
const (
	headerClientID        = "L5d-Client-Id"
	headerOrigProto       = "L5d-Orig-Proto"
	headerProxyError      = "L5d-Proxy-Error"
	headerProxyConnection = "L5d-Proxy-Connection"
)

// serveHTTP1 gives the connection to the HTTP/1 server, which ends the session.
func (s *Server) serveHTTP1(sess *session, conn net.Conn) {
	s.enterHTTP(sess)
	if !s.handoff.give(&httpConn{Conn: conn, session: sess}) {
		sess.end()
	}
}

// serveHTTP2 serves the connection to its end.
func (s *Server) serveHTTP2(ctx context.Context, sess *session, conn net.Conn) {
	defer sess.end()
	s.enterHTTP(sess)
	s.http2.ServeConn(&httpConn{Conn: conn, session: sess}, &http2.ServeConnOpts{
		Context:    context.WithValue(ctx, sessionKey{}, sess),
		BaseConfig: s.http1,
		Handler:    s,
	})
}

func (s *Server) enterHTTP(sess *session) {
	sess.mu.Lock()
	sess.http = true
	sess.mu.Unlock()
}

// call is one request on its way.
type call struct {
	sess  *session
	snap  *snapshot
	start time.Time
	head  policy.Head
	// http1: the request is HTTP/1, also when HTTP/2 carried it (H-01).
	http1 bool
	// carried: HTTP/2 carried an HTTP/1 request.
	carried bool
	// absolute: an HTTP/1 request whose target has scheme and authority (H-01).
	absolute bool
	grpc     bool
	made     policy.Decision
}

// spoken reads off the request what it is: its own version, or the one that it
// says HTTP/2 carries (H-01).
func (c *call) spoken(r *http.Request) {
	switch proto := r.Header.Get(headerOrigProto); {
	case r.ProtoMajor == 1:
		c.http1 = true
		c.absolute = r.URL.Host != "" && r.Method != http.MethodConnect
	case strings.HasPrefix(proto, "HTTP/1"):
		c.http1, c.carried = true, true
		c.absolute = headerHas(strings.Split(proto, ";"), "absolute-form")
	default:
		c.grpc = strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	}
}

// protocol is the word for decision records.
func (c *call) protocol() string {
	switch {
	case c.http1:
		return "http1"
	case c.grpc:
		return "grpc"
	}
	return "http2"
}

// ServeHTTP decides on one request by the policy in force now (H-11) and carries
// the decision out.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sess, ok := r.Context().Value(sessionKey{}).(*session)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	c := &call{sess: sess, start: time.Now(), snap: sess.cell.current.Load()}
	c.spoken(r)
	defer s.inFlight.Add(-1)
	if s.inFlight.Add(1) > s.cfg.MaxInFlight {
		s.overloaded(w, c)
		return
	}
	if r.Method == "PRI" || r.ProtoMajor == 1 && r.ProtoMinor > 1 || !methodForm(r.Method) || !authorityForm(r.Host, r.ProtoMajor == 1) {
		// An HTTP/2 preface that the HTTP/1 server let through, a version nobody
		// speaks, or a head that applications read in more than one way.
		s.answer(w, c, reply{status: http.StatusBadRequest, close: true})
		return
	}
	r.Header.Del(headerOrigProto)
	r.Header.Del(headerClientID) // I-07: never an input, whoever sends it

	c.head = policy.Head{
		Method: r.Method, Path: rawPath(r), RawQuery: r.URL.RawQuery,
		Host: r.Host, Header: r.Header, Now: c.start,
	}
	if c.head.Host == "" {
		c.head.Host = sess.dst.String()
	}
	c.made = c.snap.port.Request(sess.client, &c.head)
	s.decided(c)
	switch c.made.Verdict {
	case policy.Allow:
		s.permitted(w, r, c)
	case policy.NotFound:
		s.answer(w, c, reply{status: http.StatusNotFound, message: "no route found for request"})
	case policy.Ambiguous:
		s.answer(w, c, reply{status: http.StatusBadRequest, message: "ambiguous request path"})
	case policy.Limited:
		s.answer(w, c, reply{status: http.StatusTooManyRequests, message: "rate-limited"})
	case policy.Redirect:
		s.answer(w, c, reply{status: c.made.Status, message: "redirected", location: c.made.Location})
	case policy.Fault:
		s.answer(w, c, reply{status: http.StatusInternalServerError, message: "unexpected error", close: true})
	default:
		s.answer(w, c, reply{status: http.StatusForbidden, message: "unauthorized request on route"})
	}
}

// permitted forwards the request, or answers it when it is for the admin port.
func (s *Server) permitted(w http.ResponseWriter, r *http.Request, c *call) {
	if c.made.Rule != nil {
		c.made.Rule.Apply(r.Header)
		r.Header.Del(headerClientID)
	}
	if c.sess.admin {
		s.serveAdminRequest(w, r, c)
		return
	}
	if r.Method == http.MethodConnect {
		s.connect(w, r, c)
		return
	}
	s.forward(w, r, c)
}

// rawPath is the path as the client sent it, escapes included.
func rawPath(r *http.Request) string {
	if r.Method == http.MethodConnect && r.URL.Path == "" {
		return ""
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") && target != "*" {
		// Absolute form: what follows the authority.
		if i := strings.Index(target, "://"); i >= 0 {
			target = target[i+len("://"):]
			if i = strings.IndexAny(target, "/?"); i >= 0 {
				target = target[i:]
			} else {
				target = ""
			}
		}
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	return target
}
