// Package e2eframework makes the clusters of this project usable by suites
// that are written with sigs.k8s.io/e2e-framework: it turns any
// cluster.Provider into the framework's own kind of provider.
//
// A name and settings flow in, as the framework's environment functions hand
// them on; a kubeconfig flows out. The cluster is made by this project's
// libraries: no program is looked for, installed or run by name, and what the
// framework offers for that is refused. What a cluster is, and how it ends, is
// the provider's business.
package e2eframework

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/support"

	"github.com/meshproof/meshproof/internal/cluster"
)

// Settings are what a suite can ask for by the framework's means. Each may be
// empty, which is the provider's default.
type Settings struct {
	// Version is the version or node image from WithVersion.
	Version string
	// Programs is the folder from WithPath, from which images are made, too.
	Programs string
	// Config is the path of the file from CreateWithConfig.
	Config string
}

// Make makes the provider for settings. It refuses what the kind of cluster
// does not have.
type Make func(Settings) (cluster.Provider, error)

// Adapter is one cluster, or the wish for one, as the framework sees it. After
// Create it belongs to that cluster for good: given another name it hands the
// wish on to an Adapter of its own, so that one value can be the template of
// several clusters. Its methods may be called concurrently.
type Adapter struct {
	make     Make
	settings Settings
	name     string

	mu       sync.Mutex
	provider cluster.Provider
	cluster  cluster.Cluster // nil before Create
	config   *rest.Config
	context  string
}

var _ support.E2EClusterProviderWithImageLoader = (*Adapter)(nil)

// New adapts a provider that is there already, and whose settings are fixed.
func New(provider cluster.Provider) *Adapter {
	return NewFrom(func(s Settings) (cluster.Provider, error) {
		if s.Version != "" || s.Config != "" {
			return nil, fmt.Errorf("the settings of this %s provider are fixed: leave out version and configuration file", provider.Kind())
		}
		return provider, nil
	})
}

// NewFrom adapts a provider that is made when its settings are known.
func NewFrom(make Make) *Adapter { return &Adapter{make: make} }

// with changes the wish, or begins another when there is a cluster already.
func (a *Adapter) with(change func(*Adapter)) support.E2EClusterProvider {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cluster != nil {
		another := &Adapter{make: a.make, settings: a.settings, name: a.name}
		change(another)
		return another
	}
	change(a)
	return a
}

// WithName names the cluster; empty is made up.
func (a *Adapter) WithName(name string) support.E2EClusterProvider {
	if a.Cluster() != nil && a.name == name {
		return a
	}
	return a.with(func(a *Adapter) { a.name = name })
}

// WithVersion asks for a version of Kubernetes, in the provider's terms.
func (a *Adapter) WithVersion(version string) support.E2EClusterProvider {
	return a.with(func(a *Adapter) { a.settings.Version = version })
}

// WithPath names the folder of this project's programs.
func (a *Adapter) WithPath(path string) support.E2EClusterProvider {
	return a.with(func(a *Adapter) { a.settings.Programs = path })
}

// WithOpts applies the framework's own kind of options.
func (a *Adapter) WithOpts(opts ...support.ClusterOpts) support.E2EClusterProvider {
	for _, opt := range opts {
		opt(a)
	}
	return a
}

// SetDefaults changes nothing: what was not asked for is up to the provider.
func (a *Adapter) SetDefaults() support.E2EClusterProvider { return a }

// Create makes the cluster and returns the path of its kubeconfig. Errors are
// those of cluster.Provider; arguments of another program's command line are
// refused.
func (a *Adapter) Create(ctx context.Context, args ...string) (string, error) {
	if err := noArgs(args); err != nil {
		return "", fmt.Errorf("create cluster %q: %w", a.name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cluster != nil {
		return "", fmt.Errorf("create cluster %q: %w", a.name, cluster.ErrExists)
	}
	provider, err := a.make(a.settings)
	if err != nil {
		return "", fmt.Errorf("create cluster %q: %w", a.name, err)
	}
	c, err := provider.Create(ctx, cluster.Options{Name: a.name})
	if err != nil {
		return "", err
	}
	config, context, err := load(c.Kubeconfig())
	if err != nil {
		return "", errors.Join(err, c.Close(ctx))
	}
	a.provider, a.cluster, a.config, a.context = provider, c, config, context
	return c.Kubeconfig(), nil
}

// CreateWithConfig is Create with the provider's own configuration file.
func (a *Adapter) CreateWithConfig(ctx context.Context, configFile string) (string, error) {
	a.mu.Lock()
	a.settings.Config = configFile
	a.mu.Unlock()
	return a.Create(ctx)
}

// load reads what the framework asks for without a way to fail.
func load(kubeconfig string) (*rest.Config, string, error) {
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*file, nil).ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	return config, file.CurrentContext, nil
}

// Cluster is the cluster that Create made, nil before and after Destroy: what
// the framework has no word for, such as its capabilities.
func (a *Adapter) Cluster() cluster.Cluster {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cluster
}

// errNoCluster is what a method returns that needs a cluster.
var errNoCluster = errors.New("there is no cluster: call Create first")

// GetKubeconfig is the path of the kubeconfig, empty without a cluster.
func (a *Adapter) GetKubeconfig() string {
	if c := a.Cluster(); c != nil {
		return c.Kubeconfig()
	}
	return ""
}

// GenerateKubeconfig is GetKubeconfig: there is one file, and it stays as it is.
func (a *Adapter) GenerateKubeconfig(args ...string) (string, error) {
	if err := noArgs(args); err != nil {
		return "", fmt.Errorf("write kubeconfig: %w", err)
	}
	c := a.Cluster()
	if c == nil {
		return "", errNoCluster
	}
	return c.Kubeconfig(), nil
}

// GetKubectlContext is the kubeconfig's current context, empty without a cluster.
func (a *Adapter) GetKubectlContext() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.context
}

// KubernetesRestConfig returns a copy of the configuration of clients, nil
// without a cluster.
func (a *Adapter) KubernetesRestConfig() *rest.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.config == nil {
		return nil
	}
	return rest.CopyConfig(a.config)
}

// WaitForControlPlane asks the API once: Create returns when the cluster is
// ready.
func (a *Adapter) WaitForControlPlane(ctx context.Context, client klient.Client) error {
	c := a.Cluster()
	if c == nil {
		return errNoCluster
	}
	return answers(ctx, c.Name(), client)
}

// answers reports whether the API serves and a node takes pods.
func answers(ctx context.Context, name string, client klient.Client) error {
	var nodes corev1.NodeList
	if err := client.Resources().List(ctx, &nodes); err != nil {
		return fmt.Errorf("list the nodes of cluster %q: %w", name, err)
	}
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
	}
	return fmt.Errorf("none of the %d nodes of cluster %q is Ready", len(nodes.Items), name)
}

// ExportLogs copies the logs of components and pods into dest.
func (a *Adapter) ExportLogs(ctx context.Context, dest string) error {
	c := a.Cluster()
	if c == nil {
		return errNoCluster
	}
	return c.Logs(ctx, dest)
}

// Destroy ends the cluster. Without one, or twice, it does nothing.
func (a *Adapter) Destroy(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cluster == nil {
		return nil
	}
	if err := a.cluster.Close(ctx); err != nil {
		return fmt.Errorf("destroy cluster %q: %w", a.cluster.Name(), err)
	}
	a.cluster, a.config, a.context = nil, nil, ""
	return nil
}

func noArgs(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("no program is run, so that arguments such as %q mean nothing: use WithVersion, WithPath or a configuration file", args[0])
	}
	return nil
}
