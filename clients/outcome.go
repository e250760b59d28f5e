package clients

import "time"

// Kind says what became of one call, decided from typed errors, status codes
// and byte counts and never from the text of a message.
type Kind string

// The kinds of outcome. The closed set is listed by Kinds.
const (
	// Allowed: the application answered; Status holds what it said.
	Allowed Kind = "allowed"
	// Forbidden: HTTP status 403 (rule N-01).
	Forbidden Kind = "http-403"
	// PermissionDenied: gRPC status 7 (rule N-02).
	PermissionDenied Kind = "permission-denied"
	// Refused: the peer's kernel answered the SYN with a reset.
	Refused Kind = "refused"
	// Reset: the established connection was reset before a byte arrived.
	Reset Kind = "reset"
	// Closed: the connection was closed in order before a byte arrived (N-08).
	Closed Kind = "closed"
	// TLSFailure: the handshake failed.
	TLSFailure Kind = "tls-failure"
	// NotFound: HTTP 404 or gRPC status 5 (rule N-03).
	NotFound Kind = "not-found"
	// RateLimited: HTTP 429 or gRPC status 8 (rule N-04).
	RateLimited Kind = "rate-limited"
	// Timeout: the call's own time-out ran out; proves nothing by itself.
	Timeout Kind = "timeout"
	// Other: an answer that fits none of the above, for instance a 502, an
	// HTTP/2 protocol error or a connection lost after the first byte.
	Other Kind = "other"
)

// Kinds lists every Kind, so that tables can be checked against it.
func Kinds() []Kind {
	return []Kind{Allowed, Forbidden, PermissionDenied, Refused, Reset, Closed,
		TLSFailure, NotFound, RateLimited, Timeout, Other}
}

// Denial reports whether the kind is a form in which a mesh refuses a call:
// 403, PermissionDenied, or a connection refused, reset or closed before a
// byte. A TCP form is only concluded to be a denial with a second witness.
func (k Kind) Denial() bool {
	switch k {
	case Forbidden, PermissionDenied, Refused, Reset, Closed:
		return true
	}
	return false
}

// Outcome is what one client saw of one call.
type Outcome struct {
	Kind Kind `json:"kind"`
	// Protocol as the caller spoke it: one of Protocols.
	Protocol string `json:"protocol"`
	// HTTPStatus is the status of an HTTP answer, 0 when there was none.
	HTTPStatus int `json:"httpStatus,omitempty"`
	// GRPCStatus is the status code of a gRPC answer, -1 when there was none.
	GRPCStatus int `json:"grpcStatus"`
	// Message is grpc-message or the error's text, for people to read only.
	Message string `json:"message,omitempty"`
	// ProxyError is the l5d-proxy-error header when the client could see it.
	ProxyError string `json:"proxyError,omitempty"`
	// Bytes counts what arrived from the peer's application.
	Bytes int64 `json:"bytes"`
	// LocalAddr is the caller's side of the connection (ip:port), the key by
	// which decision records are found.
	LocalAddr string `json:"localAddr,omitempty"`
	// Reused says that the connection had carried an earlier call.
	Reused bool `json:"reused,omitempty"`
	// ServerNames are the names in the certificate that the server presented,
	// which tells a proxy that terminates TLS from an application behind it.
	ServerNames []string `json:"serverNames,omitempty"`
	// Header and Body are kept when the request says so; the names are in lower
	// case, trailers included, several values joined by ", ".
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"`
	// RequestID is the id that an echo workload logs for each delivery.
	RequestID string    `json:"requestID,omitempty"`
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
}
