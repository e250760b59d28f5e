package health

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/workloads/mesh/values"
)

const (
	// leaseName is the Lease of the replica that writes statuses.
	leaseName = "policy-controller-write"
	// controllerSelector chooses the pods that serve policy.
	controllerSelector = "linkerd.io/control-plane-component=destination"
	policyContainer    = "policy"

	// observePort and proxyPort are where controllers and proxies tell what they
	// have observed and enforce.
	observePort, proxyPort = 9990, 4192
	// fromController is what a proxy says of a policy that a controller has told.
	fromController = "controller"

	versionAnnotation = "linkerd.io/proxy-version"
	logsOfPolicy      = "kubectl -n linkerd logs deploy/linkerd-destination -c policy"
)

// ownVersions are the annotations by which a pod asks for another proxy.
var ownVersions = []string{"config.linkerd.io/proxy-version", "config.linkerd.io/proxy-image"}

// configuration checks what the roles read when they start.
func configuration(ctx context.Context, client kubernetes.Interface, _ Options) ([]Check, error) {
	c := Check{Category: "linkerd-config", Name: "the mesh's configuration can be read"}
	found, err := client.CoreV1().ConfigMaps(controlPlaneNamespace).Get(ctx, values.ConfigMapName, metav1.GetOptions{})
	var v values.Values
	switch {
	case apierrors.IsNotFound(err):
		c.Problem = "ConfigMap " + values.ConfigMapName + " does not exist"
	case err != nil:
		return nil, fmt.Errorf("get configmap %s/%s: %w", controlPlaneNamespace, values.ConfigMapName, err)
	default:
		if v, err = values.Parse([]byte(found.Data[values.Key])); err != nil {
			c.Problem = err.Error()
		}
	}
	if c.Problem != "" {
		c.Remedy = "meshproof install | kubectl apply -f -"
		return []Check{c}, nil
	}
	image := Check{Category: "linkerd-config", Name: "the control plane runs the version that is configured"}
	list, err := client.AppsV1().Deployments(controlPlaneNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the deployments of %s: %w", controlPlaneNamespace, err)
	}
	for _, d := range list.Items {
		for _, container := range d.Spec.Template.Spec.Containers {
			if slices.Contains(controlPlane, d.Name) && container.Image != v.ControllerImage {
				image.Problem = fmt.Sprintf("%s runs %s, configured is %s", d.Name, container.Image, v.ControllerImage)
				image.Remedy = "meshproof install | kubectl apply -f -"
			}
		}
	}
	return []Check{c, image}, nil
}

// wantedVersion is that of the proxies of new pods, "" when it cannot be known.
func wantedVersion(ctx context.Context, client kubernetes.Interface) string {
	found, err := client.CoreV1().ConfigMaps(controlPlaneNamespace).Get(ctx, values.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	v, err := values.Parse([]byte(found.Data[values.Key]))
	if err != nil {
		return ""
	}
	return v.ProxyVersion
}

// sameVersion checks that a pod was created since the last upgrade, unless it asks
// for another proxy.
func sameVersion(pod *corev1.Pod, version string) []Check {
	own := pod.Annotations[versionAnnotation]
	asks := slices.ContainsFunc(ownVersions, func(key string) bool { return pod.Annotations[key] != "" })
	if own == "" || version == "" || asks {
		return nil
	}
	c := Check{Category: "linkerd-data-plane", Name: "the proxy of " + pod.Namespace + "/" + pod.Name + " is of the configured version"}
	if own != version {
		c.Problem, c.Remedy = fmt.Sprintf("it is of version %s, configured is %s", own, version), "kubectl -n "+pod.Namespace+" rollout restart deploy, so that its pod is created anew"
	}
	return []Check{c}
}

// lease checks that somebody writes the status of routes and rate limits: with
// nobody, none is ever accepted (S-01).
func lease(ctx context.Context, client kubernetes.Interface, _ Options) ([]Check, error) {
	c := Check{Category: "linkerd-policy", Name: "a policy controller writes the status of routes and rate limits", Remedy: logsOfPolicy}
	found, err := client.CoordinationV1().Leases(controlPlaneNamespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get lease %s/%s: %w", controlPlaneNamespace, leaseName, err)
	}
	switch {
	case err != nil:
		c.Problem = "there is no lease " + leaseName
	case found.Spec.HolderIdentity == nil || *found.Spec.HolderIdentity == "":
		c.Problem = "nobody holds lease " + leaseName
	case found.Spec.RenewTime == nil || found.Spec.LeaseDurationSeconds == nil:
		c.Problem = "lease " + leaseName + " tells no time"
	default:
		end := found.Spec.RenewTime.Add(time.Duration(*found.Spec.LeaseDurationSeconds) * time.Second)
		if late := time.Since(end); late > 0 {
			c.Problem = fmt.Sprintf("%s, which holds lease %s, has not renewed it: it ended %s ago", *found.Spec.HolderIdentity, leaseName, late.Round(time.Second))
		}
	}
	if c.Problem == "" {
		c.Remedy = ""
	}
	return []Check{c}, nil
}

// controllerPods are those that serve policy, ready or not.
func controllerPods(ctx context.Context, client kubernetes.Interface) ([]types.NamespacedName, error) {
	list, err := client.CoreV1().Pods(controlPlaneNamespace).List(ctx, metav1.ListOptions{LabelSelector: controllerSelector})
	if err != nil {
		return nil, fmt.Errorf("list the policy controllers: %w", err)
	}
	var all []types.NamespacedName
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			all = append(all, types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
		}
	}
	return all, nil
}

