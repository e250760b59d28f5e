package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshproof/meshproof/internal/podport"
	"github.com/meshproof/meshproof/internal/served"
)

// diagnoseTimeout bounds the questions to all controllers and to the proxy.
const diagnoseTimeout = 30 * time.Second

func newDiagnostics(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "diagnostics", Short: "Ask the mesh what it does, port by port", Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newDiagnosticsPolicy(streams))
	return cmd
}

func newDiagnosticsPolicy(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "policy NAMESPACE/POD PORT", Short: "Print the policy that is served for a port, and whether the proxy enforces it", Args: exactArgs(2),
		Long: `Print what the policy controller answers when a proxy asks about a port (GetPort), and whether
the pod's proxy has exactly that in force. Every replica of the controller is asked.

The exit code is 1 when the replicas serve different policies, or the proxy enforces another one.`,
		Example: "  meshproof diagnostics policy emojivoto/voting-5f5b555dff-4cjkq grpc\n  meshproof diagnostics policy shop/web-0 8080 -o json | jq .server.authorizations"}
	kube := addKubeFlags(cmd)
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *output != "text" && *output != "json" {
			return usageError("unknown output %q: want text or json", *output)
		}
		namespace, name, ok := strings.Cut(args[0], "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return usageError("%q: want NAMESPACE/POD, such as emojivoto/web-0", args[0])
		}
		config, client, err := kube.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), diagnoseTimeout)
		defer cancel()
		cluster, pod := podport.Cluster{Config: config, Client: client}, types.NamespacedName{Namespace: namespace, Name: name}
		port, err := served.FindPort(ctx, cluster, pod, args[1])
		if err != nil {
			return &ExitError{Code: ExitUsage, Err: err}
		}
		answer, err := served.Ask(ctx, cluster, pod, port)
		switch {
		case errors.Is(err, served.ErrUnknown), apierrors.IsNotFound(err):
			return &ExitError{Code: ExitUsage, Err: err}
		case err != nil:
			return &ExitError{Code: ExitSetup, Err: err}
		}
		if *output == "json" {
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(answer)
		} else {
			err = answer.Write(streams.Out)
		}
		if err != nil {
			return err
		}
		if !answer.Agree() || !answer.Enforced {
			return &ExitError{Code: ExitFinding}
		}
		return nil
	}
	return cmd
}
