package cri

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// onThread runs f on an OS thread of its own that ends with it, so that f can
// join namespaces, change directory (after unshare of CLONE_FS) and give up
// privileges without anybody noticing. A child that f starts inherits all of
// it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end: it would stay in f's namespaces and
			// show them as the process's. Occupy it while another thread works.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// spawner starts containers from one long-lived OS thread. The kernel ties a
// parent-death signal to the thread that made the child, and Go ends threads
// when it likes.
type spawner struct {
	work chan func()
	done chan struct{}
}

func startSpawner() *spawner {
	s := &spawner{work: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

// stop ends the thread; nothing may be started afterwards.
func (s *spawner) stop() {
	close(s.work)
	<-s.done
}

// start is startProcess on the spawner's thread. It takes about as long as an
// execve, so that one thread serves everybody.
func (s *spawner) start(path string, args []string, attributes *syscall.ProcAttr) (p *process, err error) {
	started := make(chan struct{})
	s.work <- func() {
		defer close(started)
		p, err = startProcess(path, args, attributes)
	}
	<-started
	return p, err
}
