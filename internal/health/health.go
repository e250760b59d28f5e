// Package health says whether a mesh is fit to be judged: `meshproof check`.
//
// A cluster's objects flow in, and what its controllers and proxies answer on
// their loopback; an ordered list of named checks with their remedies comes out.
// It changes nothing (what it creates is a dry run); it waits for nothing, so that
// a caller who wants to wait repeats it.
package health

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Names that Linkerd's users know.
const (
	controlPlaneNamespace = "linkerd"
	controlPlaneLabel     = "linkerd.io/control-plane-ns"
	proxyContainer        = "linkerd-proxy"
	trustRoots            = "linkerd-identity-trust-roots"
)

// controlPlane are the deployments without which nothing is enforced.
var controlPlane = []string{"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"}

// Check is one statement about the cluster. Problem is empty when it holds.
type Check struct {
	Category string `json:"category"`
	Name     string `json:"name"`
	Problem  string `json:"problem,omitempty"`
	// Remedy says what to do about the problem.
	Remedy string `json:"remedy,omitempty"`
}

// Options select what is checked.
type Options struct {
	// Proxy adds the meshed pods of Namespace, or of all namespaces when it is
	// empty.
	Proxy     bool
	Namespace string
	// Ask asks a loopback port of a pod over HTTP. Nil leaves out what only
	// controllers and proxies themselves can tell.
	Ask func(ctx context.Context, pod types.NamespacedName, port int, path string, query url.Values) (status int, body []byte, err error)
	// Refused creates an invalid Server as a dry run and says whether it was
	// refused by the validator. Nil leaves that out.
	Refused func(ctx context.Context) (bool, error)
}

// Run makes every check. An error is returned only when the API server itself
// cannot be asked.
func Run(ctx context.Context, client kubernetes.Interface, options Options) ([]Check, error) {
	if _, err := client.Discovery().ServerVersion(); err != nil {
		return nil, fmt.Errorf("ask the API server for its version: %w", err)
	}
	checks := []Check{{Category: "kubernetes-api", Name: "the API server answers"}}
	for _, part := range []func(context.Context, kubernetes.Interface, Options) ([]Check, error){
		ignoring(resources), configuration, ignoring(deployments), ignoring(identity), webhooks, lease, synced,
	} {
		more, err := part(ctx, client, options)
		if err != nil {
			return nil, err
		}
		checks = append(checks, more...)
	}
	if options.Proxy {
		more, err := proxies(ctx, client, options)
		if err != nil {
			return nil, err
		}
		checks = append(checks, more...)
	}
	return checks, nil
}

// ignoring is a part that has no use for options.
func ignoring(part func(context.Context, kubernetes.Interface) ([]Check, error)) func(context.Context, kubernetes.Interface, Options) ([]Check, error) {
	return func(ctx context.Context, client kubernetes.Interface, _ Options) ([]Check, error) {
		return part(ctx, client)
	}
}

// Healthy reports whether every check holds. No check at all is not health.
func Healthy(checks []Check) bool {
	return len(checks) > 0 && !slices.ContainsFunc(checks, func(c Check) bool { return c.Problem != "" })
}

// resources looks for every kind of policy. Those of the Gateway API belong to
// the cluster; without them there are no such routes, and nothing is wrong.
func resources(_ context.Context, client kubernetes.Interface) ([]Check, error) {
	var checks []Check
	for _, resource := range api.Resources() {
		if resource.Group != api.Group {
			continue
		}
		version := resource.GroupVersion().String()
		c := Check{Category: "linkerd-config", Name: resource.Resource + " are served as " + version}
		list, err := client.Discovery().ServerResourcesForGroupVersion(version)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("list the resources of %s: %w", version, err)
		}
		if list == nil || !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource }) {
			c.Problem, c.Remedy = "they are not", "meshproof install | kubectl apply -f -"
		}
		checks = append(checks, c)
	}
	return checks, nil
}

func deployments(ctx context.Context, client kubernetes.Interface) ([]Check, error) {
	var checks []Check
	for _, name := range controlPlane {
		c := Check{Category: "linkerd-control-plane", Name: "deployment " + name + " is available"}
		deployment, err := client.AppsV1().Deployments(controlPlaneNamespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			c.Problem, c.Remedy = "it does not exist", "meshproof install | kubectl apply -f -"
		case err != nil:
			return nil, fmt.Errorf("get deployment %s/%s: %w", controlPlaneNamespace, name, err)
		case !available(deployment):
			c.Problem = fmt.Sprintf("%d of %d replicas are available", deployment.Status.AvailableReplicas, replicas(deployment))
			c.Remedy = "kubectl -n linkerd describe deploy/" + name
		}
		checks = append(checks, c)
	}
	return checks, nil
}

func available(d *appsv1.Deployment) bool {
	return d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas >= replicas(d) && d.Status.UpdatedReplicas >= replicas(d)
}

