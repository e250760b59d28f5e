package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/guest"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// inspect finds out what the cluster can do.
func inspect(ctx context.Context, config *rest.Config) (cluster.Capabilities, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return cluster.Capabilities{}, fmt.Errorf("make a client: %w", err)
	}
	standing, _, err := guest.StandingMesh(ctx, config)
	var nodes *corev1.NodeList
	if err == nil {
		nodes, err = client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	}
	if apierrors.IsForbidden(err) {
		// Who may not even look hears what else he may not do.
		if narrow := guest.CheckRights(ctx, config, true); narrow != nil {
			return cluster.Capabilities{}, narrow
		}
	}
	var setup *cluster.SetupError
	if errors.As(err, &setup) {
		return cluster.Capabilities{}, err
	}
	if err != nil {
		return cluster.Capabilities{}, explain(ctx, config.Host, err)
	}
	return capabilities(nodes.Items, standing)
}

// capabilities are those of a cluster with such nodes and such a mesh, or none.
func capabilities(nodes []corev1.Node, standing *values.Values) (cluster.Capabilities, error) {
	var out cluster.Capabilities
	var ranges, hosts []netip.Prefix
	var useless []string
	for _, node := range nodes {
		ranges = append(ranges, podRanges(node)...)
		if why := unusable(node); why != "" {
			useless = append(useless, fmt.Sprintf("%s %s", node.Name, why))
			continue
		}
		out.Nodes++
		for _, address := range node.Status.Addresses {
			if parsed, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
				hosts = append(hosts, netip.PrefixFrom(parsed.Unmap(), parsed.Unmap().BitLen()))
			}
		}
	}
	if out.Nodes == 0 {
		if len(useless) == 0 {
			useless = []string{"there is none"}
		}
		return cluster.Capabilities{}, &cluster.SetupError{Cause: "no node of the cluster takes pods: " + strings.Join(useless, ", ")}
	}
	out.Borrowed = true
	out.ClusterNetworks = merge(ranges)
	out.IPv6 = slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if inside := networks(out.ClusterNetworks, standing); len(hosts) > 0 && !slices.ContainsFunc(inside, func(in netip.Prefix) bool {
		return slices.ContainsFunc(hosts, func(host netip.Prefix) bool { return in.Contains(host.Addr()) })
	}) {
		out.Outside = cluster.Outside{How: cluster.OutsideHosts, Networks: hosts}
	}
	return out, nil
}

// networks are the ranges that will count as inside the cluster: those of pods,
// and those of the mesh that stands or else will be installed.
func networks(pods []netip.Prefix, standing *values.Values) []netip.Prefix {
	var texts []string
	switch {
	case standing != nil:
		texts = standing.ClusterNetworks
	case len(pods) == 0:
		texts = values.Default().ClusterNetworks
	}
	all := slices.Clone(pods)
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix)
		}
	}
	return all
}

// podRanges are the ranges of addresses that the pods of a node have.
func podRanges(node corev1.Node) []netip.Prefix {
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 && node.Spec.PodCIDR != "" {
		texts = []string{node.Spec.PodCIDR}
	}
	var out []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, prefix.Masked())
		}
	}
	return out
}

// unusable says why a node takes no pods of a run, which tolerate no taints;
// empty: it takes them.
func unusable(node corev1.Node) string {
	if node.Spec.Unschedulable {
		return "is cordoned"
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
			return "is not ready: " + condition.Message
		}
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule {
			return "has the taint " + taint.Key
		}
	}
	return ""
}

// merge returns the fewest prefixes that hold the same addresses.
func merge(prefixes []netip.Prefix) []netip.Prefix {
	out := slices.Clone(prefixes)
	for {
		slices.SortFunc(out, func(a, b netip.Prefix) int {
			if c := a.Addr().Compare(b.Addr()); c != 0 {
				return c
			}
			return a.Bits() - b.Bits()
		})
		before := len(out)
		for i := 0; i+1 < len(out); {
			low, high := out[i], out[i+1]
			wider, err := low.Addr().Prefix(max(low.Bits()-1, 0))
			switch {
			case low.Contains(high.Addr()):
				out = slices.Delete(out, i+1, i+2)
			case err == nil && low.Bits() == high.Bits() && wider.Contains(high.Addr()) && wider.Addr() == low.Addr():
				out[i] = wider
				out = slices.Delete(out, i+1, i+2)
			default:
				i++
			}
		}
		if len(out) == before {
			return out
		}
	}
}
