// Package interrupt turns the wish to stop into the end of a context.
//
// The first SIGINT or SIGTERM cancels, so that whoever works can clean up; the
// second one ends the process, and what it has started dies with it. A pipe
// without a reader is no such wish: it makes writes fail, and nothing else.
package interrupt

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal is the cause of a context that a signal has cancelled.
type Signal struct{ Signal syscall.Signal }

func (s *Signal) Error() string { return "interrupted by " + unix.SignalName(s.Signal) }

// ExitCode is what a shell shows of a process that the signal has ended.
func (s *Signal) ExitCode() int { return 128 + int(s.Signal) }

// leave ends the process at once.
var leave = os.Exit

// Context returns a context that ends with parent or with the first signal, and
// says on tell what the next one does. stop gives the signals back and waits
// until nothing is written any more. Whoever else was told of these signals is
// not any more.
func Context(parent context.Context, tell io.Writer) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 3)
	signal.Reset(syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	done, watching := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watching)
		var asked *Signal
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGPIPE {
					continue
				}
				// Not left to the signal's default action: in a job that a shell
				// runs in the background that is to ignore it.
				if asked != nil {
					leave((&Signal{s.(syscall.Signal)}).ExitCode())
					continue
				}
				asked = &Signal{s.(syscall.Signal)}
				fmt.Fprintf(tell, "%v, cleaning up; once more leaves at once\n", asked)
				cancel(asked)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-watching
		cancel(nil)
	}
}
