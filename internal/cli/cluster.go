package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/providers"
)

// defaultClusterName is what a cluster is called whose user did not care.
const defaultClusterName = "meshproof"

func newCluster(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Create, list and delete clusters", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	choice := addClusterFlags(cmd)
	for _, verb := range []func(IOStreams, *providers.Choice) *cobra.Command{newClusterCreate, newClusterDelete, newClusterList, newClusterKubeconfig, newClusterLoad} {
		cmd.AddCommand(verb(streams, choice))
	}
	return cmd
}

// nameFlag adds the flag that all verbs about one cluster share.
func nameFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("name", defaultClusterName, "name of the cluster")
}

func newClusterCreate(streams IOStreams, choice *providers.Choice) *cobra.Command {
	cmd := &cobra.Command{Use: "create", Short: "Create a cluster that stands until it is deleted", Args: exactArgs(0)}
	name := nameFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		provider, _, err := choice.Provider()
		if err != nil {
			return err
		}
		if exclusive, ok := provider.(cluster.Exclusive); ok {
			release, err := exclusive.Exclusive(cmd.Context(), *name, func() { fmt.Fprintf(streams.Err, "waiting for whoever uses cluster %s to finish\n", *name) })
			if err != nil {
				return err
			}
			defer release()
		}
		created, err := provider.Create(cmd.Context(), cluster.Options{Name: *name, Standing: true, Progress: progress(streams.Err)})
		if err != nil {
			return err
		}
		defer created.Close(cmd.Context())
		fmt.Fprintf(streams.Out, "Cluster %s is ready.\n\n  export KUBECONFIG=%s\n  kubectl get pods -A\n", created.Name(), created.Kubeconfig())
		return nil
	}
	return cmd
}

// progress prints one line per component that became ready.
func progress(out io.Writer) func(cluster.Event) {
	return func(e cluster.Event) {
		if e.Done {
			fmt.Fprintf(out, "  ✓ %-24s %5.1fs\n", e.Component, e.Elapsed.Seconds())
		}
	}
}

func newClusterDelete(streams IOStreams, choice *providers.Choice) *cobra.Command {
	cmd := &cobra.Command{Use: "delete", Short: "End a cluster and remove what it left", Args: exactArgs(0)}
	name := nameFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		provider, _, err := choice.Provider()
		if err != nil {
			return err
		}
		if err := provider.Delete(cmd.Context(), *name); err != nil {
			return err
		}
		fmt.Fprintf(streams.Out, "Cluster %s is gone.\n", *name)
		return nil
	}
	return cmd
}

func newClusterList(streams IOStreams, choice *providers.Choice) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List clusters", Args: exactArgs(0)}
	output := cmd.Flags().StringP("output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var clusters []cluster.Info
		err := each(cmd, choice, func(provider cluster.Provider) error {
			found, err := provider.List(cmd.Context())
			clusters = append(clusters, found...)
			return err
		})
		if err != nil {
			return err
		}
		switch *output {
		case "json":
			if clusters == nil {
				clusters = []cluster.Info{}
			}
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(clusters)
		case "table":
			return printClusters(streams.Out, clusters)
		}
		return usageError("unknown output %q: want table or json", *output)
	}
	return cmd
}

func printClusters(out io.Writer, clusters []cluster.Info) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tKIND\tSTATE\tAGE\tSERVER\tKUBECONFIG")
	for _, c := range clusters {
		state := "gone (meshproof cleanup removes it)"
		switch {
		case c.Running && c.Standing:
			state = "standing"
		case c.Running:
			state = "owned by a run"
		}
		age := "-"
		if !c.Created.IsZero() {
			age = time.Since(c.Created).Round(time.Second).String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", c.Name, c.Kind, state, age, c.Server, c.Kubeconfig)
	}
	return table.Flush()
}

func newClusterKubeconfig(streams IOStreams, choice *providers.Choice) *cobra.Command {
	cmd := &cobra.Command{Use: "kubeconfig", Short: "Print the path of a cluster's kubeconfig", Args: exactArgs(0)}
	name := nameFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		provider, _, err := choice.Provider()
		if err != nil {
			return err
		}
		found, err := provider.Open(cmd.Context(), *name)
		if err != nil {
			return err
		}
		fmt.Fprintln(streams.Out, found.Kubeconfig())
		return nil
	}
	return cmd
}

func newClusterLoad(streams IOStreams, choice *providers.Choice) *cobra.Command {
	cmd := &cobra.Command{Use: "load ARCHIVE...", Short: "Load images from archives onto every node", Args: cobra.MinimumNArgs(1),
		Example: "  meshproof images save -o images.tar && meshproof cluster load --cluster kind --name demo images.tar"}
	name := nameFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		provider, _, err := choice.Provider()
		if err != nil {
			return err
		}
		found, err := provider.Open(cmd.Context(), *name)
		if err != nil {
			return err
		}
		defer found.Close(cmd.Context())
		loader, ok := found.(cluster.ImageLoader)
		if !ok {
			return usageError("the %s cluster %s takes no images", provider.Kind(), *name)
		}
		if err := loader.LoadImages(cmd.Context(), args...); err != nil {
			return err
		}
		fmt.Fprintf(streams.Out, "Cluster %s has the images.\n", *name)
		return nil
	}
	return cmd
}
