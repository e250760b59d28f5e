package kind

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/yaml"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/ready"
)

// readyPoll is how often what has no watch is asked for: the API server shares
// the machine with what is awaited.
const readyPoll = 100 * time.Millisecond

// client is for the cluster's API.
func (c *Cluster) client() (kubernetes.Interface, *rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, nil, fmt.Errorf("read kubeconfig of cluster %s: %w", c.record.Name, err)
	}
	config.QPS, config.Burst = -1, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make client of cluster %s: %w", c.record.Name, err)
	}
	return client, config, nil
}

// awaitReady returns when the cluster is what Create promises.
func (c *Cluster) awaitReady(ctx context.Context, config *v1alpha4.Cluster, options cluster.Options) error {
	client, access, err := c.client()
	if err != nil {
		return err
	}
	c.record.Server = access.Host
	objects, err := dynamic.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("make client of cluster %s: %w", c.record.Name, err)
	}
	type wait struct {
		component string
		until     func(context.Context) error
	}
	waits := []wait{{"default service account", func(ctx context.Context) error { return ready.DefaultAccount(ctx, objects) }}}
	if len(options.Manifests) > 0 {
		waits = append(waits, wait{"manifests", func(ctx context.Context) error { return ready.Manifests(ctx, access, options.Manifests) }})
	}
	for _, w := range append(waits,
		wait{"nodes", func(ctx context.Context) error {
			return ready.Until(ctx, readyPoll, func(ctx context.Context) error { return nodesReady(ctx, client, len(config.Nodes)) })
		}},
		wait{"service network", func(ctx context.Context) error {
			return ready.Until(ctx, readyPoll, func(ctx context.Context) error { return proxiesReady(ctx, client, config) })
		}},
		wait{"DNS", func(ctx context.Context) error {
			return ready.Until(ctx, readyPoll, func(ctx context.Context) error { return dnsReady(ctx, client) })
		}}) {
		c.progress.tell(w.component, false)
		if err := w.until(ctx); err != nil {
			return fmt.Errorf("wait for %s: %w", w.component, err)
		}
		c.progress.tell(w.component, true)
	}
	if c.capabilities, err = inspect(ctx, client); err != nil {
		return err
	}
	c.progress.tell("ready", true)
	return nil
}

func nodesReady(ctx context.Context, client kubernetes.Interface, wanted int) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(nodes.Items) < wanted {
		return fmt.Errorf("%d of %d nodes have joined", len(nodes.Items), wanted)
	}
	for _, node := range nodes.Items {
		if err := nodeReady(&node); err != nil {
			return err
		}
	}
	return nil
}

func nodeReady(node *corev1.Node) error {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("node %s is not ready: %s", node.Name, condition.Message)
		}
	}
	return fmt.Errorf("node %s does not say whether it is ready", node.Name)
}

// proxiesReady looks whether every node has a kube-proxy that runs, unless the
// configuration wants none: without it, Services have no addresses there.
func proxiesReady(ctx context.Context, client kubernetes.Interface, config *v1alpha4.Cluster) error {
	if config.Networking.KubeProxyMode == "none" {
		return nil
	}
	set, err := client.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, "kube-proxy", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if ready := int(set.Status.NumberReady); ready < len(config.Nodes) {
		return fmt.Errorf("kube-proxy runs on %d of %d nodes", ready, len(config.Nodes))
	}
	return nil
}

// dnsReady looks for a name server that says it is ready, which it does when it
// knows the cluster's names.
func dnsReady(ctx context.Context, client kubernetes.Interface) error {
	slices, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kube-dns"})
	if err != nil {
		return err
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready != nil && *ready {
				return nil
			}
		}
	}
	return errors.New("no name server of the cluster is ready")
}

// inspect finds out what a cluster can do, whoever made it.
func inspect(ctx context.Context, client kubernetes.Interface) (cluster.Capabilities, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return cluster.Capabilities{}, fmt.Errorf("list the cluster's nodes: %w", err)
	}
	pods, err := podNetworks(ctx, client, nodes.Items)
	if err != nil {
		return cluster.Capabilities{}, err
	}
	out := cluster.Capabilities{ClusterNetworks: pods, Nodes: 0}
	for _, network := range pods {
		out.IPv6 = out.IPv6 || network.Addr().Is6()
	}
	var addresses []netip.Addr
	for _, node := range nodes.Items {
		if takesPods(&node) {
			out.Nodes++
		}
		for _, address := range node.Status.Addresses {
			if ip, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
				addresses = append(addresses, ip)
			}
		}
	}
	if networks := covering(addresses, pods); len(networks) > 0 {
		out.Outside = cluster.Outside{How: cluster.OutsideHosts, Networks: networks}
	}
	return out, nil
}

// takesPods reports whether a pod without tolerations may be scheduled there.
func takesPods(node *corev1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute {
			return false
		}
	}
	return !node.Spec.Unschedulable
}

// podNetworks are the ranges of pods' addresses: what kubeadm was told, else
// what the nodes were given of them.
func podNetworks(ctx context.Context, client kubernetes.Interface, nodes []corev1.Node) ([]netip.Prefix, error) {
	object, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "kubeadm-config", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("read the cluster's configuration: %w", err)
	}
	var told struct {
		Networking struct {
			PodSubnet string `json:"podSubnet"`
		} `json:"networking"`
	}
	if err == nil {
		if err := yaml.Unmarshal([]byte(object.Data["ClusterConfiguration"]), &told); err != nil {
			return nil, fmt.Errorf("read the cluster's configuration: %w", err)
		}
	}
	if found, err := prefixes(told.Networking.PodSubnet); err != nil || len(found) > 0 {
		return found, err
	}
	var found []netip.Prefix
	for _, node := range nodes {
		for _, text := range node.Spec.PodCIDRs {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				found = append(found, prefix.Masked())
			}
		}
	}
	return found, nil
}

// covering is the smallest network for each family that holds all addresses; or,
// where that overlaps one of the others, a network of its own for each address.
// An address that is in one of the others is left out.
func covering(addresses []netip.Addr, others []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, is := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		var all []netip.Prefix
		for _, address := range addresses {
			if own := netip.PrefixFrom(address, address.BitLen()); is(address) && !overlaps(own, others) {
				all = append(all, own)
			}
		}
		if len(all) == 0 {
			continue
		}
		widest := all[0]
		for _, one := range all {
			for !widest.Contains(one.Addr()) {
				widest = netip.PrefixFrom(widest.Addr(), widest.Bits()-1).Masked()
			}
		}
		if overlaps(widest, others) {
			out = append(out, all...)
		} else {
			out = append(out, widest)
		}
	}
	return out
}

func overlaps(one netip.Prefix, others []netip.Prefix) bool {
	for _, other := range others {
		if one.Overlaps(other) {
			return true
		}
	}
	return false
}
