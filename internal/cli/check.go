package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/health"
	"github.com/meshproof/meshproof/internal/podport"
	"github.com/meshproof/meshproof/internal/policy/api"
)

const (
	// defaultCheckWait is how long a mesh that was just applied may take to
	// become healthy; --wait changes it.
	defaultCheckWait = 30 * time.Second
	// checkInterval is between two looks at a mesh that is not healthy yet.
	checkInterval = 500 * time.Millisecond
)

func newCheck(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "check", Short: "Say whether the mesh is healthy, with a remedy for what is not", Args: exactArgs(0),
		Example: "  meshproof check\n  meshproof check -n emojivoto --proxy -o short"}
	kube := addKubeFlags(cmd)
	var options health.Options
	cmd.Flags().BoolVar(&options.Proxy, "proxy", false, "check the proxies of meshed pods too")
	cmd.Flags().StringVarP(&options.Namespace, "namespace", "n", "", "namespace of the pods (default all)")
	wait := cmd.Flags().Duration("wait", defaultCheckWait, "how long to wait for everything to become healthy")
	output := cmd.Flags().StringP("output", "o", "table", "table, short or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, client, err := kube.client()
		if err != nil {
			return err
		}
		options.Ask = podport.Cluster{Config: config, Client: client}.Get
		options.Refused = func(ctx context.Context) (bool, error) { return refusesInvalid(ctx, config) }
		checks, err := checkUntil(cmd.Context(), client, options, *wait)
		if err != nil {
			return &ExitError{Code: ExitSetup, Err: err}
		}
		switch *output {
		case "table", "short":
			health.Write(streams.Out, checks, *output == "short")
		case "json":
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			if err := encoder.Encode(checks); err != nil {
				return fmt.Errorf("print the checks: %w", err)
			}
		default:
			return usageError("unknown output %q: want table, short or json", *output)
		}
		if !health.Healthy(checks) {
			return &ExitError{Code: ExitFinding}
		}
		return nil
	}
	return cmd
}

// refusesInvalid creates a Server that no validator admits, as a dry run.
func refusesInvalid(ctx context.Context, config *rest.Config) (bool, error) {
	quiet := rest.CopyConfig(config)
	quiet.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(quiet)
	if err != nil {
		return false, fmt.Errorf("make a client: %w", err)
	}
	invalid := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": api.Servers.GroupVersion().String(), "kind": api.ServerKind, "metadata": map[string]any{"name": "meshproof-check"},
		"spec": map[string]any{"podSelector": map[string]any{}, "port": int64(1), "proxyProtocol": "none that there is"},
	}}
	_, err = client.Resource(api.Servers).Namespace(metav1.NamespaceDefault).Create(ctx, invalid, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsForbidden(err) {
		return false, err // this user may not try
	}
	if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return true, nil
	}
	return false, err
}

// checkUntil checks again and again until everything holds or the time is up,
// and returns the last findings.
func checkUntil(ctx context.Context, client kubernetes.Interface, options health.Options, wait time.Duration) ([]health.Check, error) {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	again := time.NewTicker(checkInterval)
	defer again.Stop()
	for {
		checks, err := health.Run(ctx, client, options)
		if err != nil || health.Healthy(checks) {
			return checks, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return checks, nil
		case <-again.C:
		}
	}
}
