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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/authz"
	"github.com/meshproof/meshproof/internal/podport"
	"github.com/meshproof/meshproof/workloads/viz"
)

// askTimeout bounds the question to the scraper, port-forward included.
const askTimeout = 20 * time.Second

func newAuthz(streams IOStreams) *cobra.Command {
	cmd := &cobra.Command{Use: "authz [flags] RESOURCE", Short: "Show who was let in and by what, from the proxies' metrics", Args: exactArgs(1),
		Example: "  meshproof authz -n emojivoto deploy/voting\n  meshproof authz -n emojivoto po/web-0 -t 15s -o json"}
	kube := addKubeFlags(cmd)
	namespace := cmd.Flags().StringP("namespace", "n", "default", "namespace of the resource")
	window := cmd.Flags().DurationP("time-window", "t", authz.DefaultWindow, "window that ends now, 15s to 10m")
	output := cmd.Flags().StringP("output", "o", "table", "table or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *output != "table" && *output != "json" {
			return usageError("unknown output %q: want table or json", *output)
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
