// Package providers is the table of the kinds of clusters: it makes the provider
// that a user names, from the settings that only some providers have.
//
// The command line and the suites choose through it, so that both know the same
// flags and kinds and refuse the same mistakes. It makes no cluster itself.
package providers

import (
	"fmt"
	"strings"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded"
	"github.com/meshproof/meshproof/internal/cluster/kind"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
)

// Options are the settings of all providers. One that the chosen provider does
// not have is refused unless it is empty.
type Options struct {
	// Programs is the folder of this project's programs; empty: the folder of
	// the running one.
	Programs string
	// State is the folder in which clusters are remembered; empty: the default.
	State string

	// KindImage is the node image of kind, KindConfig the path of a file with
	// the user's own kind configuration, and Nodes how many nodes there are; 0 is
	// what the file says, or one. Retain keeps the nodes of a cluster that did not
	// come up.
	KindImage, KindConfig string
	Nodes                 int
	Retain                bool

	// Kubeconfig and Context name a cluster that exists, as kubectl does.
	Kubeconfig, Context string
}

// Kinds are the names that New takes.
func Kinds() []string { return []string{embedded.Kind, kind.Kind, kubeconfig.Kind} }

// New makes the provider of that kind. The error says what is wrong with the
// settings.
func New(name string, options Options) (cluster.Provider, error) {
	switch name {
	case embedded.Kind:
		return embedded.New(options.Programs, options.State)
	case kind.Kind:
		return kind.New(kind.Options{Image: options.KindImage, Config: options.KindConfig, Nodes: options.Nodes, Retain: options.Retain, State: options.State})
	case kubeconfig.Kind:
		return kubeconfig.New(kubeconfig.Options{Kubeconfig: options.Kubeconfig, Context: options.Context})
	}
	return nil, &cluster.OptionError{Option: "cluster", Problem: fmt.Sprintf("no kind of cluster is called %q; known are %s", name, strings.Join(Kinds(), ", "))}
}
