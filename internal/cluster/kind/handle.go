package kind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	kindexec "sigs.k8s.io/kind/pkg/exec"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// Cluster is a kind cluster.
type Cluster struct {
	provider *Provider
	tool     *tool
	folder   state.Folder
	// lock is nil after Open: then the cluster belongs to nobody here.
	lock         *os.File
	capabilities cluster.Capabilities
	progress     *progress
	// foreign is true when somebody else made the cluster; then the folder is
	// that of its kubeconfig only, and exported says whether this made it.
	foreign, exported bool
	// output is of the program whose failure ended the creation.
	output []byte

	// ended stops the watch over the nodes and waits for its end.
	ended func()
	done  chan struct{}

	mu     sync.Mutex
	record record
	err    error
	kept   bool
	looked time.Time // when the nodes were last seen
}

var (
	_ cluster.Cluster     = (*Cluster)(nil)
	_ cluster.ImageLoader = (*Cluster)(nil)
)

// Name implements cluster.Cluster.
func (c *Cluster) Name() string { return c.record.Name }

// Kubeconfig implements cluster.Cluster.
func (c *Cluster) Kubeconfig() string { return c.folder.Path(kubeconfigName) }

// Capabilities implements cluster.Cluster.
func (c *Cluster) Capabilities() cluster.Capabilities { return c.capabilities }

// Timings implements cluster.Cluster.
func (c *Cluster) Timings() []cluster.Timing {
	if c.progress == nil {
		return nil
	}
	return c.progress.all()
}

// Done implements cluster.Cluster.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err implements cluster.Cluster.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Logs implements cluster.Cluster: it is what kind export logs writes. Logs that
// cannot be had do not keep the others from being written.
func (c *Cluster) Logs(ctx context.Context, dir string) error {
	collected := make(chan error, 1)
	go func() { collected <- c.tool.kind().CollectLogs(c.record.Name, dir) }()
	select {
	case err := <-collected:
		if err != nil {
			return fmt.Errorf("collect logs of cluster %s: %w", c.record.Name, err)
		}
		return nil
	case <-ctx.Done():
		// The goroutine ends with the programs that it waits for.
		return fmt.Errorf("collect logs of cluster %s: %w", c.record.Name, context.Cause(ctx))
	}
}

// LoadImages implements cluster.ImageLoader.
func (c *Cluster) LoadImages(ctx context.Context, archives ...string) error {
	all, err := c.tool.kind().ListInternalNodes(c.record.Name)
	if err != nil {
		return explainKind("list nodes", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range all {
		group.Go(func() error {
			for _, archive := range archives {
				if err := load(ctx, node, archive); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// load puts the images of an archive onto a node.
func load(ctx context.Context, node nodes.Node, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return &cluster.SetupError{Cause: "read images", Err: err}
	}
	defer file.Close()
	err = nodeutils.LoadImageArchive(cancelled{node, ctx}, io.Reader(file))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("load %s onto node %s: %w", archive, node, context.Cause(ctx))
	}
	setup := &cluster.SetupError{Cause: fmt.Sprintf("load images of %s onto node %s", archive, node), Remedy: "give an OCI or Docker archive for this machine's architecture, not compressed", Err: err}
	if run := runError(err); run != nil && telling(string(run.Output)) != "" {
		setup.Err = errors.New(telling(string(run.Output)))
	}
	return setup
}

// cancelled is a node whose programs end with a context.
type cancelled struct {
	nodes.Node
	ctx context.Context
}

// Command implements exec.Cmder.
func (c cancelled) Command(name string, arguments ...string) kindexec.Cmd {
	return c.Node.CommandContext(c.ctx, name, arguments...)
}

// Keep implements cluster.Cluster.
func (c *Cluster) Keep(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock == nil || c.kept {
		return nil
	}
	c.record.Standing = true
	if err := c.folder.WriteRecord(c.record); err != nil {
		return fmt.Errorf("keep cluster %s: %w", c.record.Name, err)
	}
	c.kept = true
	return c.lock.Close()
}

// Close implements cluster.Cluster.
func (c *Cluster) Close(ctx context.Context) error {
	c.mu.Lock()
	kept := c.kept
	c.mu.Unlock()
	switch {
	case c.lock == nil:
		c.provider.forget(c.record.Name)
		return c.retract()
	case kept:
		c.ended()
		return nil
	}
	return c.end(ctx)
}

// end removes the nodes and then the folder, which remembers them as long as
// there are any. Where the nodes' making may have been interrupted, the node
// provider may still be making one: then it looks for a while.
func (c *Cluster) end(ctx context.Context) error {
	c.ended()
	defer c.lock.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, removeTimeout, fmt.Errorf("there are still some after %s", removeTimeout))
	defer cancel()
	late := time.Now().Add(lateTimeout)
	for {
		left, err := c.tool.remove(ctx, c.folder, c.record)
		if err != nil {
			return err
		}
		if left == 0 && (len(c.record.Nodes) > 0 || time.Now().After(late)) {
			return c.folder.RemoveOwn(c.lock)
		}
		select {
		case <-time.After(settlePoll):
		case <-ctx.Done():
			return fmt.Errorf("remove the nodes of cluster %s: %w", c.record.Name, context.Cause(ctx))
		}
	}
}
