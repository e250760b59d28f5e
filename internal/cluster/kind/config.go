package kind

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"

	"github.com/meshproof/meshproof/internal/cluster"
)

// What kind's configuration files are called in them.
const (
	configVersion = "kind.x-k8s.io/v1alpha4"
	configKind    = "Cluster"
)

// untainted lets control planes take pods beside workers. kind does so itself
// when there is one node only. It comes before the user's patches, so that
// theirs count.
var untainted = []string{
	"kind: InitConfiguration\nnodeRegistration:\n  taints: []\n",
	"kind: JoinConfiguration\nnodeRegistration:\n  taints: []\n",
}

// roomy lets a node take the pods of a whole run, which stay until the cluster
// goes; the kubelet's own limit is 110. It comes before the user's patches, too.
const roomy = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 250\n"

// merged is the configuration of every cluster of a provider: the user's file
// with our settings. Error: *cluster.OptionError.
func merged(options Options) (*v1alpha4.Cluster, error) {
	config := &v1alpha4.Cluster{}
	if options.Config != "" {
		var err error
		if config, err = readConfig(options.Config); err != nil {
			return nil, err
		}
	}
	config.Kind, config.APIVersion, config.Name = configKind, configVersion, "" // Create decides on the name
	switch listed := len(config.Nodes); {
	case options.Nodes < 0:
		return nil, &cluster.OptionError{Option: "nodes", Problem: "a cluster has one node or more"}
	case listed > 0 && options.Nodes > 0 && listed != options.Nodes:
		return nil, &cluster.OptionError{Option: "nodes", Problem: fmt.Sprintf("%d contradicts %s, which lists %s; leave one of them out", options.Nodes, options.Config, count(listed, "node"))}
	case listed == 0:
		for i := range max(options.Nodes, 1) {
			role := v1alpha4.WorkerRole
			if i == 0 {
				role = v1alpha4.ControlPlaneRole
			}
			config.Nodes = append(config.Nodes, v1alpha4.Node{Role: role})
		}
	}
	if len(config.Nodes) > 1 {
		config.KubeadmConfigPatches = slices.Concat(untainted, config.KubeadmConfigPatches)
	}
	config.KubeadmConfigPatches = slices.Concat([]string{roomy}, config.KubeadmConfigPatches)
	for i := range config.Nodes {
		if options.Image != "" {
			config.Nodes[i].Image = options.Image
		}
	}
	v1alpha4.SetDefaultsCluster(config)
	return config, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// nodeImages are the images that the nodes need, each once.
func nodeImages(config *v1alpha4.Cluster) []string {
	var all []string
	for _, node := range config.Nodes {
		all = append(all, node.Image)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// readConfig reads a file of the user's as kind does: an unknown field is an
// error. What is wrong is told with the line.
func readConfig(path string) (*v1alpha4.Cluster, error) {
	problem := func(line int, format string, args ...any) error {
		place := path
		if line > 0 {
			place += ":" + strconv.Itoa(line)
		}
		return &cluster.OptionError{Option: "kind-config", Problem: place + ": " + fmt.Sprintf(format, args...)}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, problem(0, "%v", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		return nil, problem(locate(err))
	}
	root := &yaml.Node{}
	if len(document.Content) > 0 {
		root = document.Content[0]
	}
	if root.Kind != yaml.MappingNode {
		return nil, problem(root.Line, "this is no kind configuration: it has no apiVersion and kind")
	}
	if version := value(root, "apiVersion"); version.Value != configVersion {
		return nil, problem(line(version, root), "apiVersion is %q, and must be %s", version.Value, configVersion)
	}
	if kind := value(root, "kind"); kind.Value != configKind {
		return nil, problem(line(kind, root), "kind is %q, and must be %s", kind.Value, configKind)
	}
	config := &v1alpha4.Cluster{}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(config); err != nil {
		return nil, problem(locate(err))
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, problem(0, "there is more than one document in it, of which kind would use the first only")
	}
	if at, err := check(config, root); err != nil {
		return nil, problem(line(at, root), "%v", err)
	}
	return config, nil
}

var (
	lineOf       = regexp.MustCompile(`line (\d+): (.*)`)
	unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)
)

// locate makes the line, a format and its arguments of an error of the decoder;
// of several it takes the first.
func locate(err error) (line int, format string, text any) {
	message := err.Error()
	if match := lineOf.FindStringSubmatch(message); match != nil {
		line, _ = strconv.Atoi(match[1])
		message = match[2]
	}
	message = unknownField.ReplaceAllString(strings.TrimPrefix(message, "yaml: "), "kind knows no field $1 here")
	return line, "%s", message
}

// value is what a mapping has under a key; an empty node when it has none.
func value(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content) && mapping.Kind == yaml.MappingNode; i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return &yaml.Node{}
}

// item is an element of a sequence; an empty node when there is none.
func item(sequence *yaml.Node, i int) *yaml.Node {
	if sequence.Kind != yaml.SequenceNode || i >= len(sequence.Content) {
		return &yaml.Node{}
	}
	return sequence.Content[i]
}

// line is that of a node, or of the next best one.
func line(nodes ...*yaml.Node) int {
	for _, node := range nodes {
		if node != nil && node.Line > 0 {
			return node.Line
		}
	}
	return 0
}

// check finds what kind would find when nodes exist already, and where it is.
func check(config *v1alpha4.Cluster, root *yaml.Node) (at *yaml.Node, err error) {
	network := value(root, "networking")
	switch family := config.Networking.IPFamily; family {
	case "", v1alpha4.IPv4Family, v1alpha4.IPv6Family, v1alpha4.DualStackFamily:
	default:
		return value(network, "ipFamily"), fmt.Errorf("ipFamily %q is none of ipv4, ipv6, dual", family)
	}
	switch mode := config.Networking.KubeProxyMode; mode {
	case "", v1alpha4.IPTablesProxyMode, v1alpha4.IPVSProxyMode, v1alpha4.NFTablesProxyMode, "none":
	default:
		return value(network, "kubeProxyMode"), fmt.Errorf("kubeProxyMode %q is none of iptables, ipvs, nftables, none", mode)
	}
	if err := checkPort(config.Networking.APIServerPort); err != nil {
		return value(network, "apiServerPort"), err
	}
	for _, subnet := range []struct{ key, text string }{{"podSubnet", config.Networking.PodSubnet}, {"serviceSubnet", config.Networking.ServiceSubnet}} {
		if _, err := prefixes(subnet.text); err != nil {
			return value(network, subnet.key), fmt.Errorf("%s: %w", subnet.key, err)
		}
	}
	if at, err := checkPatches(config.KubeadmConfigPatches, value(root, "kubeadmConfigPatches")); err != nil {
		return at, err
	}
	return checkNodes(config.Nodes, value(root, "nodes"))
}

func checkNodes(nodes []v1alpha4.Node, sequence *yaml.Node) (at *yaml.Node, err error) {
	controlPlanes := 0
	for i, node := range nodes {
		at := item(sequence, i)
		switch node.Role {
		case v1alpha4.ControlPlaneRole, "":
			controlPlanes++
		case v1alpha4.WorkerRole:
		default:
			return value(at, "role"), fmt.Errorf("role %q is neither %s nor %s", node.Role, v1alpha4.ControlPlaneRole, v1alpha4.WorkerRole)
		}
		for j, mapping := range node.ExtraPortMappings {
			if err := errors.Join(checkPort(mapping.HostPort), checkPort(mapping.ContainerPort)); err != nil {
				return item(value(at, "extraPortMappings"), j), err
			}
		}
		if at, err := checkPatches(node.KubeadmConfigPatches, value(at, "kubeadmConfigPatches")); err != nil {
			return at, err
		}
	}
	if len(nodes) > 0 && controlPlanes == 0 {
		return sequence, fmt.Errorf("none of the nodes is a %s", v1alpha4.ControlPlaneRole)
	}
	return nil, nil
}

// checkPatches sees to it that each patch is YAML and names what it is for: kind
// ignores one that does not.
func checkPatches(patches []string, sequence *yaml.Node) (at *yaml.Node, err error) {
	for i, patch := range patches {
		var target struct {
			Kind string `yaml:"kind"`
		}
		if err := yaml.Unmarshal([]byte(patch), &target); err != nil {
			return item(sequence, i), fmt.Errorf("this patch is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if target.Kind == "" {
			return item(sequence, i), errors.New("this patch has no kind, such as KubeletConfiguration, and would change nothing")
		}
	}
	return nil, nil
}

// checkPort knows kind's -1: the node provider chooses.
func checkPort(port int32) error {
	if port < -1 || port > 65535 {
		return fmt.Errorf("%d is no port", port)
	}
	return nil
}

// prefixes are the ranges that a configuration lists, separated by commas.
func prefixes(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%q is no range of addresses such as 10.244.0.0/16", part)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}
