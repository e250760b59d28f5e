// Package e2eframework is for suites outside of this module that are written
// with sigs.k8s.io/e2e-framework: it is the framework's provider of any kind of
// cluster that meshproof runs on.
//
// Options flow in; the framework does the rest through its own interface. No
// program is looked for or installed: the embedded cluster needs the folder of
// this project's programs, kind a container runtime and a node image.
package e2eframework

import (
	"sigs.k8s.io/e2e-framework/support"

	"github.com/meshproof/meshproof/internal/cluster/e2eframework"
	"github.com/meshproof/meshproof/internal/cluster/providers"
)

// Options say which clusters are wanted. A setting that the kind of cluster does
// not have must be left empty.
type Options struct {
	// Kind of cluster: "embedded", "kind" or "kubeconfig".
	Kind string
	// Programs is the folder of this project's programs, bin/ of a build; empty:
	// the folder of the running program.
	Programs string
	// KindImage is the node image of kind, KindConfig the path of a configuration
	// of kind's own, and Nodes how many nodes take pods.
	KindImage, KindConfig string
	Nodes                 int
	// Kubeconfig and Context name a cluster that exists, as kubectl does.
	Kubeconfig, Context string
}

// New returns a provider of such clusters: the template of any number of them.
// Each belongs to the process that made it and ends with it. The error says what
// is wrong with the options.
func New(options Options) (support.E2EClusterProviderWithImageLoader, error) {
	choice := providers.Choice{Kind: options.Kind, Options: providers.Options{Programs: options.Programs,
		KindImage: options.KindImage, KindConfig: options.KindConfig, Nodes: options.Nodes,
		Kubeconfig: options.Kubeconfig, Context: options.Context}}
	if _, _, err := choice.Provider(); err != nil {
		return nil, err
	}
	return e2eframework.Choice(choice), nil
}
