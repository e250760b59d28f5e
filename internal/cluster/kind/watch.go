package kind

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// watch notices the end of the cluster's first node: the node provider's own
// program waits for it.
func (c *Cluster) watch() error {
	ctx, cancel := context.WithCancel(context.Background())
	nodes, err := c.tool.containers(ctx, c.record.Name)
	if err != nil || len(nodes) == 0 {
		cancel()
		return fmt.Errorf("find the nodes of cluster %s: %w", c.record.Name, err)
	}
	// In a process group of its own, so that Ctrl-C on a terminal does not end
	// it, and with us, however we end.
	cmd := exec.CommandContext(ctx, c.tool.name, "wait", c.record.Name+"-control-plane")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = outputDelay
	started := make(chan error)
	go func() {
		defer close(c.done)
		// The kernel sends the death signal when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait()
		if ctx.Err() == nil {
			c.mu.Lock()
			c.err = fmt.Errorf("its first node, %s-control-plane, has stopped or was removed", c.record.Name)
			c.mu.Unlock()
		}
	}()
	if err := <-started; err != nil {
		cancel()
		return fmt.Errorf("watch the nodes of cluster %s: %w", c.record.Name, err)
	}
	c.ended = func() { cancel(); <-c.done }
	return nil
}

// openedFor is how long a cluster that was opened is taken to stand without
// asking again.
const openedFor = 3 * time.Second
