package inbound

import (
	"net/http"
	"time"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// call is one request on its way.
type call struct {
	sess  *session
	snap  *snapshot
	start time.Time
	// head is its connection's, and this call's while it is judged.
	head *policy.Head
	// http1: the request is HTTP/1, also when HTTP/2 carried it (H-01).
	http1 bool
	// carried: HTTP/2 carried an HTTP/1 request.
	carried bool
	// absolute: an HTTP/1 request whose target has scheme and authority (H-01).
	absolute bool
	grpc     bool
	made     policy.Decision
	// permitted: the application is asked, or the proxy in its place (the admin port).
	permitted bool
	// failed is the status told for an application that could not (N-10), else 0.
	failed int
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

// enter counts the request among those in progress; false when there are too many
// (H-04). leave follows either.
func (s *Server) enter() bool { return s.inFlight.Add(1) <= s.cfg.MaxInFlight }

func (s *Server) leave() { s.inFlight.Add(-1) }

// judge decides on c.head by the policy in force now (H-11). Unless the request is
// permitted, what it returns is the answer.
func (s *Server) judge(c *call) (refused reply) {
	c.made = c.snap.port.Request(c.sess.client, c.head)
	s.decided(c)
	switch c.made.Verdict {
	case policy.Allow:
		c.permitted = true
		return reply{}
	case policy.NotFound:
		return reply{status: http.StatusNotFound, message: "no route found for request"}
	case policy.Ambiguous:
		return reply{status: http.StatusBadRequest, message: "ambiguous request path"}
	case policy.Limited:
		return reply{status: http.StatusTooManyRequests, message: "rate-limited"}
	case policy.Redirect:
		return reply{status: c.made.Status, message: "redirected", location: c.made.Location}
	case policy.Fault:
		return reply{status: http.StatusInternalServerError, message: "unexpected error", close: true}
	}
	return reply{status: http.StatusForbidden, message: "unauthorized request on route"}
}
