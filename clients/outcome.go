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
	// NotFound: HTTP 404 or gRPC status 5 (rules N-03, and N-05 for gRPC).
	NotFound Kind = "not-found"
	// Limited: HTTP 429 or gRPC status 8 (rule N-04).
	Limited Kind = "limited"
	// Redirected: HTTP 301, 302, 303, 307 or 308; it is not followed (rule N-05).
	Redirected Kind = "redirected"
	// BadRequest: HTTP 400 or gRPC status 3 (rule H-02, ambiguous paths).
	BadRequest Kind = "bad-request"
	// Unavailable: HTTP 502, 503 or 504, gRPC status 14 or 4: what a proxy says in
	// place of an application that does not answer (rules N-10, H-04). A 502 or
	// 504 proves that policy let the call pass, a 503 proves nothing.
	Unavailable Kind = "unavailable"
	// ProtocolError: the peer answered, and not in the protocol that was spoken,
	// or said that it did not understand it (rule T-19).
	ProtocolError Kind = "protocol-error"
	// Timeout: the call's own time-out ran out; proves nothing by itself.
	Timeout Kind = "timeout"
	// Other: what fits none of the above, for instance a connection lost after
	// the first byte of an answer.
	Other Kind = "other"
)

// Kinds lists every Kind, so that tables can be checked against it.
func Kinds() []Kind {
	return []Kind{Allowed, Forbidden, PermissionDenied, Refused, Reset, Closed,
		TLSFailure, NotFound, Limited, Redirected, BadRequest, Unavailable, ProtocolError, Timeout, Other}
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
	// ProxyConnection is the l5d-proxy-connection header (rules N-07, N-10).
	ProxyConnection string `json:"proxyConnection,omitempty"`
	// Location, ContentType and ContentLength are headers of the answer as they
	// were sent, "" when absent (rules N-01, N-02, N-05).
	Location      string `json:"location,omitempty"`
	ContentType   string `json:"contentType,omitempty"`
	ContentLength string `json:"contentLength,omitempty"`
	// Echoed says that the answer carries the call's own ID, as an echo workload's
	// answers do: the application spoke, and no proxy in its place.
	Echoed bool `json:"echoed,omitempty"`
	// Bytes counts what arrived from the peer's application; of an HTTP answer
	// it is the length of the body.
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
