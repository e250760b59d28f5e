package interrupt

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The runtime keeps the goroutine that delivers signals.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// aMoment is enough for signals that were sent to be acted on.
const aMoment = 100 * time.Millisecond

func send(t *testing.T, signals ...os.Signal) {
	t.Helper()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signals {
		if err := self.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheFirstSignalCancelsAndTheSecondLeaves(t *testing.T) {
	// As in a background job of a shell, where the default action would be to
	// carry on.
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT)
	left := make(chan int, 1)
	original := leave
	defer func() { leave = original }()
	leave = func(code int) { left <- code }

	var told bytes.Buffer
	ctx, stop := Context(context.Background(), &told)
	send(t, syscall.SIGPIPE)
	select {
	case <-ctx.Done():
		t.Fatal("a pipe without a reader ends the work")
	case <-time.After(aMoment):
	}
	send(t, syscall.SIGINT)
	<-ctx.Done()
	var cause *Signal
	if !errors.As(context.Cause(ctx), &cause) || cause.ExitCode() != 130 || cause.Error() != "interrupted by SIGINT" {
		t.Errorf("the cause is %v", context.Cause(ctx))
	}
	select {
	case code := <-left:
		t.Fatalf("one signal made it leave with %d, without cleaning up", code)
	case <-time.After(aMoment):
	}
	send(t, syscall.SIGTERM)
	if code := <-left; code != 143 {
		t.Errorf("it left with %d, want 143", code)
	}
	stop()
	if told.String() != "interrupted by SIGINT, cleaning up; once more leaves at once\n" {
		t.Errorf("told was %q", told.String())
	}
}

func TestStoppingEndsTheContextWithoutASignal(t *testing.T) {
	ctx, stop := Context(context.Background(), &bytes.Buffer{})
	stop()
	if context.Cause(ctx) != context.Canceled {
		t.Errorf("the cause is %v", context.Cause(ctx))
	}
}
