package cli

import (
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster/providers"
	"github.com/meshproof/meshproof/internal/session"
)

// input opens a file that the user named, or standard input for "-".
func input(streams IOStreams, name string) (io.Reader, func(), error) {
	if name == "-" {
		return streams.In, func() {}, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, &ExitError{Code: ExitUsage, Err: err}
	}
	return file, func() { file.Close() }, nil // read only: nothing can be lost
}

// addSessionFlags adds the flags that the command line has in common with the
// suites.
func addSessionFlags(cmd *cobra.Command) *session.Flags {
	own := flag.NewFlagSet("", flag.ContinueOnError)
	f := session.AddFlags(own)
	own.VisitAll(func(one *flag.Flag) {
		long := pflag.PFlagFromGoFlag(one)
		if long.Name == "parallel" {
			long.Shorthand = "p" // which counts only when it is there before the flag is added
		}
		cmd.Flags().AddFlag(long)
	})
	return f
}

// addClusterFlags adds the flags that choose a kind of cluster.
func addClusterFlags(cmd *cobra.Command) *providers.Choice {
	own := flag.NewFlagSet("", flag.ContinueOnError)
	c := providers.Flags(own)
	cmd.PersistentFlags().AddGoFlagSet(own)
	return c
}

// kubeFlags are the flags by which every verb on a standing cluster finds it,
// spelt as kubectl spells them.
type kubeFlags struct{ kubeconfig, context string }

func addKubeFlags(cmd *cobra.Command) *kubeFlags {
	f := &kubeFlags{}
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "path of the kubeconfig (default $KUBECONFIG, then ~/.kube/config)")
	cmd.Flags().StringVar(&f.context, "context", "", "context of the kubeconfig")
	return f
}

func (f *kubeFlags) client() (*rest.Config, kubernetes.Interface, error) {
	session.Quieten()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return nil, nil, &ExitError{Code: ExitUsage, Err: fmt.Errorf("find the cluster: %w (name one with --kubeconfig)", err)}
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, &ExitError{Code: ExitUsage, Err: fmt.Errorf("make a client for %s: %w", config.Host, err)}
	}
	return config, client, nil
}
