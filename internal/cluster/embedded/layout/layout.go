// Package layout is what the two sides of an embedded cluster agree on: the
// addresses inside it, and what is where in its state folder.
//
// The outside is the process that creates a cluster, the inside is the set of
// processes in the cluster's namespaces. The package has no behaviour.
package layout

import "net/netip"

// NodeName is the name of the only node.
const NodeName = "meshproof"

// Addresses inside the cluster. None of them is reachable from the host.
var (
	// NodeIP is the node's address; traffic from the node to pods, such as
	// probes, comes from it.
	NodeIP = netip.MustParseAddr("10.245.0.1")
	// Gateway is every pod's next hop.
	Gateway = netip.MustParseAddr("169.254.1.1")
	// Pods is the range of pods.
	Pods = netip.MustParsePrefix("10.244.0.0/16")
	// Outside is the range of pods that ask to be outside every range a mesh
	// takes for its own by default.
	Outside = netip.MustParsePrefix("198.51.100.0/24")
	// Services is the range of ClusterIPs.
	Services = netip.MustParsePrefix("10.96.0.0/16")
	// DNS is the name server's ClusterIP.
	DNS = netip.MustParseAddr("10.96.0.10")
	// KubernetesService is the API server's ClusterIP.
	KubernetesService = netip.MustParseAddr("10.96.0.1")
)

// APIPort is the API server's port on NodeIP.
const APIPort = 6443

// ClusterDomain is the suffix of service names.
const ClusterDomain = "cluster.local"

// Names in the state folder.
const (
	Bin        = "bin"
	PKI        = "pki"
	LogDir     = "logs"
	Run        = "run"
	Root       = "root"
	Kubeconfig = "kubeconfig"
	// NodeKubeconfig is used by the cluster's own network programs.
	NodeKubeconfig = "node.kubeconfig"
)

// State is where the state folder is inside the cluster's mount namespace.
const State = "/state"

// Socket is the container runtime's socket inside the cluster.
const Socket = State + "/" + Run + "/cri.sock"

// FaultSocket is the name, in Run, of the socket on which the node takes orders
// to harm pods; it is for whoever holds the state folder.
const FaultSocket = "faults.sock"

// Inherited file descriptors of the cluster's first process.
const (
	// LifelineFD is a pipe's reading end: end of file means that the creator
	// has gone and the cluster must end, a byte Detach means that it stands by
	// itself from now on.
	LifelineFD = 3 + iota
	// StatusFD is a pipe's writing end for Status lines.
	StatusFD
	// ListenerFD is the host's loopback socket the API is served on.
	ListenerFD
	// LockFD holds the state folder's lock for as long as the process lives.
	LockFD
)

// Detach is the byte that lets a cluster stand by itself.
const Detach = 'D'

// Components that the status lines name.
const (
	// Namespaces are set up, with file system and network.
	Namespaces = "namespaces"
	// DNS answers, and services are translated.
	DNSReady = "DNS"
	// Detached answers Detach: from here on nobody's end is the cluster's.
	Detached = "detached"
)

// Status is one line, as JSON, from the cluster's first process to its creator.
type Status struct {
	// Component that became ready.
	Component string `json:"component,omitempty"`
	// Failed is set when the cluster ends: what was attempted and how it failed.
	Failed string `json:"failed,omitempty"`
	// Errno of the failure, when it was a system call's.
	Errno int `json:"errno,omitempty"`
	// Step of the set-up that failed: "mount", "proc", "link", "nftables" ...
	Step string `json:"step,omitempty"`
}

// Setup is what the creator tells the cluster's first process, as JSON in its
// first argument.
type Setup struct {
	// Name of the cluster.
	Name string `json:"name"`
	// SingleUID is true when only one user ID is mapped.
	SingleUID bool `json:"singleUID"`
	// Programs are those that are not in the state folder's bin/ but mounted
	// there, by name, with absolute paths.
	Programs map[string]string `json:"programs,omitempty"`
	// Verbosity of the Kubernetes components.
	Verbosity int `json:"verbosity"`
}
