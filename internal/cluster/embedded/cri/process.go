package cri

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child. Unlike os.Process it is waited for without occupying an
// OS thread. Its owner calls wait exactly once.
type process struct {
	pid   int
	pidfd *os.File

	// mu keeps pid from being released while it is used as a number.
	mu     sync.Mutex
	reaped bool
}

// exit is how a process ended.
type exit struct {
	// code is the exit status, or 128 plus the signal's number.
	code int
	// signal is 0 unless a signal ended it.
	signal syscall.Signal
	cpu    time.Duration
}

// startProcess starts a child of the calling thread.
func startProcess(path string, args []string, attributes *syscall.ProcAttr) (*process, error) {
	fd := -1
	attributes.Sys.PidFD = &fd
	pid, _, err := syscall.StartProcess(path, args, attributes)
	if err != nil {
		return nil, err
	}
	if fd < 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return nil, errors.New("this kernel has no process descriptors (Linux 5.12 or newer is needed)")
	}
	// Non-blocking, or the poller does not take it.
	_ = unix.SetNonblock(fd, true)
	return &process{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns when the process has ended, and releases it.
func (p *process) wait() (exit, error) {
	defer p.pidfd.Close()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return exit{}, fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	var state unix.WaitStatus
	var usage unix.Rusage
	var failure error
	err = raw.Read(func(uintptr) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for {
			pid, err := unix.Wait4(p.pid, &state, unix.WNOHANG, &usage)
			if err == unix.EINTR {
				continue
			}
			failure = err
			p.reaped = err != nil || pid == p.pid
			return p.reaped
		}
	})
	if err = errors.Join(err, failure); err != nil {
		return exit{}, fmt.Errorf("wait for process %d: %w", p.pid, err)
	}
	end := exit{code: state.ExitStatus(), cpu: time.Duration(usage.Utime.Nano() + usage.Stime.Nano())}
	if state.Signaled() {
		end.signal = state.Signal()
		end.code = signalExit + int(end.signal)
	}
	return end, nil
}

// signalExit is what shells and runtimes add to the number of a fatal signal.
const signalExit = 128

// signal sends a signal; a process that has ended is no error.
func (p *process) signal(signal syscall.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil // closed: has ended
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { failure = unix.PidfdSendSignal(int(fd), signal, nil, 0) }); err != nil {
		return nil
	}
	if errors.Is(failure, unix.ESRCH) {
		return nil
	}
	return failure
}
