package inbound

import (
	"net/http"
	"strconv"

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

// answer writes a reply in the form the request's version and content type ask
// for (N-01, N-02): an empty body, content-length 0, no content type; or, to
// gRPC, headers only. net/http adds the date.
func (s *Server) answer(w http.ResponseWriter, c *call, r reply) {
	h := w.Header()
	clear(h)
	h.Set("Content-Length", "0")
	identified := c.sess.client.TLS == policy.Terminated && c.sess.client.Identity != ""
	message := ""
	if identified && r.message != "" {
		message = "client " + c.sess.client.Addr.String() + ": server: " + c.sess.dst.String() + ": " + r.message
	}
	if message != "" {
		h.Set(headerProxyError, message)
	}
	if r.close {
		// Over HTTP/2 the server makes a GOAWAY of it: no further request comes
		// over this connection, and a peer may try elsewhere (N-10).
		h.Set("Connection", "close")
		if identified {
			h.Set(headerProxyConnection, "close")
		}
	}
	if !c.grpc {
		if r.location != "" {
			h.Set("Location", r.location)
		}
		w.WriteHeader(r.status)
		return
	}
	code, ok := grpcStatus[r.status]
	if r.location != "" {
		code, ok = grpcRedirected, true
	}
	if !ok {
		code = 2
	}
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(code))
	if message != "" {
		h.Set("Grpc-Message", message)
	}
	w.WriteHeader(http.StatusOK)
}

// overloaded answers before any policy is asked (H-04): it proves nothing about access.
func (s *Server) overloaded(w http.ResponseWriter, c *call) {
	s.cfg.Metrics.httpError(errLoadShed)
	s.answer(w, c, reply{status: http.StatusServiceUnavailable, message: "too many requests in flight", close: true})
}
