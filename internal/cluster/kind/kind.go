// Package kind makes clusters of containers through kind's library: nodes of
// docker, podman or nerdctl on this machine, from a node image that is there.
//
// A configuration flows in, the user's merged with ours, and a kubeconfig in
// this user's state folder out; ~/.kube/config is never touched. Each cluster
// has a folder with a record of its nodes and a lock that the process that owns
// it holds, so that what a killed process left is told from what stands. The
// package pulls no image, and removes no node that it did not make, even one of
// a cluster of the same name.
package kind

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// Kind is this provider's name.
const Kind = "kind"

// kubeconfigName is that of the file in a cluster's folder.
const kubeconfigName = "kubeconfig"

// Options are what a user can choose. The zero value is kind's own default: one
// node of its default image.
type Options struct {
	// Image of all nodes; empty: what Config says, or kind's default.
	Image string
	// Config is the path of a kind configuration file, which is merged with
	// ours; its name is ignored. Empty: there is none.
	Config string
	// Nodes is how many nodes there are, all of which take pods; 0: what Config
	// says, or one.
	Nodes int
	// Retain keeps the nodes of a cluster that did not come up.
	Retain bool
	// State is the folder in which clusters are remembered; empty: the default.
	State string
}

// Provider makes kind clusters.
type Provider struct {
	config   *v1alpha4.Cluster
	retain   bool
	clusters state.Registry
	// opened are folders for the kubeconfigs of clusters that are not ours.
	opened state.Registry

	mu sync.Mutex
	// found is the node provider, once it has been looked for with success.
	found *tool
	// handles are the clusters that were opened and not closed, by name.
	handles map[string]*Cluster
}

var (
	_ cluster.Provider   = (*Provider)(nil)
	_ cluster.Exclusive  = (*Provider)(nil)
	_ cluster.ImageTaker = (*Provider)(nil)
)

// New reads the configuration and looks for nothing else: whether there is a
// node provider is told by whoever needs it. Error: *cluster.OptionError.
func New(options Options) (*Provider, error) {
	config, err := merged(options)
	if err != nil {
		return nil, err
	}
	if options.State == "" {
		if options.State, err = state.Dir(); err != nil {
			return nil, err
		}
	}
	return &Provider{config: config, retain: options.Retain, clusters: state.Registry(filepath.Join(options.State, "kind")),
		opened: state.Registry(filepath.Join(options.State, "kind-opened")), handles: map[string]*Cluster{}}, nil
}

// Kind implements cluster.Provider.
func (p *Provider) Kind() string { return Kind }

// TakesImages implements cluster.ImageTaker.
func (p *Provider) TakesImages() {}

// Exclusive implements cluster.Exclusive.
func (p *Provider) Exclusive(ctx context.Context, name string, waiting func()) (release func(), err error) {
	return p.clusters.Exclusive(ctx, name, waiting)
}

// Available says with what a cluster could be created here, where a node
// provider answers and has the images. Error: *cluster.SetupError.
func (p *Provider) Available(ctx context.Context) (with string, err error) {
	t, err := p.tool(ctx)
	if err != nil {
		return "", err
	}
	if err := p.checkImages(ctx, t); err != nil {
		return "", err
	}
	var images []string
	for _, image := range nodeImages(p.config) {
		images = append(images, withoutDigest(image))
	}
	return fmt.Sprintf("%s has the node image %s", t.name, strings.Join(images, ", ")), nil
}

// withoutDigest is an image's name as people know it.
func withoutDigest(image string) string {
	name, _, _ := strings.Cut(image, "@")
	return name
}

func (p *Provider) tool(ctx context.Context) (*tool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		found, err := findTool(ctx)
		if err != nil {
			return nil, err
		}
		p.found = found
	}
	return p.found, nil
}

// checkImages keeps kind from pulling, which takes long where it works and
// longer where it does not.
func (p *Provider) checkImages(ctx context.Context, t *tool) error {
	for _, image := range nodeImages(p.config) {
		there, err := t.hasImage(ctx, image)
		if err != nil {
			return fmt.Errorf("look for the node image: %w", err)
		}
		if !there {
			return &cluster.SetupError{Cause: fmt.Sprintf("%s has no node image %s, and none is pulled", t.name, withoutDigest(image)),
				Remedy: fmt.Sprintf("%s pull %s, or name one that is there with --kind-image", t.name, image)}
		}
	}
	return nil
}

// record is what is kept about a cluster in its folder.
type record struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Server  string    `json:"server"`
	// Standing is true when no process owns the cluster.
	Standing bool `json:"standing"`
	// Ready is true once Create has succeeded.
	Ready bool `json:"ready"`
	// Tool and Endpoint say where the nodes are.
	Tool     string `json:"tool"`
	Endpoint string `json:"endpoint,omitempty"`
	// Nodes are the IDs of the nodes' containers; empty until they are made.
	Nodes []string `json:"nodes,omitempty"`
	// Wanted is how many nodes there are to be.
	Wanted int `json:"wanted"`
}

// mine are those of a cluster's containers that the record is about. Somebody
// may have deleted the cluster and made another one of that name. While nothing
// is known but that nodes are being made, their age decides.
func (r record) mine(all []container) []container {
	var out []container
	for _, one := range all {
		known := slices.Contains(r.Nodes, one.ID)
		young := len(r.Nodes) == 0 && !one.Created.Before(r.Created.Truncate(time.Second))
		if known || young {
			out = append(out, one)
		}
	}
	return out
}

