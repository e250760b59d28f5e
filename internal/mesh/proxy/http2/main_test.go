package http2

import (
	"testing"

	"go.uber.org/goleak"
)

// raced: the race detector has pools drop what they are given.
var raced bool

// Invariant 8: whatever ended a connection, no goroutine of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
