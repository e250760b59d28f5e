package kind

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kind/pkg/apis/config/defaults"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/meshproof/meshproof/internal/cluster"
)

const configHead = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"

// written is the path of a file with that text.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kind.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationsAreMerged(t *testing.T) {
	const cgroup = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailCgroupV1: false\n"
	const patched = configHead + "kubeadmConfigPatches:\n- |\n  apiVersion: kubelet.config.k8s.io/v1beta1\n  kind: KubeletConfiguration\n  failCgroupV1: false\n"
	base := func(nodes ...v1alpha4.Node) *v1alpha4.Cluster {
		out := &v1alpha4.Cluster{TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"}, Nodes: nodes,
			KubeadmConfigPatches: []string{roomy}}
		v1alpha4.SetDefaultsCluster(out)
		return out
	}
	with := func(c *v1alpha4.Cluster, change func(*v1alpha4.Cluster)) *v1alpha4.Cluster {
		change(c)
		return c
	}
	plane, worker := v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: "x"}, v1alpha4.Node{Role: v1alpha4.WorkerRole, Image: "x"}
	for _, test := range []struct {
		name    string
		file    string
		options Options
		want    *v1alpha4.Cluster
	}{
		{"nothing is kind's default", "", Options{}, base(v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: defaults.Image})},
		{"one node with an image", "", Options{Image: "x"}, base(plane)},
		{"the user's patches stay", patched, Options{Image: "x"}, with(base(plane), func(c *v1alpha4.Cluster) { c.KubeadmConfigPatches = []string{roomy, cgroup} })},
		{"three nodes all take pods, and the user's patches come last", patched, Options{Image: "x", Nodes: 3}, with(base(plane, worker, worker), func(c *v1alpha4.Cluster) {
			c.KubeadmConfigPatches = []string{roomy, untainted[0], untainted[1], cgroup}
		})},
		{"the user's networks stay", configHead + "networking: {podSubnet: 10.9.0.0/16, kubeProxyMode: nftables}\n", Options{Image: "x"}, with(base(plane), func(c *v1alpha4.Cluster) {
			c.Networking.PodSubnet, c.Networking.KubeProxyMode = "10.9.0.0/16", v1alpha4.NFTablesProxyMode
		})},
		{"the user's nodes stay, with our image", configHead + "nodes: [{role: control-plane, image: y}, {role: worker, labels: {a: b}}]\n", Options{Image: "x", Nodes: 2},
			with(base(plane, worker), func(c *v1alpha4.Cluster) {
				c.KubeadmConfigPatches, c.Nodes[1].Labels = []string{roomy, untainted[0], untainted[1]}, map[string]string{"a": "b"}
			})},
		{"the user's images stay without ours", configHead + "nodes: [{image: y}]\n", Options{}, base(v1alpha4.Node{Role: v1alpha4.ControlPlaneRole, Image: "y"})},
		{"the name is ours", configHead + "name: theirs\n", Options{Image: "x"}, base(plane)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.file != "" {
				test.options.Config = written(t, test.file)
			}
			got, err := merged(test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error("-want +got:", diff)
			}
		})
	}
}

func TestConfigurationsAreRefusedWithTheirLine(t *testing.T) {
	for _, test := range []struct {
		name, file string
		nodes      int
		want       string // FILE stands for the path
	}{
		{"no such file", "", 0, "--kind-config: FILE: no such file or directory"},
		{"not YAML", "kind: Cluster\n\tx: y\n", 0, "--kind-config: FILE:2: found a tab character that violates indentation"},
		{"empty", "\n", 0, "--kind-config: FILE: this is no kind configuration: it has no apiVersion and kind"},
		{"a version that is none", "kind: Cluster\napiVersion: v1\n", 0, `--kind-config: FILE:2: apiVersion is "v1", and must be kind.x-k8s.io/v1alpha4`},
		{"something else", "apiVersion: kind.x-k8s.io/v1alpha4\nkind: Node\n", 0, `--kind-config: FILE:2: kind is "Node", and must be Cluster`},
		{"an unknown field", configHead + "nodez: []\n", 0, "--kind-config: FILE:3: kind knows no field nodez here"},
		{"a wrong type", configHead + "nodes: 3\n", 0, "--kind-config: FILE:3: cannot unmarshal !!int `3` into []v1alpha4.Node"},
		{"two documents", configHead + "---\n" + configHead, 0, "--kind-config: FILE: there is more than one document in it, of which kind would use the first only"},
		{"a proxy mode that is none", configHead + "networking:\n  kubeProxyMode: fast\n", 0, `--kind-config: FILE:4: kubeProxyMode "fast" is none of iptables, ipvs, nftables, none`},
		{"a family that is none", configHead + "networking:\n  ipFamily: v5\n", 0, `--kind-config: FILE:4: ipFamily "v5" is none of ipv4, ipv6, dual`},
		{"a range that is none", configHead + "networking:\n  podSubnet: 10.0.0.0\n", 0, `--kind-config: FILE:4: podSubnet: "10.0.0.0" is no range of addresses such as 10.244.0.0/16`},
		{"a port that is none", configHead + "networking:\n  apiServerPort: 99999\n", 0, "--kind-config: FILE:4: 99999 is no port"},
		{"a role that is none", configHead + "nodes:\n- role: control-plane\n- role: boss\n", 0, `--kind-config: FILE:5: role "boss" is neither control-plane nor worker`},
		{"no control plane", configHead + "nodes:\n- role: worker\n", 0, "--kind-config: FILE:4: none of the nodes is a control-plane"},
		{"a host port that is none", configHead + "nodes:\n- role: control-plane\n  extraPortMappings:\n  - hostPort: -5\n", 0, "--kind-config: FILE:6: -5 is no port"},
		{"a patch for nothing", configHead + "kubeadmConfigPatches:\n- |\n  failCgroupV1: false\n", 0, "--kind-config: FILE:4: this patch has no kind, such as KubeletConfiguration, and would change nothing"},
		{"a patch that is not YAML", configHead + "kubeadmConfigPatches:\n- '}'\n", 0, "--kind-config: FILE:4: this patch is not YAML: did not find expected node content"},
		{"a contradiction", configHead + "nodes: [{role: control-plane}, {role: worker}]\n", 3, "--nodes: 3 contradicts FILE, which lists 2 nodes; leave one of them out"},
		{"less than nothing", configHead, -1, "--nodes: a cluster has one node or more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "missing.yaml")
			if test.file != "" {
				path = written(t, test.file)
			}
			_, err := New(Options{Config: path, Nodes: test.nodes, State: t.TempDir()})
			var wrong *cluster.OptionError
			if want := strings.ReplaceAll(test.want, "FILE", path); !errors.As(err, &wrong) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}
