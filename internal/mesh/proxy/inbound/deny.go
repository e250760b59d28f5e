package inbound

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/meshproof/meshproof/internal/mesh/proxy/http1"
	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// reply is an answer of the proxy's own.
type reply struct {
	status int
	// message is told to identified clients only (N-06).
	message  string
	location string
	// close: the connection ends after the answer (N-10, N-12).
	close bool
}

// grpcStatus gives each status of ours its gRPC code (N-02 to N-05, N-10).
var grpcStatus = map[int]int{
	http.StatusForbidden:           7,
	http.StatusNotFound:            5,
	http.StatusTooManyRequests:     8,
	http.StatusBadRequest:          3,
	http.StatusInternalServerError: 13,
	http.StatusBadGateway:          14,
	http.StatusServiceUnavailable:  14,
	http.StatusGatewayTimeout:      4,
}

const grpcRedirected = 5 // N-05

// Names of the mesh's own fields (I-07, N-06, N-10).
const (
	headerClientID        = "l5d-client-id"
	headerProxyError      = "l5d-proxy-error"
	headerProxyConnection = "l5d-proxy-connection"
)

// names are those of the fields of our answers, as a version writes them.
type names struct{ proxyError, proxyConnection, location string }

var (
	names1 = names{"L5d-Proxy-Error", "L5d-Proxy-Connection", "Location"}
	names2 = names{headerProxyError, headerProxyConnection, "location"}
)

// explain appends the fields of an answer that is not gRPC's (N-01) beside its
// length and date.
func explain(to []policy.Header, n *names, c *call, r reply) []policy.Header {
	if message := c.told(r); message != "" {
		to = append(to, policy.Header{Name: n.proxyError, Value: message})
	}
	if r.close && c.identified() {
		to = append(to, policy.Header{Name: n.proxyConnection, Value: "close"})
	}
	if r.location != "" && !c.grpc {
		to = append(to, policy.Header{Name: n.location, Value: printable(r.location)})
	}
	return to
}

// printable is a value without what would end its line.
func printable(value string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, value)
}

// grpcCode is the gRPC status of an answer (N-02).
func grpcCode(r reply) string {
	code, ok := grpcStatus[r.status]
	if r.location != "" {
		code, ok = grpcRedirected, true
	}
	if !ok {
		code = 2
	}
	return strconv.Itoa(code)
}

func (c *call) identified() bool {
	return c.sess.client.TLS == policy.Terminated && c.sess.client.Identity != ""
}

// told is what the client may know of the reason: nothing, unless it is identified (N-06).
func (c *call) told(r reply) string {
	if r.message == "" || !c.identified() {
		return ""
	}
	return "client " + c.sess.client.Addr.String() + ": server: " + c.sess.dst.String() + ": " + r.message
}

// overloaded answers before any policy is asked (H-04): it proves nothing about access.
func (s *Server) overloaded() reply {
	s.cfg.Metrics.httpError(errLoadShed)
	s.bite(limitInFlight)
	return reply{status: http.StatusServiceUnavailable, message: "too many requests in flight", close: true}
}

// unanswered answers for an application that could not (N-10).
func (s *Server) unanswered(c *call, err error) reply {
	r, kind := reply{status: http.StatusBadGateway, message: "application not reachable", close: true}, errIO
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		r.status, r.message, kind = http.StatusGatewayTimeout, "application connect timed out", "failfast"
		s.bite(limitConnectTime)
	}
	s.cfg.Metrics.httpError(kind)
	s.log.info("Application failed", "error", err, "target.addr", c.sess.dst.String())
	c.failed = r.status
	return r
}

// Limits that bite are counted with the errors, by these words before their names.
const (
	errLimit     = "limit: "
	errMalformed = "malformed"
)

// malformed counts a client's message that was refused for what it is; an
// application's is counted by what it leads to (unanswered).
func (s *Server) malformed(from http1.Side, why error) {
	if from == http1.Client {
		s.malformed2(why)
	}
}

// malformed2 is malformed for HTTP/2.
func (s *Server) malformed2(why error) {
	s.cfg.Metrics.httpError(errMalformed)
	s.log.info("Request refused", "reason", why)
}

// responded notes the end of a call.
func (s *Server) responded(c *call, status, grpc int, err error) {
	s.leave()
	if c.permitted {
		s.answered(c, status, grpc, err)
	}
}
