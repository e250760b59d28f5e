package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/faults"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// Cluster is an embedded cluster.
type Cluster struct {
	folder  state.Folder
	record  record
	timings []cluster.Timing

	// sandbox is nil after Open: then the cluster belongs to nobody here.
	sandbox *sandbox
	// status are the lines from the first process; closed when it has ended.
	status chan layout.Status
	done   chan struct{}

	mu   sync.Mutex
	err  error
	kept bool
}

var (
	_ cluster.Cluster = (*Cluster)(nil)
	_ cluster.Harmful = (*Cluster)(nil)
)

// follow reads what the first process says until it has ended.
func (c *Cluster) follow() {
	defer close(c.done)
	defer close(c.status)
	lines := bufio.NewScanner(c.sandbox.status)
	for lines.Scan() {
		var s layout.Status
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			continue // half a line: its writer was killed
		}
		if s.Failed != "" {
			c.fail(explainInside(s))
		}
		select {
		case c.status <- s:
		default: // nobody waits for it any more
		}
	}
	if c.detached() {
		return
	}
	<-c.sandbox.done
	c.fail(&cluster.SetupError{Cause: "the cluster's first process was killed"})
}

func (c *Cluster) detached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// fail remembers the first reason.
func (c *Cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// endGrace is for the news that the cluster has ended: a connection that it has
// dropped is noticed earlier.
const endGrace = 500 * time.Millisecond

// explain prefers the reason why the cluster has ended to err, which is how
// somebody noticed.
func (c *Cluster) explain(ctx context.Context, err error) error {
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	select {
	case <-c.done:
		if c.Err() != nil {
			return c.Err()
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	return err
}

// Faults harms the cluster's pods: see cluster.Harmful.
func (c *Cluster) Faults() cluster.Faults {
	return faults.NewClient(c.folder.Path(layout.Run, layout.FaultSocket))
}

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.record.Name }

// Kubeconfig implements cluster.Cluster.
func (c *Cluster) Kubeconfig() string { return c.folder.Path(layout.Kubeconfig) }

// Capabilities implements cluster.Cluster.
func (c *Cluster) Capabilities() cluster.Capabilities {
	return capabilities(c.record.SingleUID)
}

// Timings implements cluster.Cluster.
func (c *Cluster) Timings() []cluster.Timing { return c.timings }

// Done implements cluster.Cluster.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err implements cluster.Cluster.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Logs implements cluster.Cluster.
func (c *Cluster) Logs(ctx context.Context, dir string) error {
	from := c.folder.Path(layout.LogDir)
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, relative)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case entry.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(target, data, 0o644)
		}
		return nil // a pod can leave anything in its folder of logs
	})
	if err != nil {
		return fmt.Errorf("copy logs of cluster %s: %w", c.record.Name, err)
	}
	return nil
}

// Keep implements cluster.Cluster.
func (c *Cluster) Keep(ctx context.Context) error {
	if c.sandbox == nil || c.detached() {
		return nil
	}
	if _, err := c.sandbox.lifeline.Write([]byte{layout.Detach}); err != nil {
		return fmt.Errorf("keep cluster %s: %w", c.record.Name, errors.Join(err, c.Err()))
	}
	for {
		select {
		case s, ok := <-c.status:
			if !ok {
				return fmt.Errorf("keep cluster %s: %w", c.record.Name, c.Err())
			}
			if s.Component != layout.Detached {
				continue
			}
		case <-ctx.Done():
			return fmt.Errorf("keep cluster %s: %w", c.record.Name, ctx.Err())
		}
		break
	}
	c.record.Standing = true
	if err := c.folder.WriteRecord(c.record); err != nil {
		return err
	}
	c.mu.Lock()
	c.kept = true
	c.mu.Unlock()
	return nil
}

// Close implements cluster.Cluster.
func (c *Cluster) Close(context.Context) error {
	if c.sandbox == nil {
		return nil
	}
	if c.detached() {
		c.sandbox.close()
		<-c.done
		return nil
	}
	return c.end()
}

// end ends the cluster and removes its folder.
func (c *Cluster) end() error {
	c.sandbox.kill()
	<-c.done
	c.sandbox.close()
	return c.folder.Remove()
}
