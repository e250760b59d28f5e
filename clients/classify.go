package clients

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"reflect"
	"syscall"

	"google.golang.org/grpc/codes"
)

// lossKind says what an error means that ended a connection or kept it from
// being made. answered says whether a byte of the answer had arrived: then it
// was no refusal, whatever the error is.
func lossKind(err error, answered bool) Kind {
	var stage *phaseError
	staged := errors.As(err, &stage)
	switch {
	case staged && stage.phase == phaseSetup:
		return Other
	case isTimeout(err):
		return Timeout
	case isTLS(err):
		return TLSFailure
	case staged && stage.phase == phaseTLS && stage.received > 0:
		// The peer began a handshake and left it.
		return TLSFailure
	case answered:
		return Other
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET):
		// Also while dialing: a peer that accepts and resets at once is faster
		// than the dialer's wake-up, so there is no local address then.
		return Reset
	case staged && stage.phase == phaseDial:
		return Other
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.EPIPE):
		return Closed
	}
	return Other
}

// isTimeout is about the caller's own time-out. The kernel's ETIMEDOUT, after a
// minute of unanswered segments, is somebody else's and stays Other.
func isTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// isTLS reports whether the error came out of crypto/tls or crypto/x509. An
// alert sent by the peer has an unexported type there, so it is the package of
// the type that is asked for. With TLS 1.3 a server's refusal of a client
// certificate shows at the first read after the handshake, hence no phase.
func isTLS(err error) bool {
	if err == nil {
		return false
	}
	kind := reflect.TypeOf(err)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if path := kind.PkgPath(); path == "crypto/tls" || path == "crypto/x509" {
		return true
	}
	switch wrapped := err.(type) {
	case interface{ Unwrap() error }:
		return isTLS(wrapped.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range wrapped.Unwrap() {
			if isTLS(inner) {
				return true
			}
		}
	}
	return false
}

// httpKind says what an HTTP status means.
func httpKind(status int) Kind {
	switch status {
	case http.StatusForbidden:
		return Forbidden
	case http.StatusNotFound:
		return NotFound
	case http.StatusTooManyRequests:
		return Limited
	case http.StatusBadRequest:
		return BadRequest
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return Redirected
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	}
	return Allowed
}

// GRPCKind says what a gRPC status code means. Unavailable is also what a client
// library says when nobody answered.
func GRPCKind(code codes.Code) Kind {
	switch code {
	case codes.PermissionDenied:
		return PermissionDenied
	case codes.NotFound:
		return NotFound
	case codes.ResourceExhausted:
		return Limited
	case codes.InvalidArgument:
		return BadRequest
	case codes.Unavailable, codes.DeadlineExceeded:
		return Unavailable
	}
	return Allowed
}
