package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/internal/authz/granted"
	"github.com/meshproof/meshproof/internal/live"
	"github.com/meshproof/meshproof/internal/podport"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/workloads/viz"
)

// askTimeout bounds the question to the scraper, port-forward included.
const askTimeout = 20 * time.Second

func newAuthz(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "authz [flags] RESOURCE", Short: "Show who was let in and by what, or who may come in by which policy", Args: exactArgs(1),
		Long: `Show who was let in and by what, from the proxies' metrics; below that table what Linkerd's own
leaves out: TCP connections, rate limits, requests that no route matches, and audits.

With --policies show instead which policies grant access to which Server and route, from the
objects in the cluster; -o wide adds what default and access policies and probes are granted.`,
		Example: "  meshproof authz -n emojivoto deploy/voting\n  meshproof authz -n emojivoto po/web-0 -t 15s -o json\n  meshproof authz -n emojivoto po --policies -o wide"}
	kube := addKubeFlags(cmd)
	namespace := cmd.Flags().StringP("namespace", "n", "default", "namespace of the resource")
	window := cmd.Flags().DurationP("time-window", "t", authz.DefaultWindow, "window that ends now, 15s to 10m")
	policies := cmd.Flags().Bool("policies", false, "show what the cluster's policies grant instead of what was counted")
	output := cmd.Flags().StringP("output", "o", "table", "table, json, or wide with --policies")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *output != "table" && *output != "json" && !(*output == "wide" && *policies) {
			return usageError("unknown output %q: want table or json, or wide with --policies", *output)
		}
		if *policies && cmd.Flags().Changed("time-window") {
			return usageError("--time-window and --policies exclude each other: policies are those of now")
		}
		if *window < authz.MinWindow || *window > authz.MaxWindow {
			return usageError("time window %s: want %s to %s", *window, authz.MinWindow, authz.MaxWindow)
		}
		config, client, err := kube.client()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		pods, err := podsOf(ctx, client, *namespace, args[0])
		if err != nil {
			return err
		}
		if *policies {
			return showGranted(ctx, streams, config, client, pods, *output)
		}
		answer, err := askScraper(ctx, config, client, pods, *window)
		if err != nil {
			return &ExitError{Code: ExitSetup, Err: err}
		}
		if *output == "json" {
			encoder := json.NewEncoder(streams.Out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(answer)
		}
		return answer.Write(streams.Out)
	}
	return cmd
}

// podsOf resolves deploy/NAME, po/NAME or a bare kind of all pods to meshed
// pods, as namespace/name.
func podsOf(ctx context.Context, client kubernetes.Interface, namespace, resource string) ([]string, error) {
	kind, name, named := strings.Cut(resource, "/")
	var selector *metav1.LabelSelector
	options := metav1.ListOptions{}
	switch kind {
	case "deploy", "deployment", "deployments":
		if !named {
			return nil, usageError("%s: name the deployment, as deploy/voting", resource)
		}
		deployment, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, usageError("get %s in namespace %s: %w", resource, namespace, err)
		}
		selector = deployment.Spec.Selector
	case "sts", "statefulset", "statefulsets":
		set, err := client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, usageError("get %s in namespace %s: %w", resource, namespace, err)
		}
		selector = set.Spec.Selector
	case "ds", "daemonset", "daemonsets":
		set, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, usageError("get %s in namespace %s: %w", resource, namespace, err)
		}
		selector = set.Spec.Selector
	case "po", "pod", "pods":
		if named {
			options.FieldSelector = "metadata.name=" + name
		}
	default:
		return nil, usageError("%s: want deploy/NAME, sts/NAME, ds/NAME, po/NAME or po", resource)
	}
	if selector != nil {
		options.LabelSelector = metav1.FormatLabelSelector(selector)
	}
	list, err := client.CoreV1().Pods(namespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", resource, err)
	}
	var pods []string
	for _, pod := range list.Items {
		if _, meshed := pod.Labels["linkerd.io/control-plane-ns"]; meshed {
			pods = append(pods, pod.Namespace+"/"+pod.Name)
		}
	}
	if len(pods) == 0 {
		return nil, usageError("%s in namespace %s has no meshed pod: nothing enforces policy there", resource, namespace)
	}
	return pods, nil
}

// askScraper asks the scraper on its pod's loopback through a port-forward.
func askScraper(ctx context.Context, config *rest.Config, client kubernetes.Interface, pods []string, window time.Duration) (answer authz.Answer, err error) {
	list, err := client.CoreV1().Pods(viz.Namespace).List(ctx, metav1.ListOptions{LabelSelector: viz.Selector, FieldSelector: "status.phase=Running"})
	if err != nil {
		return answer, fmt.Errorf("find the scraper: %w", err)
	}
	if len(list.Items) == 0 {
		return answer, errors.New("no metrics scraper runs in namespace linkerd-viz (remedy: meshproof viz install | kubectl apply -f -)")
	}
	scraper := types.NamespacedName{Namespace: list.Items[0].Namespace, Name: list.Items[0].Name}
	port, stop, err := podport.Cluster{Config: config, Client: client}.Open(ctx, scraper, viz.Port)
	if err != nil {
		return answer, fmt.Errorf("reach the scraper: %w", err)
	}
	defer stop()
	query := url.Values{"pods": {strings.Join(pods, ",")}, "window": {window.String()}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/authz?%s", port, query.Encode()), nil)
	if err != nil {
		return answer, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer, fmt.Errorf("ask the scraper: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1024)) // what it says about the refusal, as far as it comes
		return answer, fmt.Errorf("the scraper answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the scraper's answer: %w", err)
	}
	return answer, nil
}

// showGranted prints what policies grant at the ports of the pods.
func showGranted(ctx context.Context, streams IOStreams, config *rest.Config, client kubernetes.Interface, names []string, output string) error {
	cluster, err := live.Read(ctx, config, "")
	if err != nil {
		return err
	}
	var pods []*corev1.Pod
	for _, full := range names {
		namespace, name, _ := strings.Cut(full, "/")
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return &ExitError{Code: ExitSetup, Err: fmt.Errorf("read pod %s: %w", full, err)}
		}
		pods = append(pods, pod)
	}
	rows := granted.Rows(oracle.New(cluster.World, cluster.Dialect), pods)
	if output == "json" {
		encoder := json.NewEncoder(streams.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rows)
	}
	return granted.Write(streams.Out, rows, output == "wide")
}
