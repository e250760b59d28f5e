// Package providers is the table of the kinds of clusters: it makes the provider
// that a user names, from the settings that only some providers have.
//
// The command line and the suites choose through it, so that both know the same
// flags and kinds and refuse the same mistakes. It makes no cluster itself.
package providers

import (
	"fmt"
	"slices"
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

// Made are the kinds whose clusters this program makes, and must clean up.
func Made() []string { return []string{embedded.Kind, kind.Kind} }

// New makes the provider of that kind. The error says what is wrong with the
// settings.
func New(name string, options Options) (cluster.Provider, error) {
	if !slices.Contains(Kinds(), name) {
		return nil, &cluster.OptionError{Option: "cluster", Problem: fmt.Sprintf("no kind of cluster is called %q; known are %s", name, strings.Join(append(Kinds(), Auto), ", "))}
	}
	if err := refuse(name, options); err != nil {
		return nil, err
	}
	switch name {
	case kind.Kind:
		return newKind(options)
	case kubeconfig.Kind:
		return kubeconfig.New(kubeconfig.Options{Kubeconfig: options.Kubeconfig, Context: options.Context})
	}
	return embedded.New(options.Programs, options.State)
}

func newKind(options Options) (*kind.Provider, error) {
	return kind.New(kind.Options{Image: options.KindImage, Config: options.KindConfig, Nodes: options.Nodes, Retain: options.Retain, State: options.State})
}

// refuse finds a setting that a kind of cluster does not have. Auto has those of
// kind, for the case that it is chosen.
func refuse(name string, options Options) error {
	for _, row := range []struct {
		option string
		set    bool
		kinds  []string
	}{
		{"kind-image", options.KindImage != "", []string{kind.Kind, Auto}},
		{"kind-config", options.KindConfig != "", []string{kind.Kind, Auto}},
		{"nodes", options.Nodes != 0, []string{kind.Kind, Auto}},
		{"retain", options.Retain, []string{kind.Kind, Auto}},
		{"kubeconfig", options.Kubeconfig != "", []string{kubeconfig.Kind}},
		{"context", options.Context != "", []string{kubeconfig.Kind}},
	} {
		if row.set && !slices.Contains(row.kinds, name) {
			return &cluster.OptionError{Option: row.option, Problem: fmt.Sprintf("a cluster of kind %q has no such setting; it belongs to --cluster %s", name, strings.Join(row.kinds, " or "))}
		}
	}
	return nil
}