// elsewhere is an error when the cluster's nodes are not with the node provider
// that would be asked.
func (r record) elsewhere(t *tool) error {
	if here := endpoint(); r.Tool != t.name || r.Endpoint != here {
		return &cluster.SetupError{Cause: fmt.Sprintf("cluster %s is with another node provider: %s", r.Name, strings.TrimSpace(r.Tool+" "+r.Endpoint)),
			Remedy: "repeat this with its environment variables"}
	}
	return nil
}

func readRecord(f state.Folder) (record, error) {
	var r record
	err := f.ReadRecord(&r)
	return r, err
}

func randomName(prefix string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// Delete implements cluster.Provider. It deletes clusters that this program
// made; others are not found.
func (p *Provider) Delete(ctx context.Context, name string) error {
	p.forget(name)
	f := p.clusters.Folder(name)
	if _, err := os.Stat(string(f)); err != nil || !state.ValidName(name) {
		if p.foreign(ctx, name) {
			return fmt.Errorf("delete cluster %s: %w that meshproof made (there is one of kind's: kind delete cluster --name %s)", name, cluster.ErrNotFound, name)
		}
		return fmt.Errorf("delete cluster %s: %w", name, cluster.ErrNotFound)
	}
	r, err := readRecord(f)
	if err != nil && f.Owned() {
		return fmt.Errorf("delete cluster %s while it is being created: %w", name, err)
	}
	if err == nil {
		if err := p.removeNodes(ctx, f, r); err != nil {
			return fmt.Errorf("delete cluster %s: %w", name, err)
		}
	}
	release, err := p.clusters.Guard()
	if err != nil {
		return err
	}
	defer release()
	return f.Remove()
}

// foreign reports whether there is a kind cluster of that name, as far as that
// can be found out.
func (p *Provider) foreign(ctx context.Context, name string) bool {
	t, err := p.tool(ctx)
	if err != nil {
		return false
	}
	nodes, err := t.containers(ctx, name)
	return err == nil && len(nodes) > 0
}

// removeNodes removes the nodes that a record is about, if there are any.
func (p *Provider) removeNodes(ctx context.Context, f state.Folder, r record) error {
	t, err := p.tool(ctx)
	if err != nil {
		return err
	}
	if err := r.elsewhere(t); err != nil {
		return err
	}
	if err := p.settle(ctx, t, r); err != nil {
		return err
	}
	_, err = t.remove(ctx, f, r)
	return err
}

// List implements cluster.Provider. It lists the clusters that this program
// made. Where the node provider does not answer, none is running.
func (p *Provider) List(ctx context.Context) ([]cluster.Info, error) {
	names, err := p.clusters.Names()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	nodes := map[string][]container{}
	t, err := p.tool(ctx)
	if err == nil {
		var all []container
		all, err = t.containers(ctx, "")
		for _, one := range all {
			nodes[one.Cluster] = append(nodes[one.Cluster], one)
		}
	}
	if ctx.Err() != nil {
		return nil, err
	}
	var out []cluster.Info
	for _, name := range names {
		f := p.clusters.Folder(name)
		r, err := readRecord(f)
		if err != nil {
			r = record{Name: name} // it is being created, or its folder is damaged
		}
		running := t != nil && r.elsewhere(t) == nil && slices.ContainsFunc(r.mine(nodes[name]), func(c container) bool { return c.Running })
		out = append(out, cluster.Info{Name: name, Kind: Kind, Running: running, Standing: r.Standing, Created: r.Created,
			Server: r.Server, Kubeconfig: f.Path(kubeconfigName)})
	}
	return out, nil
}

// Cleanup implements cluster.Provider: it removes the clusters whose owners were
// killed, and the folders of clusters that somebody else has deleted. It asks
// the node provider only when there is something to remove.
func (p *Provider) Cleanup(ctx context.Context) ([]string, error) {
	removed, err := p.cleanUp(ctx, p.clusters, p.cleanUpOne)
	if err != nil {
		return removed, err
	}
	// The kubeconfigs of clusters that were only opened go with these.
	_, err = p.cleanUp(ctx, p.opened, p.cleanUpOne)
	return removed, err
}

// cleanUp removes the folders that nobody owns, if gone says so.
func (p *Provider) cleanUp(ctx context.Context, clusters state.Registry, gone func(context.Context, state.Folder) (bool, error)) ([]string, error) {
	if _, err := os.Stat(string(clusters)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	release, err := clusters.Guard()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := clusters.RemoveHolds(); err != nil {
		return nil, err
	}
	names, err := clusters.Names()
	if err != nil {
		return nil, err
	}
	var removed []string
	var failed error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return removed, errors.Join(failed, err)
		}
		f := clusters.Folder(name)
		lock, free, err := f.Lock()
		if err != nil || !free {
			failed = errors.Join(failed, err)
			continue
		}
		dead, err := gone(ctx, f)
		if err == nil && dead {
			err = f.Remove()
		}
		lock.Close()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("clean up cluster %s: %w", name, err))
		} else if dead {
			removed = append(removed, name)
		}
	}
	return removed, failed
}

// cleanUpOne reports whether a folder that nobody owns can go. It removes the
// nodes of a cluster that was to end with its owner.
func (p *Provider) cleanUpOne(ctx context.Context, f state.Folder) (bool, error) {
	r, err := readRecord(f)
	if err != nil {
		return true, nil // its owner was killed before it made anything
	}
	if !r.Standing {
		return true, p.removeNodes(ctx, f, r)
	}
	t, err := p.tool(ctx)
	if err != nil {
		return false, nil // it may well stand
	}
	if r.elsewhere(t) != nil {
		return false, nil
	}
	nodes, err := t.containers(ctx, r.Name)
	if err != nil {
		return false, nil
	}
	return len(r.mine(nodes)) == 0, nil
}

// forget lets go of the handle of a cluster that was opened.
func (p *Provider) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.handles, name)
}
