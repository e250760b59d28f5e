package load

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pace calls begin at the plan's rate until ctx ends. It has a thread of its own
// that sleeps in the kernel: the runtime's timers are good for a millisecond,
// which is longer than the time between two calls. A call that begin keeps
// waiting delays the ones after it, and they are counted from when they were due.
func (g *gauge) pace(ctx context.Context, begin func(due time.Duration)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gap := time.Second / time.Duration(g.plan.Rate)
	due := g.now()
	for ctx.Err() == nil {
		due += gap
		blocked := true
		for ahead := due - g.now(); ahead > 0; ahead = due - g.now() {
			blocked = false
			ts := unix.NsecToTimespec(int64(ahead))
			_ = unix.Nanosleep(&ts, nil) // a signal ends it early; the loop looks again
		}
		from := due
		if !blocked {
			// The kernel woke this thread late: that is the client's, not the target's.
			from = g.now()
			if g.counting.Load() {
				g.late.add(from - due)
			}
		}
		begin(from)
	}
}
