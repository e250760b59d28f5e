package cri

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

// Harm reaches the processes and namespaces of pods for whoever makes faults.
// The kubelet is not told of any of it: it finds out as it would elsewhere.
type Harm struct{ server *Server }

// Harm is the server's pods, to be harmed.
func (s *Server) Harm() Harm { return Harm{s} }

// Signal sends a signal to the first process of a container; after SIGSTOP it has
// stopped. Error: cluster.ErrNotFound when no such container runs.
func (h Harm) Signal(pod cluster.Pod, container string, signal syscall.Signal) error {
	p, err := h.process(pod, container)
	if err != nil {
		return err
	}
	if err := p.signal(signal); err != nil || signal != unix.SIGSTOP {
		return err
	}
	return awaitStopped(p.pid)
}

const (
	// stopBudget is for all threads of a process to stop on a machine that is busy.
	stopBudget = 5 * time.Second
	stopPoll   = time.Millisecond
)

// awaitStopped waits until no thread of a process runs any more: each stops by
// itself, once it is its turn.
func awaitStopped(pid int) error {
	tick := time.NewTicker(stopPoll)
	defer tick.Stop()
	for deadline := time.Now().Add(stopBudget); ; <-tick.C {
		stopped, err := allStopped(pid)
		if err != nil || stopped {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d was told to stop, and runs %s later", pid, stopBudget)
		}
	}
}

func allStopped(pid int) (bool, error) {
	folder := fmt.Sprintf("/proc/%d/task", pid)
	threads, err := os.ReadDir(folder)
	if err != nil {
		return false, fmt.Errorf("list the threads of process %d: %w", pid, err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(folder, thread.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The state follows the name, which may hold anything.
		if state := text[bytes.LastIndexByte(text, ')')+1:]; !bytes.HasPrefix(state, []byte(" T")) {
			return false, nil
		}
	}
	return true, nil
}

// process is the first one of a container that runs.
func (h Harm) process(pod cluster.Pod, container string) (*process, error) {
	found, err := h.sandbox(pod)
	if err != nil {
		return nil, err
	}
	for _, c := range h.server.containersOf(found.id) {
		if p := c.running(); p != nil && c.config.GetMetadata().GetName() == container {
			return p, nil
		}
	}
	return nil, fmt.Errorf("container %s of pod %s does not run: %w", container, pod, cluster.ErrNotFound)
}

// Limit bounds the descriptors of the first process of a container: to so many
// more than it has, or where that is negative to what it could have anyway.
// Error: as of Signal.
func (h Harm) Limit(pod cluster.Pod, container string, more int) error {
	p, err := h.process(pod, container)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return fmt.Errorf("container %s of pod %s does not run: %w", container, pod, cluster.ErrNotFound)
	}
	var limit unix.Rlimit
	if err := unix.Prlimit(p.pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return fmt.Errorf("read how many descriptors process %d may have: %w", p.pid, err)
	}
	// Only the lower of the two is touched: the process may raise it again, and
	// none of these programs does.
	limit.Cur = limit.Max
	if more >= 0 {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
		if err != nil {
			return fmt.Errorf("count the descriptors of process %d: %w", p.pid, err)
		}
		limit.Cur = uint64(len(open) + more)
	}
	if err := unix.Prlimit(p.pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return fmt.Errorf("bound how many descriptors process %d may have: %w", p.pid, err)
	}
	return nil
}

// Network is the pod's network namespace, by a descriptor of the caller's own.
// Error: cluster.ErrNotFound.
func (h Harm) Network(pod cluster.Pod) (*os.File, error) {
	found, err := h.sandbox(pod)
	if err != nil {
		return nil, err
	}
	found.mu.RLock()
	defer found.mu.RUnlock()
	if found.hostNetwork() || len(found.namespaces) == 0 {
		return nil, fmt.Errorf("pod %s has no network of its own: %w", pod, cluster.ErrNotFound)
	}
	fd, err := unix.FcntlInt(found.namespaces[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("keep the network of pod %s: %w", pod, err)
	}
	return os.NewFile(uintptr(fd), "network of "+pod.String()), nil
}

// sandbox is that of a pod by its name; one that is being taken down is none.
func (h Harm) sandbox(pod cluster.Pod) (*sandbox, error) {
	h.server.mu.RLock()
	defer h.server.mu.RUnlock()
	for _, one := range h.server.sandboxes {
		metadata := one.config.GetMetadata()
		if metadata.GetNamespace() == pod.Namespace && metadata.GetName() == pod.Name && one.ready.Load() {
			return one, nil
		}
	}
	return nil, fmt.Errorf("there is no pod %s: %w", pod, cluster.ErrNotFound)
}
