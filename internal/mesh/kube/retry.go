package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	// firstRetry doubles with each failure up to lastRetry.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// Retry calls do until it succeeds or ctx ends; what names it in logs and in the
// error, which wraps the last failure.
func Retry(ctx context.Context, what string, do func(context.Context) error) error {
	wait := firstRetry
	for {
		err := do(ctx)
		if err == nil {
			return nil
		}
		slog.Warn("will be tried again", "what", what, "error", err, "wait", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s: %w", what, err)
		}
		wait = min(2*wait, lastRetry)
	}
}
