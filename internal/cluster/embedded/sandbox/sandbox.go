// Package sandbox is the first process of an embedded cluster, running inside
// its namespaces.
//
// It builds the file system that everything in the cluster sees - nothing of
// the host's but its devices and the state folder -, sets up the node's
// network, starts the control plane, the kubelet and the node's own programs,
// and reaps what they leave. When one of them ends, or when the process that
// owns the cluster does, it ends too, and the kernel ends all the others: it
// refuses to keep half a cluster alive.
package sandbox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/embedded/network"
)

// stepError is a failure of one step of the set-up, which the creator turns
// into a remedy.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{name, err}
}

// Main runs the cluster and returns why it ended; the end of ctx is a reason,
// too. The argument is a layout.Setup as JSON.
func Main(ctx context.Context, argument string) error {
	status := os.NewFile(layout.StatusFD, "status")
	err := run(ctx, argument, status)
	if err != nil {
		report := layout.Status{Failed: err.Error()}
		var failed *stepError
		var number syscall.Errno
		if errors.As(err, &failed) {
			report.Step = failed.step
		}
		if errors.As(err, &number) {
			report.Errno = int(number)
		}
		send(status, report)
	}
	return err
}

// send tells the creator; it may have gone, which is no error here.
func send(status *os.File, s layout.Status) {
	if line, err := json.Marshal(s); err == nil {
		_, _ = status.Write(append(line, '\n'))
	}
}

func run(ctx context.Context, argument string, status *os.File) error {
	var setup layout.Setup
	if err := json.Unmarshal([]byte(argument), &setup); err != nil {
		return fmt.Errorf("read set-up: %w", err)
	}
	for _, fd := range []int{layout.LifelineFD, layout.StatusFD, layout.ListenerFD, layout.LockFD} {
		unix.CloseOnExec(fd)
	}
	ended, detached := make(chan error, 2), make(chan struct{})
	go watchLifeline(os.NewFile(layout.LifelineFD, "lifeline"), ended, detached)

	if err := makeRoot(setup.Programs); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(layout.NodeName)); err != nil {
		return step("mount", fmt.Errorf("set host name: %w", err))
	}
	if err := network.SetupNode(); err != nil {
		return step("link", err)
	}
	if err := network.SetupFilter(); err != nil {
		return step("nftables", err)
	}
	send(status, layout.Status{Component: layout.Namespaces})

	components := &components{names: map[int]string{}}
	defer components.mu.Lock() // nothing is started any more
	go func() { ended <- components.startAll(setup, status) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the cluster was told to end: %w", context.Cause(ctx))
		case <-detached:
			// The death signal belongs to this thread: it is the one that became
			// the process, and main keeps its goroutine on it.
			if err := unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0); err != nil {
				return fmt.Errorf("outlive the creator: %w", err)
			}
			detached = nil
			send(status, layout.Status{Component: layout.Detached})
		}
	}
}

// watchLifeline ends the cluster when its owner's end of the pipe is closed,
// and stops watching when it is told that the cluster stands by itself.
func watchLifeline(pipe *os.File, ended chan<- error, detached chan<- struct{}) {
	order, err := bufio.NewReader(pipe).ReadByte()
	if err == nil && order == layout.Detach {
		close(detached)
		return
	}
	ended <- fmt.Errorf("the cluster's owner has gone: %w", err)
}
