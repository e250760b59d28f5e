package kind

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// watch notices the end of the cluster's first node: the node provider's own
// program waits for it.
func (c *Cluster) watch() error {
	first := c.firstNode()
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan error)
	go func() {
		defer close(c.done)
		// The kernel sends the death signal when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		wait, err := c.startWait(ctx, first)
		started <- err
		for err == nil {
			_ = wait()
			if ctx.Err() != nil || !c.runs(ctx, first) {
				break
			}
			select {
			case <-time.After(rewatchDelay):
			case <-ctx.Done():
			}
			wait, err = c.startWait(ctx, first) // something else ended the program
		}
		if ctx.Err() == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.err = fmt.Errorf("its node %s has stopped or was removed", first)
		}
	}()
	c.ended = func() { cancel(); <-c.done }
	if err := <-started; err != nil {
		return fmt.Errorf("watch node %s: %w", first, err)
	}
	return nil
}

// startWait starts the program in a process group of its own, so that Ctrl-C on
// a terminal does not end it, and so that it ends with us, however we end.
func (c *Cluster) startWait(ctx context.Context, node string) (wait func() error, err error) {
	cmd := exec.CommandContext(ctx, c.tool.name, "wait", node)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = outputDelay
	return cmd.Wait, cmd.Start()
}

// runs reports whether a node runs. A node provider that does not answer any
// more has no nodes.
func (c *Cluster) runs(ctx context.Context, node string) bool {
	nodes, err := c.tool.containers(ctx, c.record.Name)
	return err == nil && slices.ContainsFunc(nodes, func(one container) bool { return one.Name == node && one.Running })
}

// rewatchDelay is before a program is started again that something has ended.
const rewatchDelay = time.Second

// openedFor is how long a cluster that was opened is taken to stand without
// asking again.
const openedFor = 3 * time.Second
