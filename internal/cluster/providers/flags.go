package providers

import (
	"flag"
	"strings"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded"
)

// Choice is a kind of cluster with its settings, as a user gives them.
type Choice struct {
	Kind string
	Options
}

// Flags adds the flags of a choice.
func Flags(flags *flag.FlagSet) *Choice {
	c := &Choice{}
	flags.StringVar(&c.Kind, "cluster", embedded.Kind, "kind of `cluster`: "+strings.Join(append(Kinds(), Auto), ", "))
	flags.StringVar(&c.KindImage, "kind-image", "", "node `image` of kind (default kind's own)")
	flags.StringVar(&c.KindConfig, "kind-config", "", "`file` with settings for kind, merged with ours")
	flags.IntVar(&c.Nodes, "nodes", 0, "`number` of kind's nodes that take pods (default 1)")
	flags.BoolVar(&c.Retain, "retain", false, "keep the nodes of a kind cluster that did not come up")
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "`file` that names a cluster that exists (default $KUBECONFIG, then ~/.kube/config)")
	flags.StringVar(&c.Context, "context", "", "`context` of the kubeconfig")
	return c
}

// Provider makes the provider that was chosen. why says which it is, and for
// what reason, when the user left that open.
func (c *Choice) Provider() (provider cluster.Provider, why string, err error) {
	if c.Kind == Auto {
		return auto(c.Options)
	}
	provider, err = New(c.Kind, c.Options)
	return provider, "", err
}
