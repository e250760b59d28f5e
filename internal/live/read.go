package live

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// Cluster is what was read of a cluster.
type Cluster struct {
	*objects.Set
	Dialect api.Dialect
	config  *rest.Config
	// pods are those that can be called, by what their workload is called.
	pods map[string]*corev1.Pod
}

// Read reads the cluster. Workloads are those of one namespace, or of all but the
// system's own when it is empty; a workload with several pods is the first one
// that is ready. Kinds that are not installed are left out.
func Read(ctx context.Context, config *rest.Config, namespace string) (*Cluster, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	c := &Cluster{Set: &objects.Set{}, config: config, pods: map[string]*corev1.Pod{}}
	if err := c.settings(ctx); err != nil {
		return nil, err
	}
	namespaces, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the namespaces: %w", err)
	}
	for i := range namespaces.Items {
		c.World.Namespaces = append(c.World.Namespaces, &namespaces.Items[i])
	}
	if err := c.policies(ctx, client); err != nil {
		return nil, err
	}
	return c, c.workloads(ctx, client, namespace)
}

// settings are those that the mesh was installed with.
func (c *Cluster) settings(ctx context.Context) error {
	mesh, standing, err := guest.StandingMesh(ctx, c.config)
	if err != nil {
		return err
	}
	if !standing {
		return &cluster.SetupError{Cause: "there is no mesh in the cluster", Remedy: "meshproof install | kubectl apply -f -"}
	}
	if c.Dialect, err = api.ParseDialect(mesh.Dialect); err != nil {
		return fmt.Errorf("read the mesh's settings: %w", err)
	}
	s := oracle.Settings{DefaultPolicy: mesh.DefaultInboundPolicy, ControlPlaneNamespace: mesh.ControlPlaneNamespace, TrustDomain: mesh.IdentityTrustDomain}
	for _, list := range []struct {
		into  *[]netip.Prefix
		texts []string
	}{{&s.ClusterNetworks, mesh.ClusterNetworks}, {&s.ProbeNetworks, mesh.ProbeNetworks}} {
		for _, text := range list.texts {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("read the mesh's settings: %w", err)
			}
			*list.into = append(*list.into, prefix)
		}
	}
	c.World.Settings = s
	return nil
}

func (c *Cluster) policies(ctx context.Context, client kubernetes.Interface) error {
	dyn, err := dynamic.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("make a client of policy objects: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	for _, kind := range objects.PolicyKinds() {
		mapping, err := mapper.RESTMapping(kind)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find the resource of kind %s: %w", kind, err)
		}
		list, err := dyn.Resource(mapping.Resource).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list %s: %w", mapping.Resource.GroupResource(), err)
		}
		for i := range list.Items {
			if err := objects.Keep(&c.World, &list.Items[i]); err != nil {
				return err
			}
			c.Policies++
		}
	}
	return nil
}

// systems are namespaces whose workloads are no matter of policy.
var systems = []string{metav1.NamespaceSystem, "linkerd", "linkerd-viz"}

// shortKinds are the owners that people name instead of pods.
var shortKinds = map[string]string{"Deployment": "deploy", "StatefulSet": "sts", "DaemonSet": "ds", "ReplicaSet": "rs", "Job": "job"}

func (c *Cluster) workloads(ctx context.Context, client kubernetes.Interface, namespace string) error {
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	sets, err := client.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the ReplicaSets: %w", err)
	}
	owners := map[types.UID]metav1.OwnerReference{}
	for i := range sets.Items {
		if owner := metav1.GetControllerOf(&sets.Items[i]); owner != nil {
			owners[sets.Items[i].UID] = *owner
		}
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if namespace == "" && slices.Contains(systems, pod.Namespace) || !callable(pod) {
			continue
		}
		w := objects.Workload{Kind: "pod", Pod: pod}
		if owner := metav1.GetControllerOf(pod); owner != nil {
			if above, ok := owners[owner.UID]; ok {
				owner = &above
			}
			if kind := shortKinds[owner.Kind]; kind != "" {
				// It is judged as it runs, and called what people call it.
				w.Kind, w.Pod = kind, pod.DeepCopy()
				w.Pod.Name = owner.Name
			}
		}
		account := types.NamespacedName{Namespace: pod.Namespace, Name: cmp.Or(pod.Spec.ServiceAccountName, "default")}
		if pod.Labels[api.ControlPlaneLabel] != "" && !slices.Contains(c.Accounts, account) {
			c.Accounts = append(c.Accounts, account)
		}
		if c.pods[w.String()] == nil {
			c.pods[w.String()] = pod
			c.Workloads = append(c.Workloads, w)
		}
	}
	slices.SortFunc(c.Accounts, func(a, b types.NamespacedName) int { return cmp.Compare(a.String(), b.String()) })
	slices.SortFunc(c.Workloads, func(a, b objects.Workload) int { return cmp.Compare(a.String(), b.String()) })
	return nil
}

// callable says whether the pod can answer.
func callable(pod *corev1.Pod) bool {
	return pod.Status.PodIP != "" && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning &&
		slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}
