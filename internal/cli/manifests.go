package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// manifestFlags are the flags of every verb that judges manifests without a
// cluster.
type manifestFlags struct {
	files           []string
	namespace       string
	dialect         string
	defaultPolicy   string
	clusterNetworks []string
	probeNetworks   []string
	controlPlane    string
	trustDomain     string
}

func addManifestFlags(cmd *cobra.Command) *manifestFlags {
	f := &manifestFlags{}
	is := oracle.DefaultSettings()
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "file or folder of manifests, - for standard input; may be given several times")
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "default", "namespace of objects that name none")
	cmd.Flags().StringVar(&f.dialect, "dialect", api.DialectDocumented, "documented or linkerd")
	cmd.Flags().StringVar(&f.defaultPolicy, "default-inbound-policy", string(is.DefaultPolicy), "the cluster's default policy")
	cmd.Flags().StringSliceVar(&f.clusterNetworks, "cluster-networks", prefixTexts(is.ClusterNetworks), "networks that count as the cluster's")
	cmd.Flags().StringSliceVar(&f.probeNetworks, "probe-networks", prefixTexts(is.ProbeNetworks), "networks that probes may come from")
	cmd.Flags().StringVar(&f.controlPlane, "control-plane-namespace", is.ControlPlaneNamespace, "namespace of the control plane, a part of identities")
	cmd.Flags().StringVar(&f.trustDomain, "trust-domain", is.TrustDomain, "trust domain, a part of identities")
	return f
}

func prefixTexts(prefixes []netip.Prefix) []string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return texts
}

// read reads the manifests and makes the oracle that judges them.
func (f *manifestFlags) read(streams IOStreams) (*objects.Set, oracle.Oracle, error) {
	var none oracle.Oracle
	if len(f.files) == 0 {
		return nil, none, usageError("no manifests: name files or folders with -f, or - for standard input, or ask a cluster with --live")
	}
	dialect, err := api.ParseDialect(f.dialect)
	if err != nil {
		return nil, none, usageError("--dialect: %w", err)
	}
	settings := oracle.Settings{DefaultPolicy: api.PolicyName(f.defaultPolicy), ControlPlaneNamespace: f.controlPlane, TrustDomain: f.trustDomain}
	if !settings.DefaultPolicy.Valid() {
		return nil, none, usageError("--default-inbound-policy %q: want one of %v", f.defaultPolicy, api.PolicyNames())
	}
	if settings.ClusterNetworks, err = prefixesOf("--cluster-networks", f.clusterNetworks); err != nil {
		return nil, none, err
	}
	if settings.ProbeNetworks, err = prefixesOf("--probe-networks", f.probeNetworks); err != nil {
		return nil, none, err
	}
	var sources []objects.Source
	for _, name := range f.files {
		source := objects.Source{Name: name}
		if name == "-" {
			source = objects.Source{Name: "stdin", Stream: streams.In}
		}
		sources = append(sources, source)
	}
	set, err := objects.Read(sources, objects.Options{Namespace: f.namespace})
	if err != nil {
		return nil, none, &ExitError{Code: ExitUsage, Err: err}
	}
	set.World.Settings = settings
	return set, oracle.New(set.World, dialect), nil
}

func prefixesOf(flag string, texts []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, usageError("%s: %w", flag, fmt.Errorf("%q is no network", text))
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
}
