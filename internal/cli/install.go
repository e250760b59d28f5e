package cli

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/workloads/images"
	"github.com/meshproof/meshproof/workloads/mesh"
	"github.com/meshproof/meshproof/workloads/mesh/values"
	"github.com/meshproof/meshproof/workloads/viz"
)

func newInstall(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "install", Short: "Print the manifests of the built-in mesh; applying them again is the upgrade", Args: exactArgs(0),
		Example: "  meshproof install | kubectl apply -f -\n  meshproof install --default-inbound-policy deny | kubectl apply -f -"}
	var options mesh.Options
	var exemption string
	flags := cmd.Flags()
	flags.StringVar(&options.DefaultInboundPolicy, "default-inbound-policy", "", "default policy of the cluster (default all-unauthenticated)")
	flags.StringSliceVar(&options.ClusterNetworks, "cluster-networks", nil, "address ranges of the cluster, for the cluster-* policies (default the private ranges)")
	flags.StringSliceVar(&options.ProbeNetworks, "probe-networks", nil, "address ranges that probes come from (default everywhere)")
	flags.BoolVar(&options.HA, "ha", false, "three replicas of everything, and no pod without the injector")
	flags.StringVar(&exemption, "proxy-exemption", "", "how interception knows the proxy's traffic: auto, uid or mark (default auto)")
	flags.StringVar(&options.Dialect, "dialect", "", "documented or linkerd (default documented)")
	gateway := flags.Bool("skip-gateway-api", false, "leave out the CRDs of the Gateway API, for clusters that have them already")
	common := flag.NewFlagSet("", flag.ContinueOnError)
	mesh.ImageFlags(common, &options)
	flags.AddGoFlagSet(common)
	cmd.RunE = func(*cobra.Command, []string) error {
		options.ProxyExemption = values.Exemption(exemption)
		if *gateway {
			options.SkipCRDs = mesh.GatewayCRDs()
		}
		manifests, err := mesh.Install(options)
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		_, err = streams.Out.Write(manifests)
		return err
	}
	return cmd
}

func newUninstall(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "uninstall", Short: "Print what to delete to be rid of the built-in mesh", Args: exactArgs(0),
		Long: `Print what to delete to be rid of the built-in mesh.

The CRDs of the Gateway API are among it only with --gateway-api: others may use them, and with
them go all routes of the cluster.`,
		Example: "  meshproof uninstall | kubectl delete --ignore-not-found -f -"}
	gateway := cmd.Flags().Bool("gateway-api", false, "delete the CRDs of the Gateway API as well, with every route of the cluster")
	cmd.RunE = func(*cobra.Command, []string) error {
		for _, object := range mesh.Uninstall() {
			if mesh.IsGatewayCRD(object.Name) && !*gateway {
				continue
			}
			text, err := yaml.Marshal(object.Reference())
			if err != nil {
				return fmt.Errorf("print %s: %w", object.Name, err)
			}
			if _, err := fmt.Fprintf(streams.Out, "---\n%s", text); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func newInject(streams IOStreams) *cobra.Command {
	return &cobra.Command{Use: "inject FILE", Short: "Ask for a proxy in every pod template of the manifests; - reads standard input", Args: exactArgs(1),
		Example: "  meshproof inject emojivoto.yml | kubectl apply -f -",
		RunE: func(_ *cobra.Command, args []string) error {
			in, done, err := input(streams, args[0])
			if err != nil {
				return err
			}
			defer done()
			if err := mesh.InjectManifests(in, streams.Out); err != nil {
				return &ExitError{Code: ExitUsage, Err: fmt.Errorf("%s: %w", args[0], err)}
			}
			return nil
		}}
}

func newViz(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "viz", Short: "The metrics scraper that `meshproof authz` asks", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	install := &cobra.Command{Use: "install", Short: "Print the scraper's manifests; apply them once the mesh is ready", Args: exactArgs(0),
		Example: "  meshproof viz install | kubectl apply -f -"}
	registry := install.Flags().String("registry", "", "registry that has the image, perhaps with a path (see images push)")
	install.RunE = func(*cobra.Command, []string) error {
		_, err := io.WriteString(streams.Out, strings.ReplaceAll(viz.Manifests(), images.Agent, images.Relocate(images.Agent, *registry)))
		return err
	}
	cmd.AddCommand(install)
	return cmd
}
