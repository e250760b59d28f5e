package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kindcluster "sigs.k8s.io/kind/pkg/cluster"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

const (
	// createTimeout bounds the whole start; it is for machines that are busy
	// with something else, not a goal.
	createTimeout = 10 * time.Minute
	// abandonTimeout bounds the wait for kind's library to notice that its
	// nodes are gone.
	abandonTimeout = time.Minute
	// abandonPoll is how often nodes are removed meanwhile.
	abandonPoll = time.Second
	// removeTimeout bounds the removal of a cluster's nodes.
	removeTimeout = time.Minute
	// lateTimeout is for a node to appear whose making was interrupted.
	lateTimeout = 2 * time.Second
	// settleTimeout is for nodes to appear that a killed owner had asked for.
	settleTimeout = 5 * time.Second
	// settlePoll is how often they are looked for.
	settlePoll = 250 * time.Millisecond
	// logsTimeout bounds the collection of logs of a cluster that failed.
	logsTimeout = time.Minute
)

// Create implements cluster.Provider.
func (p *Provider) Create(ctx context.Context, options cluster.Options) (cluster.Cluster, error) {
	begun := time.Now()
	if options.Name == "" {
		options.Name = randomName("mp-")
	}
	if err := state.CheckName(options.Name); err != nil {
		return nil, err
	}
	t, err := p.tool(ctx)
	if err != nil {
		return nil, err
	}
	f, lock, err := p.clusters.Reserve(options.Name, func(f state.Folder) error { return p.replace(ctx, f) })
	if err != nil {
		return nil, err
	}
	c := &Cluster{provider: p, tool: t, folder: f, lock: lock, done: make(chan struct{}), ended: func() {},
		progress: &progress{begun: begun, notify: options.Progress},
		record:   record{Name: options.Name, Created: begun, Tool: t.name, Endpoint: endpoint(), Wanted: len(p.config.Nodes)}}
	others, err := t.containers(ctx, options.Name)
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("create cluster %s: %w that meshproof did not make (kind delete cluster --name %s)", options.Name, cluster.ErrExists, options.Name)
	}
	if err == nil {
		err = p.checkImages(ctx, t)
	}
	if err == nil {
		err = f.WriteRecord(c.record)
	}
	if err != nil {
		err = errors.Join(err, f.Remove())
		lock.Close()
		return nil, err
	}
	if err := c.bringUp(ctx, p.config.DeepCopy(), options); err != nil {
		return nil, c.abandon(ctx, err, options)
	}
	return c, nil
}

// replace makes way for a new cluster where the folder of one is that nobody
// owns.
func (p *Provider) replace(ctx context.Context, f state.Folder) error {
	gone, err := p.cleanUpOne(ctx, f)
	if err == nil && !gone {
		err = cluster.ErrExists
	}
	if err != nil {
		return fmt.Errorf("create cluster %s: %w", f.Name(), err)
	}
	return nil
}

// bringUp makes the nodes and returns when the cluster is ready.
func (c *Cluster) bringUp(ctx context.Context, config *v1alpha4.Cluster, options cluster.Options) error {
	asked := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, createTimeout, fmt.Errorf("the cluster is not ready after %s", createTimeout))
	defer cancel()
	if err := c.make(ctx, config); err != nil {
		return err
	}
	if err := c.awaitReady(ctx, config, options); err != nil {
		if asked.Err() == nil {
			err = fmt.Errorf("%w: %w", cluster.ErrNotReady, err)
		}
		return err
	}
	c.record.Ready, c.record.Standing = true, options.Standing
	if err := c.folder.WriteRecord(c.record); err != nil {
		return err
	}
	if options.Standing {
		c.kept = true
		c.lock.Close()
	}
	return c.watch()
}

// make has kind's library make the cluster. The library cannot be told to stop;
// so when ctx ends, its nodes are removed under its hands, and it fails.
func (c *Cluster) make(ctx context.Context, config *v1alpha4.Cluster) error {
	// Two creations at a time would ask for one network twice, and choose the
	// same free port: they take turns until their containers run.
	turn, err := c.provider.clusters.Turn(ctx, "making")
	if err != nil {
		return err
	}
	turn = sync.OnceFunc(turn)
	defer turn()
	log := &logger{progress: c.progress, after: func(component string, ok bool) {
		if component == nodesMade {
			if ok {
				c.rememberNodes(ctx)
			}
			turn()
		}
	}}
	made := make(chan error, 1)
	go func() {
		made <- c.tool.kind(kindcluster.ProviderWithLogger(log)).Create(c.record.Name, kindcluster.CreateWithV1Alpha4Config(config),
			kindcluster.CreateWithRetain(true), kindcluster.CreateWithKubeconfigPath(c.Kubeconfig()))
	}()
	select {
	case err := <-made:
		if ctx.Err() != nil { // Ctrl-C on a terminal ends the programs that kind runs, too
			return fmt.Errorf("create cluster %s: %w", c.record.Name, context.Cause(ctx))
		}
		if err != nil {
			c.saveOutput(err)
			if kubelet := explainKubelet(err, c.kubeletLog(ctx)); kubelet != nil {
				return kubelet
			}
			return explainKind(c.progress.now(), err)
		}
		return nil
	case <-ctx.Done():
	}
	cause := fmt.Errorf("create cluster %s: %w", c.record.Name, context.Cause(ctx))
	remove, stop := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer stop()
	again := time.NewTicker(abandonPoll)
	defer again.Stop()
	for {
		_, _ = c.tool.remove(remove, c.folder, c.current()) // tried again, and at last by abandon
		select {
		case <-made:
			return cause
		case <-again.C:
		case <-remove.Done():
			return errors.Join(cause, fmt.Errorf("%s has not ended what it does for kind for %s", c.tool.name, abandonTimeout))
		}
	}
}

