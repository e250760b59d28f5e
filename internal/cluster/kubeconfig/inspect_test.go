package kubeconfig

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func node(name, address string, change func(*corev1.Node), ranges ...string) corev1.Node {
	out := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: ranges}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	if change != nil {
		change(&out)
	}
	return out
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func tainted(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
}
func unready(n *corev1.Node) {
	n.Status.Conditions[0].Status, n.Status.Conditions[0].Message = corev1.ConditionFalse, "no network"
}

func TestCapabilitiesFollowFromTheNodesAndTheMesh(t *testing.T) {
	narrow := values.Default()
	narrow.ClusterNetworks = []string{"10.244.0.0/16"}
	wide := values.Default()
	for name, row := range map[string]struct {
		nodes    []corev1.Node
		standing *values.Values
		want     cluster.Capabilities
	}{
		"hosts are outside of a mesh that takes the pods' ranges": {
			[]corev1.Node{node("a", "172.18.0.2", nil, "10.244.0.0/24"), node("b", "172.18.0.3", nil, "10.244.1.0/24")}, nil,
			cluster.Capabilities{Borrowed: true, Nodes: 2, ClusterNetworks: prefixes("10.244.0.0/23"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32", "172.18.0.3/32")}}},
		"and of one that stands with them": {
			[]corev1.Node{node("a", "172.18.0.2", nil, "10.244.0.0/24")}, &narrow,
			cluster.Capabilities{Borrowed: true, Nodes: 1, ClusterNetworks: prefixes("10.244.0.0/24"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32")}}},
		"but not of one that stands with every private range": {
			[]corev1.Node{node("a", "172.18.0.2", nil, "10.244.0.0/24")}, &wide,
			cluster.Capabilities{Borrowed: true, Nodes: 1, ClusterNetworks: prefixes("10.244.0.0/24")}},
		"nor where the pods' ranges are not known": {
			[]corev1.Node{node("a", "172.18.0.2", nil)}, nil, cluster.Capabilities{Borrowed: true, Nodes: 1}},
		"unless they are public": {
			[]corev1.Node{node("a", "198.51.100.7", nil)}, nil,
			cluster.Capabilities{Borrowed: true, Nodes: 1, Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("198.51.100.7/32")}}},
		"nor where a node's address lies among the pods'": {
			[]corev1.Node{node("a", "10.0.0.1", nil, "10.0.0.0/24")}, nil, cluster.Capabilities{Borrowed: true, Nodes: 1, ClusterNetworks: prefixes("10.0.0.0/24")}},
		"nodes that take no pods do not count, but pods may have their addresses": {
			[]corev1.Node{node("a", "172.18.0.2", nil, "10.244.0.0/24"), node("b", "172.18.0.3", cordoned, "10.244.1.0/24"), node("c", "172.18.0.4", tainted, "10.244.2.0/24"), node("d", "172.18.0.5", unready, "10.244.3.0/24")}, nil,
			cluster.Capabilities{Borrowed: true, Nodes: 1, ClusterNetworks: prefixes("10.244.0.0/22"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32")}}},
		"two families": {
			[]corev1.Node{node("a", "172.18.0.2", nil, "10.244.0.0/24", "fd00:1::/64")}, nil,
			cluster.Capabilities{Borrowed: true, Nodes: 1, IPv6: true, ClusterNetworks: prefixes("10.244.0.0/24", "fd00:1::/64"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: prefixes("172.18.0.2/32")}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := capabilities(row.nodes, row.standing)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestAClusterWithoutNodesForPodsIsRefused(t *testing.T) {
	_, err := capabilities([]corev1.Node{node("a", "1.2.3.4", unready), node("b", "1.2.3.5", cordoned), node("c", "1.2.3.6", tainted)}, nil)
	want := "no node of the cluster takes pods: a is not ready: no network, b is cordoned, c has the taint dedicated"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestMergedPrefixesHoldTheSameAddresses(t *testing.T) {
	for _, row := range []struct{ in, want []netip.Prefix }{
		{nil, nil},
		{prefixes("10.0.1.0/24", "10.0.0.0/24"), prefixes("10.0.0.0/23")},
		{prefixes("10.0.1.0/24", "10.0.2.0/24"), prefixes("10.0.1.0/24", "10.0.2.0/24")}, // neighbours without a common parent
		{prefixes("10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/23", "10.0.4.0/24"), prefixes("10.0.0.0/22", "10.0.4.0/24")},
		{prefixes("10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"), prefixes("10.0.0.0/8")},
		{prefixes("0.0.0.0/1", "128.0.0.0/1"), prefixes("0.0.0.0/0")},
		{prefixes("fd00::/64", "10.0.0.0/24", "fd00:0:0:1::/64"), prefixes("10.0.0.0/24", "fd00::/63")},
	} {
		if diff := cmp.Diff(row.want, merge(row.in), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%v: -want +got\n%s", row.in, diff)
		}
	}
}
