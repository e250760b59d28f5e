package kind

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// Open implements cluster.Provider. A kind cluster that somebody else made is
// found, too; Close leaves it as it is, and Delete refuses it. Until Close, the
// same cluster is returned again, and its nodes are looked at now and then.
func (p *Provider) Open(ctx context.Context, name string) (cluster.Cluster, error) {
	if c := p.handle(name); c != nil && c.recent() {
		return c, nil
	}
	if !state.ValidName(name) {
		return nil, fmt.Errorf("open cluster %q: %w", name, cluster.ErrNotFound)
	}
	t, err := p.tool(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := t.containers(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("open cluster %s: %w", name, cluster.ErrNotFound)
	}
	if stopped := slices.IndexFunc(nodes, func(c container) bool { return !c.Running }); stopped >= 0 {
		return nil, &cluster.SetupError{Cause: fmt.Sprintf("open cluster %s: its node %s does not run", name, nodes[stopped].Name), Remedy: fmt.Sprintf("%s start %s, or delete the cluster", t.name, nodes[stopped].Name)}
	}
	if c := p.handle(name); c != nil && len(c.record.mine(nodes)) > 0 {
		c.see()
		return c, nil
	}
	c, err := p.open(ctx, t, name, nodes)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handles[name] = c
	return c, nil
}

func (p *Provider) handle(name string) *Cluster {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handles[name]
}

func (c *Cluster) recent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.looked) < openedFor
}

func (c *Cluster) see() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked = time.Now()
}

func (p *Provider) open(ctx context.Context, t *tool, name string, nodes []container) (*Cluster, error) {
	c := &Cluster{provider: p, tool: t, folder: p.clusters.Folder(name), done: make(chan struct{}), ended: func() {}, looked: time.Now()}
	r, err := readRecord(c.folder)
	if err == nil && r.elsewhere(t) == nil && len(r.mine(nodes)) > 0 {
		if !r.Ready {
			return nil, &cluster.SetupError{Cause: fmt.Sprintf("open cluster %s: it is being created, or did not come up", name), Remedy: "wait, or delete it"}
		}
		c.record = r
	} else {
		c.foreign, c.record = true, record{Name: name, Tool: t.name, Endpoint: endpoint(), Ready: true, Standing: true}
		for _, node := range nodes {
			c.record.Nodes = append(c.record.Nodes, node.ID)
		}
		if err := c.export(); err != nil {
			return nil, errors.Join(err, c.retract())
		}
	}
	client, _, err := c.client()
	if err == nil {
		c.capabilities, err = inspect(ctx, client)
	}
	if err != nil {
		return nil, &cluster.SetupError{Cause: "open cluster " + name, Err: errors.Join(err, c.retract())}
	}
	return c, nil
}

// export writes the kubeconfig of a cluster that somebody else made. The file
// stays where it is while somebody may use it: Close removes what this handle
// has made, and Cleanup what is left of clusters that are gone.
func (c *Cluster) export() error {
	text, err := c.tool.kind().KubeConfig(c.record.Name, false)
	if err != nil {
		return explainKind("read the kubeconfig of cluster "+c.record.Name, err)
	}
	release, err := c.provider.opened.Guard()
	if err != nil {
		return err
	}
	defer release()
	c.folder = c.provider.opened.Folder(c.record.Name)
	err = os.Mkdir(string(c.folder), 0o700)
	c.exported = err == nil
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = os.WriteFile(c.Kubeconfig()+".new", []byte(text), 0o600)
	}
	if err == nil {
		err = os.Rename(c.Kubeconfig()+".new", c.Kubeconfig())
	}
	if err != nil {
		return fmt.Errorf("write kubeconfig of cluster %s: %w", c.record.Name, err)
	}
	return c.folder.WriteRecord(c.record)
}

// retract removes what export has made.
func (c *Cluster) retract() error {
	if !c.exported {
		return nil
	}
	return c.folder.Remove()
}
