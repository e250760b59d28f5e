package http2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// ErrCode is an HTTP/2 error code, as in RST_STREAM and GOAWAY.
type ErrCode = http2.ErrCode

// Errors of an exchange, wrapped with what happened.
var (
	// ErrClient: the client reset the stream, went away or broke the protocol.
	ErrClient = errors.New("client went away")
	// ErrApplication: the answer broke off or was none.
	ErrApplication = errors.New("application failed")
	// ErrClosed is what a Stream's methods return once its connection has ended.
	ErrClosed = errors.New("connection has ended")
)

// DialError is an application that could not be reached; the error of the dial
// says whether that timed out (N-10).
type DialError struct{ Err error }

func (e *DialError) Error() string { return "application not reachable: " + e.Err.Error() }

// Unwrap returns the error of the dial.
func (e *DialError) Unwrap() error { return e.Err }

// ResetError is a stream that the application reset with Code, or that was reset
// because what it sent was no answer. It wraps ErrApplication.
type ResetError struct{ Code ErrCode }

func (e *ResetError) Error() string { return fmt.Sprintf("%v: reset: %s", ErrApplication, e.Code) }

// Unwrap returns ErrApplication.
func (e *ResetError) Unwrap() error { return ErrApplication }

// connError ends a connection; the peer is told code.
type connError struct {
	code   ErrCode
	reason string
}

func (e *connError) Error() string { return fmt.Sprintf("%s: %s", e.code, e.reason) }
