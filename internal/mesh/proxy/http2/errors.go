package http2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// ErrCode is an HTTP/2 error code, as in RST_STREAM and GOAWAY.
type ErrCode = http2.ErrCode

var (
	// ErrCanceled: the client reset the stream or went away.
	ErrCanceled = errors.New("the client went away")
	// ErrClosed is returned by a Stream's methods once its connection has ended.
	ErrClosed = errors.New("the connection has ended")
)

// DialError is told to Failed when there was no connection to the application.
type DialError struct{ Err error }

func (e *DialError) Error() string { return "connect to the application: " + e.Err.Error() }

// Unwrap returns the dial's error.
func (e *DialError) Unwrap() error { return e.Err }

// ResetError: the application reset the stream, or ended the connection, with Code.
type ResetError struct{ Code ErrCode }

func (e *ResetError) Error() string { return fmt.Sprintf("reset by the application: %s", e.Code) }

// connError ends a connection; the peer is told code.
type connError struct {
	code   ErrCode
	reason string
}

func (e *connError) Error() string { return fmt.Sprintf("%s: %s", e.code, e.reason) }
