package kind

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apis "k8s.io/client-go/kubernetes/fake"

	"github.com/meshproof/meshproof/internal/cluster"
)

var samePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func parsed(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestNodesAreCoveredWithoutPods(t *testing.T) {
	for _, test := range []struct {
		addresses []string
		pods      []netip.Prefix
		want      []netip.Prefix
	}{
		{nil, nil, nil},
		{[]string{"172.18.0.2"}, parsed("10.244.0.0/16"), parsed("172.18.0.2/32")},
		{[]string{"172.18.0.2", "172.18.0.3"}, parsed("10.244.0.0/16"), parsed("172.18.0.2/31")},
		{[]string{"172.18.0.2", "172.18.0.5", "172.18.0.3"}, parsed("10.244.0.0/16"), parsed("172.18.0.0/29")},
		// What covers both would cover the pods between them.
		{[]string{"10.0.0.1", "10.255.0.1"}, parsed("10.244.0.0/16"), parsed("10.0.0.1/32", "10.255.0.1/32")},
		// A node in the pods' range is not outside.
		{[]string{"10.244.0.1", "172.18.0.3"}, parsed("10.244.0.0/16"), parsed("172.18.0.3/32")},
		{[]string{"172.18.0.2", "fc00::2", "fc00::3"}, parsed("10.244.0.0/16", "fd00::/56"), parsed("172.18.0.2/32", "fc00::2/127")},
	} {
		var addresses []netip.Addr
		for _, text := range test.addresses {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		if diff := cmp.Diff(test.want, covering(addresses, test.pods), samePrefix, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v: -want +got: %s", test.addresses, diff)
		}
	}
}

func testNode(name, address string, change func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}}}
	if change != nil {
		change(node)
	}
	return node
}

func TestCapabilitiesAreReadFromTheCluster(t *testing.T) {
	tainted := func(effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: effect}} }
	}
	config := func(subnet string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config"},
			Data: map[string]string{"ClusterConfiguration": "networking:\n  podSubnet: " + subnet + "\n"}}
	}
	for _, test := range []struct {
		name    string
		objects []runtime.Object
		want    cluster.Capabilities
	}{
		{"two nodes", []runtime.Object{config("10.244.0.0/16"), testNode("a", "172.18.0.2", nil), testNode("b", "172.18.0.3", nil)},
			cluster.Capabilities{Nodes: 2, ClusterNetworks: parsed("10.244.0.0/16"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: parsed("172.18.0.2/31")}}},
		{"a node that takes no pods is still a node", []runtime.Object{config("10.244.0.0/16"), testNode("a", "172.18.0.2", tainted(corev1.TaintEffectNoSchedule)),
			testNode("b", "172.18.0.3", tainted(corev1.TaintEffectPreferNoSchedule))},
			cluster.Capabilities{Nodes: 1, ClusterNetworks: parsed("10.244.0.0/16"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: parsed("172.18.0.2/31")}}},
		{"both families", []runtime.Object{config("10.244.0.0/16,fd00:10:244::/56"), testNode("a", "172.18.0.2", nil)},
			cluster.Capabilities{Nodes: 1, IPv6: true, ClusterNetworks: parsed("10.244.0.0/16", "fd00:10:244::/56"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: parsed("172.18.0.2/32")}}},
		{"without kubeadm", []runtime.Object{testNode("a", "172.18.0.2", func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.244.0.0/24"} })},
			cluster.Capabilities{Nodes: 1, ClusterNetworks: parsed("10.244.0.0/24"), Outside: cluster.Outside{How: cluster.OutsideHosts, Networks: parsed("172.18.0.2/32")}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := inspect(t.Context(), apis.NewClientset(test.objects...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, samePrefix); diff != "" {
				t.Error("-want +got:", diff)
			}
		})
	}
}

func TestANodeThatIsNotReadyIsNamed(t *testing.T) {
	client := apis.NewClientset(testNode("a", "172.18.0.2", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "no CNI"}}
	}))
	for wanted, want := range map[int]string{1: "node a is not ready: no CNI", 2: "1 of 2 nodes have joined"} {
		if err := nodesReady(t.Context(), client, wanted); err == nil || err.Error() != want {
			t.Errorf("%d nodes: got %v, want %s", wanted, err, want)
		}
	}
}

func TestStepsOfKindBecomeProgress(t *testing.T) {
	var got []string
	p := &progress{begun: time.Now(), notify: func(e cluster.Event) { got = append(got, fmt.Sprint(e.Component, " ", e.Done)) }}
	ended := map[string]bool{}
	log := &logger{progress: p, after: func(component string, ok bool) { ended[component] = ok }}
	for _, line := range []string{
		"Creating cluster \"a\" ...\n", " • Ensuring node image (x) 🖼  ...\n", " ✓ Ensuring node image (x) 🖼\n",
		" • Preparing nodes 📦 📦   ...\n", " ✓ Preparing nodes 📦 📦 \n", " • Something new 🎉  ...\n", " ✗ Something new 🎉\n",
	} {
		log.V(0).Infof("%s", line)
		log.V(1).Infof("%s", line) // of no interest
	}
	log.Warn("kind worries")
	want := []string{"node image false", "node image true", "node containers false", "node containers true", "Something new false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:", diff)
	}
	if diff := cmp.Diff(map[string]bool{"node image": true, "node containers": true, "Something new": false}, ended); diff != "" {
		t.Error("ended -want +got:", diff)
	}
	if p.now() != "Something new" {
		t.Errorf("it failed at %q", p.now())
	}
}