// rememberNodes records the nodes' identities as soon as there are any. It may
// fail: then their age tells whose they are.
func (c *Cluster) rememberNodes(ctx context.Context) {
	nodes, err := c.tool.containers(ctx, c.record.Name)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record.Nodes = nil
	for _, node := range nodes {
		c.record.Nodes = append(c.record.Nodes, node.ID)
	}
	_ = c.folder.WriteRecord(c.record)
}

// current is the record as it is now.
func (c *Cluster) current() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// kubeletLines is how much is read of a kubelet's log: it tries again and again,
// and gives the same reason each time.
const kubeletLines = "200"

// kubeletLog is the end of the first node's kubelet's log; empty when it cannot
// be had.
func (c *Cluster) kubeletLog(ctx context.Context) string {
	out, err := c.tool.run(ctx, "exec", c.firstNode(), "journalctl", "--no-pager", "-u", "kubelet", "-n", kubeletLines)
	if err != nil {
		return ""
	}
	return string(out)
}

// firstNode is the name that kind gives to the first control plane.
func (c *Cluster) firstNode() string { return c.record.Name + "-control-plane" }

// outputName is the file, among the logs, with everything that the program said
// whose failure ended a creation.
const outputName = "creation.log"

func (c *Cluster) saveOutput(err error) {
	if run := runError(err); run != nil {
		c.output = append([]byte(run.PrettyCommand()+"\n"), run.Output...)
	}
}

// abandon ends what did not come up, keeps its logs, and adds to the error what
// went wrong with that.
func (c *Cluster) abandon(ctx context.Context, err error, options cluster.Options) error {
	interrupted := ctx.Err() != nil
	if options.Logs != "" && !interrupted {
		logs, cancel := context.WithTimeout(context.WithoutCancel(ctx), logsTimeout)
		_ = c.Logs(logs, options.Logs) // evidence, as far as it can be had
		cancel()
		if c.output != nil && os.MkdirAll(options.Logs, 0o755) == nil {
			_ = os.WriteFile(filepath.Join(options.Logs, outputName), c.output, 0o644)
		}
	}
	if c.provider.retain && !interrupted {
		c.record.Standing = true // or the next cleanup would remove it
		err = errors.Join(fmt.Errorf("%w; its nodes are kept: meshproof cluster delete --cluster kind --name %s", err, c.record.Name), c.folder.WriteRecord(c.record))
		c.lock.Close()
		return err
	}
	return errors.Join(err, c.end(context.WithoutCancel(ctx)))
}

// remove removes the nodes that a record is about, whatever state they are in.
// found is how many there were.
func (t *tool) remove(ctx context.Context, f state.Folder, r record) (found int, err error) {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	all, err := t.containers(ctx, r.Name)
	if err != nil {
		return 0, fmt.Errorf("remove the nodes of cluster %s: %w", r.Name, err)
	}
	if found = len(r.mine(all)); found == 0 {
		return 0, nil
	}
	removed := make(chan error, 1)
	// kind would take the cluster out of a kubeconfig and needs to lock it. Ours
	// goes with its folder, so it gets one that does not exist.
	go func() { removed <- t.kind().Delete(r.Name, f.Path(randomName("no-kubeconfig-"))) }()
	select {
	case err := <-removed:
		if err != nil {
			return found, fmt.Errorf("remove the nodes of cluster %s: %w", r.Name, explainKind("remove nodes", err))
		}
		return found, nil
	case <-ctx.Done():
		// The goroutine ends with the program that it waits for.
		return found, &cluster.SetupError{Cause: fmt.Sprintf("%s has not removed the nodes of cluster %s", t.name, r.Name), Remedy: "repeat with meshproof cleanup", Err: context.Cause(ctx)}
	}
}

// settle waits, where the making of a record's nodes may have been interrupted,
// for those that the node provider is still making.
func (p *Provider) settle(ctx context.Context, t *tool, r record) error {
	if len(r.Nodes) > 0 {
		return nil
	}
	deadline := time.NewTimer(settleTimeout)
	defer deadline.Stop()
	again := time.NewTicker(settlePoll)
	defer again.Stop()
	for {
		all, err := t.containers(ctx, r.Name)
		if err != nil || len(r.mine(all)) >= r.Wanted {
			return err
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("look for nodes of cluster %s: %w", r.Name, context.Cause(ctx))
		}
	}
}
