package clients

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Watch dials for a library that reports lost connections in words only, and
// remembers what became of them. The zero value is ready. It is meant for a
// client that makes one call.
type Watch struct {
	// OnDialError, when set, is called with each dial that failed, for libraries
	// that would rather try again.
	OnDialError func(error)

	mu      sync.Mutex
	last    *observed
	dialErr error
}

// Dial connects to address.
func (w *Watch) Dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.dialErr = &phaseError{phaseDial, 0, fmt.Errorf("dial %s: %w", address, err)}
		if w.OnDialError != nil {
			w.OnDialError(w.dialErr)
		}
		return nil, w.dialErr
	}
	w.last, w.dialErr = observe(conn), nil
	return w.last, nil
}

// LocalAddr is the caller's side of the last connection, "" when there is none.
func (w *Watch) LocalAddr() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return ""
	}
	return w.last.LocalAddr().String()
}

// Received counts the bytes that arrived on the last connection.
func (w *Watch) Received() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return 0
	}
	return w.last.received.Load()
}

// Kind says what kind of failure it was that the library calls err, when no
// answer came: the connection's own fate where there is one.
func (w *Watch) Kind(err error) Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dialErr != nil {
		return lossKind(w.dialErr, false)
	}
	if isTLS(err) {
		return TLSFailure
	}
	if w.last != nil {
		if loss := w.last.loss(); loss != nil {
			return lossKind(loss, w.last.received.Load() > 0)
		}
	}
	return lossKind(err, true)
}
