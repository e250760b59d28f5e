package cri

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// drainTimeout bounds how long the rest of an ended container's output is
// waited for. Nothing in the container can hold the pipe any more, but it may
// have passed it to somebody else.
const drainTimeout = time.Second

// streams are a container's standard streams on the runtime's side.
type streams struct {
	tty       bool
	stdinOnce bool

	mu sync.Mutex
	// stdin is nil when there is none, or no longer. With a terminal all three
	// are the terminal, and it is in out.
	stdin    *os.File
	out, err *os.File
	watchers map[*watcher]struct{}
	finished bool
}

const (
	// watcherBacklog is how many chunks of output somebody attached may be
	// behind before the container waits for them, as with other runtimes.
	watcherBacklog = 16
	// watcherTimeout bounds how long an ended container waits for those who
	// are attached and do not read.
	watcherTimeout = 5 * time.Second
)

// watcher is somebody who attached.
type watcher struct {
	// queue is closed after the container's last output.
	queue chan chunk
	// gone is closed when nobody reads the queue any more.
	gone chan struct{}
}

// chunk is a piece of output as it came.
type chunk struct {
	text  []byte
	isErr bool
}

// stdio are the descriptors that a process starts with.
type stdio [3]*os.File

func (s stdio) close() {
	for _, file := range s {
		if file != nil {
			file.Close()
		}
	}
}

// open makes pipes for what the container asks for, and /dev/null for the
// rest. It returns the container's ends.
func (s *streams) open(config *runtimeapi.ContainerConfig) (child stdio, err error) {
	s.tty, s.stdinOnce = config.GetTty(), config.GetStdinOnce()
	defer func() {
		if err != nil {
			child.close()
			s.close()
			err = fmt.Errorf("make standard streams: %w", err)
		}
	}()
	if s.tty {
		// Used until the terminal is there, which the container makes.
		for i := range child {
			if child[i], err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return child, err
			}
		}
		return child, nil
	}
	if config.GetStdin() {
		child[0], s.stdin, err = os.Pipe()
	} else {
		child[0], err = os.Open(os.DevNull)
	}
	if err != nil {
		return child, err
	}
	if s.out, child[1], err = os.Pipe(); err != nil {
		return child, err
	}
	s.err, child[2], err = os.Pipe()
	return child, err
}

// adoptTerminal takes the terminal that a control message brought.
func (s *streams) adoptTerminal(rights []byte) error {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("receive the terminal: %d messages: %w", len(messages), err)
	}
	descriptors, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(descriptors) != 1 {
		return fmt.Errorf("receive the terminal: %d descriptors: %w", len(descriptors), err)
	}
	s.out = newTerminal(descriptors[0])
	return nil
}

// newTerminal wraps the controlling end of a terminal for use with the poller.
func newTerminal(fd int) *os.File {
	unix.CloseOnExec(fd)
	_ = unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "terminal")
}

// pump copies output to the log and to watchers until it ends.
func (s *streams) pump(log *containerLog) *sync.WaitGroup {
	var output sync.WaitGroup
	output.Go(func() {
		_ = log.copy(runtimeapi.Stdout, s.out, func(chunk []byte) { s.show(chunk, false) })
	})
	if s.err != nil {
		output.Go(func() {
			_ = log.copy(runtimeapi.Stderr, s.err, func(chunk []byte) { s.show(chunk, true) })
		})
	}
	return &output
}

// show passes a chunk of output to everybody attached.
func (s *streams) show(text []byte, isErr bool) {
	s.mu.Lock()
	var all []*watcher
	for w := range s.watchers {
		all = append(all, w)
	}
	s.mu.Unlock()
	if len(all) == 0 {
		return
	}
	shown := chunk{slices.Clone(text), isErr}
	for _, w := range all {
		select {
		case w.queue <- shown:
		case <-w.gone:
		}
	}
}

// attach gives the caller all output from now on. It returns nil when there is
// none to come. The caller detaches it.
func (s *streams) attach() *watcher {
	w := &watcher{queue: make(chan chunk, watcherBacklog), gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finished {
		return nil
	}
	if s.watchers == nil {
		s.watchers = map[*watcher]struct{}{}
	}
	s.watchers[w] = struct{}{}
	return w
}

func (s *streams) detach(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.watchers[w]; ok {
		delete(s.watchers, w)
		close(w.gone)
	}
}

func (s *streams) detachAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		delete(s.watchers, w)
		close(w.gone)
	}
}

// input is where to write the container's input, or nil.
func (s *streams) input() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tty {
		return s.out
	}
	return s.stdin
}

// closeInput is end of file for the container.
func (s *streams) closeInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil {
		s.stdin.Close()
		s.stdin = nil
	}
}

// finish waits for the rest of the output of a container that has ended and
// releases everything.
func (s *streams) finish(output *sync.WaitGroup) {
	deadline := time.Now().Add(drainTimeout)
	for _, file := range []*os.File{s.out, s.err} {
		if file != nil {
			_ = file.SetReadDeadline(deadline)
		}
	}
	impatient := time.AfterFunc(watcherTimeout, s.detachAll)
	output.Wait()
	impatient.Stop()
	s.close()
}

// close releases the runtime's ends.
func (s *streams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, file := range []*os.File{s.stdin, s.out, s.err} {
		if file != nil {
			file.Close()
		}
	}
	s.stdin = nil
	s.finished = true
	// Nobody is in show any more.
	for w := range s.watchers {
		close(w.queue)
	}
	s.watchers = nil
}