// observed is a controller's answer.
type observed struct {
	Observed map[string]string `json:"observed"`
	Hash     string            `json:"hash"`
	Error    string            `json:"error"`
}

func ask(ctx context.Context, options Options, controller types.NamespacedName, query url.Values) (observed, error) {
	var said observed
	status, body, err := options.Ask(ctx, controller, observePort, "/observed", query)
	if err != nil {
		return said, err
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return said, fmt.Errorf("it answers %d: %s", status, strings.TrimSpace(string(body)))
	}
	if status != http.StatusOK {
		return said, fmt.Errorf("it answers %d: %s", status, said.Error)
	}
	return said, nil
}

// synced checks that every replica has read every kind that the API server has.
func synced(ctx context.Context, client kubernetes.Interface, options Options) ([]Check, error) {
	if options.Ask == nil {
		return nil, nil
	}
	controllers, err := controllerPods(ctx, client)
	if err != nil {
		return nil, err
	}
	var checks []Check
	for _, controller := range controllers {
		c := Check{Category: "linkerd-policy", Name: controller.Name + " has read every policy"}
		said, err := ask(ctx, options, controller, url.Values{"timeout": {"1s"}})
		switch {
		case err != nil:
			c.Problem, c.Remedy = err.Error(), "kubectl -n linkerd logs "+controller.Name+" -c "+policyContainer
		default:
			var unread []string
			for _, kind := range slices.Sorted(maps.Keys(said.Observed)) {
				if said.Observed[kind] == "0" {
					unread = append(unread, kind)
				}
			}
			if len(unread) > 0 {
				c.Problem, c.Remedy = "it has read nothing yet of "+strings.Join(unread, ", "), "kubectl -n linkerd logs "+controller.Name+" -c "+policyContainer
			}
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// enforces checks that a proxy has in force what the controllers serve, at every
// port that it watches.
func enforces(ctx context.Context, options Options, controllers []types.NamespacedName, pod *corev1.Pod) []Check {
	if options.Ask == nil || len(controllers) == 0 {
		return nil
	}
	c := Check{Category: "linkerd-data-plane", Name: "the proxy of " + pod.Namespace + "/" + pod.Name + " enforces what is served"}
	name := types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}
	if problem := enforcement(ctx, options, controllers[0], name); problem != "" {
		c.Problem, c.Remedy = problem, "meshproof diagnostics policy "+name.String()+" PORT; kubectl -n "+pod.Namespace+" logs "+pod.Name+" -c "+proxyContainer
	}
	return []Check{c}
}

func enforcement(ctx context.Context, options Options, controller, pod types.NamespacedName) string {
	status, body, err := options.Ask(ctx, pod, proxyPort, "/policy", nil)
	if err != nil {
		return "it could not be asked: " + err.Error()
	}
	var said struct {
		Ports map[string]struct{ Hash, Source string } `json:"ports"`
	}
	if err := json.Unmarshal(body, &said); err != nil || status != http.StatusOK {
		return fmt.Sprintf("it could not be asked: it answers %d", status)
	}
	if len(said.Ports) == 0 {
		return "it watches no port"
	}
	ports := slices.Sorted(maps.Keys(said.Ports))
	slices.SortFunc(ports, func(a, b string) int { return number(a) - number(b) })
	for _, port := range ports {
		served, err := ask(ctx, options, controller, url.Values{"ns": {pod.Namespace}, "pod": {pod.Name}, "port": {port}})
		switch one := said.Ports[port]; {
		case err != nil:
			return fmt.Sprintf("what is served on port %s is unknown: %v", port, err)
		case one.Source != fromController:
			return fmt.Sprintf("it has been told no policy for port %s", port)
		case one.Hash != served.Hash:
			return fmt.Sprintf("it enforces another policy on port %s than is served", port)
		}
	}
	return ""
}

func number(text string) int { n, _ := strconv.Atoi(text); return n }
