// Package kubeconfig lets a run use a cluster that exists: one that a
// kubeconfig names, or the one that this process runs in.
//
// Kubeconfigs are found by the rules that kubectl has. What a run gets is a
// file of its own that knows the chosen context only, so that nothing it starts
// can end up at another cluster. Before that the cluster is asked whether it
// answers, knows this user, is new enough and has nodes that take pods: each
// refusal is one line that says what to do.
//
// It makes and deletes no cluster, and changes nothing in one except that it
// removes what killed runs have left there.
package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // users' ways to log in
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/turn"
)

// Kind is this provider's name.
const Kind = "kubeconfig"

// Options say which cluster.
type Options struct {
	// Kubeconfig is a file's path; empty: the files of $KUBECONFIG,
	// ~/.kube/config, and in a pod that has neither the pod's own cluster.
	Kubeconfig string
	// Context is the name of one in the kubeconfig; empty: its current one.
	Context string
	// InCluster chooses the cluster that this process runs in.
	InCluster bool
}

// Provider opens the one cluster that was chosen.
type Provider struct{ config *api.Config }

var _ cluster.Provider = (*Provider)(nil)

// New reads the kubeconfig; it asks no cluster. Errors: *cluster.OptionError,
// which names the file.
func New(options Options) (*Provider, error) {
	config, err := load(options)
	if err != nil {
		return nil, err
	}
	return &Provider{config: config}, nil
}

// Kind implements cluster.Provider.
func (p *Provider) Kind() string { return Kind }

// Name is the cluster's: that of the context.
func (p *Provider) Name() string { return p.config.CurrentContext }

// Create implements cluster.Provider: it checks that the cluster is fit for a
// run. The manifests are not applied. Errors: *cluster.SetupError.
func (p *Provider) Create(ctx context.Context, options cluster.Options) (cluster.Cluster, error) {
	begun := time.Now()
	return p.use(ctx, func(component string, done bool) {
		if options.Progress != nil {
			options.Progress(cluster.Event{Component: component, Done: done, Elapsed: time.Since(begun)})
		}
	})
}

// Open implements cluster.Provider. The name is the context's, or empty.
func (p *Provider) Open(ctx context.Context, name string) (cluster.Cluster, error) {
	if name != "" && name != p.Name() {
		return nil, fmt.Errorf("open cluster %s: %w", name, cluster.ErrNotFound)
	}
	return p.use(ctx, func(string, bool) {})
}

// Delete implements cluster.Provider by refusing.
func (p *Provider) Delete(_ context.Context, name string) error {
	return wrong("cluster", "cluster %s of a kubeconfig was not made by meshproof, which does not delete it", name)
}

// List implements cluster.Provider: it names the chosen context, unasked.
func (p *Provider) List(context.Context) ([]cluster.Info, error) {
	server := p.config.Clusters[p.config.Contexts[p.Name()].Cluster].Server
	return []cluster.Info{{Name: p.Name(), Kind: Kind, Running: true, Standing: true, Server: server}}, nil
}

// Cleanup implements cluster.Provider: it removes from the cluster what runs have
// left that are not there any more. It says of each what it was.
func (p *Provider) Cleanup(ctx context.Context) ([]string, error) {
	if err := sweep(); err != nil {
		return nil, err
	}
	config, err := p.Config()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, &cluster.SetupError{Cause: fmt.Sprintf("use context %q of the kubeconfig", p.Name()), Err: errors.New(oneLine(err))}
	}
	ask, cancel := context.WithTimeout(ctx, askBudget)
	defer cancel()
	if err := checkVersion(ask, config.Host, client.Discovery()); err != nil {
		return nil, err
	}
	id := fmt.Sprintf("cleanup-%s-%d", time.Now().Format("20060102-150405"), os.Getpid())
	removed, err := guest.Cleanup(ctx, config, id, turn.Holder(), func(string) {})
	if err != nil {
		return removed, &cluster.SetupError{Cause: fmt.Sprintf("clean up cluster %s", p.Name()), Err: errors.New(oneLine(err))}
	}
	return removed, nil
}

// Config is how to reach the cluster.
func (p *Provider) Config() (*rest.Config, error) {
	config, err := clientcmd.NewDefaultClientConfig(*p.config, nil).ClientConfig()
	if err != nil {
		return nil, &cluster.SetupError{Cause: fmt.Sprintf("use context %q of the kubeconfig", p.Name()), Err: errors.New(oneLine(err))}
	}
	return config, nil
}

// use asks the cluster and opens it.
func (p *Provider) use(ctx context.Context, progress func(component string, done bool)) (cluster.Cluster, error) {
	config, err := p.Config()
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // a handful of requests
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, &cluster.SetupError{Cause: fmt.Sprintf("use context %q of the kubeconfig", p.Name()), Err: errors.New(oneLine(err))}
	}
	ask, cancel := context.WithTimeout(ctx, askBudget)
	defer cancel()
	progress(componentAPI, false)
	if err := checkVersion(ask, config.Host, client.Discovery()); err != nil {
		return nil, err
	}
	progress(componentAPI, true)
	progress(componentNodes, false)
	capabilities, err := inspect(ask, config)
	if err != nil {
		return nil, err
	}
	progress(componentNodes, true)
	folder, err := write(p.config)
	if err != nil {
		return nil, err
	}
	return &Cluster{name: p.Name(), folder: folder, client: client, capabilities: capabilities, done: make(chan struct{})}, nil
}

const (
	componentAPI   = "API server"
	componentNodes = "nodes"
	// askBudget is for all questions together: an API server that needs longer
	// for a handful of them is of no use.
	askBudget = 30 * time.Second
)
