package http2

import (
	"testing"

	"go.uber.org/goleak"
)

// Invariant 8: whatever ended a connection, no goroutine of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