func replicas(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

func identity(ctx context.Context, client kubernetes.Interface) ([]Check, error) {
	c := Check{Category: "linkerd-identity", Name: "the trust roots are valid now"}
	roots, err := client.CoreV1().ConfigMaps(controlPlaneNamespace).Get(ctx, trustRoots, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		c.Problem, c.Remedy = "ConfigMap "+trustRoots+" does not exist", "kubectl -n linkerd logs deploy/linkerd-identity"
	case err != nil:
		return nil, fmt.Errorf("get configmap %s/%s: %w", controlPlaneNamespace, trustRoots, err)
	default:
		if problem := validRoots([]byte(roots.Data["ca-bundle.crt"])); problem != "" {
			c.Problem, c.Remedy = problem, "replace the secret linkerd/linkerd-identity-issuer, then restart the mesh"
		}
	}
	return []Check{c}, nil
}

func validRoots(bundle []byte) string {
	n := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "a certificate of the bundle cannot be parsed: " + err.Error()
		}
		if now := time.Now(); now.Before(certificate.NotBefore) || now.After(certificate.NotAfter) {
			return fmt.Sprintf("%s is valid from %s to %s only", certificate.Subject, certificate.NotBefore.Format(time.RFC3339), certificate.NotAfter.Format(time.RFC3339))
		}
		n++
	}
	if n == 0 {
		return "the bundle holds no certificate"
	}
	return ""
}

func webhooks(ctx context.Context, client kubernetes.Interface, options Options) ([]Check, error) {
	injector := Check{Category: "linkerd-webhooks", Name: "the proxy injector can be called"}
	mutating, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, "linkerd-proxy-injector-webhook-config", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get the injector's webhook configuration: %w", err)
	}
	if err != nil || len(mutating.Webhooks) == 0 || len(mutating.Webhooks[0].ClientConfig.CABundle) == 0 {
		injector.Problem, injector.Remedy = "its webhook configuration is missing or has no CA bundle yet", "kubectl -n linkerd logs deploy/linkerd-proxy-injector"
	}
	validator := Check{Category: "linkerd-webhooks", Name: "the policy validator can be called"}
	validating, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, "linkerd-policy-validator-webhook-config", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("get the validator's webhook configuration: %w", err)
	}
	if err != nil || len(validating.Webhooks) == 0 || len(validating.Webhooks[0].ClientConfig.CABundle) == 0 {
		validator.Problem, validator.Remedy = "its webhook configuration is missing or has no CA bundle yet", "kubectl -n linkerd logs deploy/linkerd-destination -c policy"
	}
	checks := []Check{injector, validator}
	if options.Refused != nil && validator.Problem == "" {
		c := Check{Category: "linkerd-webhooks", Name: "the policy validator refuses what is wrong"}
		switch refused, err := options.Refused(ctx); {
		case err != nil:
			c.Problem = "it could not be tried: " + err.Error()
		case !refused:
			c.Problem = "an invalid Server would be taken: the API server does not reach the validator, and lets pass what it cannot ask about"
		}
		if c.Problem != "" {
			c.Remedy = "kubectl -n linkerd logs deploy/linkerd-destination -c policy; meshproof install --ha lets nothing pass"
		}
		checks = append(checks, c)
	}
	return checks, nil
}

func proxies(ctx context.Context, client kubernetes.Interface, options Options) ([]Check, error) {
	namespace := options.Namespace
	version := wantedVersion(ctx, client)
	controllers, err := controllerPods(ctx, client)
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	var checks []Check
	meshed := 0
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		c := Check{Category: "linkerd-data-plane", Name: "the proxy of " + pod.Namespace + "/" + pod.Name + " is ready"}
		if pod.Labels[controlPlaneLabel] == "" {
			if pod.Annotations["linkerd.io/inject"] != "enabled" {
				continue
			}
			c.Problem = "the pod asks for a proxy and has none: policy is not enforced on it"
			c.Remedy = "kubectl -n " + pod.Namespace + " delete pod " + pod.Name + ", once the injector is ready"
			checks = append(checks, c)
			continue
		}
		meshed++
		if !proxyReady(&pod) {
			c.Problem, c.Remedy = "it is not", "kubectl -n "+pod.Namespace+" logs "+pod.Name+" -c "+proxyContainer
		}
		checks = append(checks, c)
		if c.Problem == "" {
			checks = append(checks, sameVersion(&pod, version)...)
			checks = append(checks, enforces(ctx, options, controllers, &pod)...)
		}
	}
	exist := Check{Category: "linkerd-data-plane", Name: "meshed pods exist"}
	if meshed == 0 {
		where := "the cluster"
		if namespace != "" {
			where = "namespace " + namespace
		}
		exist.Problem, exist.Remedy = "no pod of "+where+" has a proxy", "meshproof inject FILE | kubectl apply -f -"
	}
	return append([]Check{exist}, checks...), nil
}

func proxyReady(pod *corev1.Pod) bool {
	for _, status := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if status.Name == proxyContainer {
			return status.Ready
		}
	}
	return false
}

// Write prints the checks by category, only the problems when short, and a
// last line with the verdict.
func Write(w io.Writer, checks []Check, short bool) {
	category := ""
	for _, c := range checks {
		if short && c.Problem == "" {
			continue
		}
		if c.Category != category {
			category = c.Category
			fmt.Fprintf(w, "%s\n%s\n", category, strings.Repeat("-", len(category)))
		}
		if c.Problem == "" {
			fmt.Fprintf(w, "✓ %s\n", c.Name)
		} else {
			fmt.Fprintf(w, "✗ %s\n    %s\n    remedy: %s\n", c.Name, c.Problem, c.Remedy)
		}
	}
	verdict := "✓"
	if !Healthy(checks) {
		verdict = "✗"
	}
	fmt.Fprintf(w, "Status check results are %s\n", verdict)
}
