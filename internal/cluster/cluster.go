// Package cluster is what the rest of the project knows about clusters: how to
// get one, what it can do, and how to give it back.
//
// A Provider makes clusters of one kind; through a Cluster flow a kubeconfig
// and a list of capabilities, and nothing of how it was made. The package
// holds no Kubernetes client and makes no decision that depends on the kind of
// cluster.
package cluster

import (
	"context"
	"net/netip"
	"time"
)

// Provider makes, finds and removes clusters of one kind. Its methods are safe
// for concurrent use; two clusters may be created at the same time.
type Provider interface {
	// Kind names the provider: "embedded", "kind", "kubeconfig".
	Kind() string
	// Create returns a cluster that is ready: its API answers, its node is
	// Ready, names resolve in it, and objects of Options.Manifests' kinds are
	// accepted. A failed or cancelled Create leaves nothing running. Errors:
	// ErrExists, *SetupError.
	Create(ctx context.Context, options Options) (Cluster, error)
	// Open returns a cluster that stands. Error: ErrNotFound.
	Open(ctx context.Context, name string) (Cluster, error)
	// Delete ends a cluster and removes what it left. Error: ErrNotFound.
	Delete(ctx context.Context, name string) error
	// List returns the clusters there are, sorted by name.
	List(ctx context.Context) ([]Info, error)
	// Cleanup removes what clusters left behind that are gone, and returns
	// their names. It touches no cluster that runs.
	Cleanup(ctx context.Context) ([]string, error)
}

// Exclusive is implemented by providers that can keep processes from using a
// cluster at the same time.
type Exclusive interface {
	// Exclusive waits until no other process holds the cluster of this name,
	// which need not exist, and holds it until release is called or this process
	// ends. waiting is called once when it is not free.
	Exclusive(ctx context.Context, name string, waiting func()) (release func(), err error)
}

// Foreseen is implemented by providers that know what a cluster of theirs can do
// before there is one, so that Create can be given manifests that depend on it.
type Foreseen interface {
	// Capabilities are those of every cluster that Create will return.
	Capabilities() Capabilities
}

// ImageTaker is implemented by providers all of whose clusters are ImageLoaders,
// so that archives can be written while a cluster comes up.
type ImageTaker interface{ TakesImages() }

// Cluster is one cluster that is ready.
type Cluster interface {
	Name() string
	// Kubeconfig is the path of a file with administrator's rights.
	Kubeconfig() string
	Capabilities() Capabilities
	// Timings says how long each phase of Create took; nil after Open.
	Timings() []Timing
	// Logs copies the logs of the cluster's components and pods into dir,
	// which is made when it is missing.
	Logs(ctx context.Context, dir string) error
	// Done is closed when the cluster has ended, by itself or otherwise, and
	// Err then says why. Both know only clusters created by this process.
	Done() <-chan struct{}
	Err() error
	// Keep makes a cluster outlive this process.
	Keep(ctx context.Context) error
	// Close gives the cluster back: it ends unless it stands (Options.Standing,
	// Keep, Open), and then it only releases what this process held.
	Close(ctx context.Context) error
}

// Options say what is wanted of Create. The zero value is a cluster with a
// made-up name that ends with this process.
type Options struct {
	// Name of the cluster; empty: one is made up.
	Name string
	// Standing makes the cluster outlive this process from the start.
	Standing bool
	// Manifests are YAML or JSON documents, each of any number of objects, that
	// are created as soon as the API answers. They must not depend on each
	// other, except that namespaces go first. Create returns when each
	// CustomResourceDefinition among them accepts objects without delay.
	Manifests [][]byte
	// Logs is a folder for the components' logs of a Create that fails, which is
	// made when it is missing; empty: they are lost.
	Logs string
	// Progress is told which component is awaited; nil: nobody. It is called
	// from one goroutine at a time and must not block.
	Progress func(Event)
}

// Event is one step of Create.
type Event struct {
	// Component is what is awaited or has become ready, such as "API server".
	Component string
	// Done is false when the wait for it begins.
	Done bool
	// Elapsed is the time since Create was called.
	Elapsed time.Duration
}

// Timing is how long after the start of Create a component was ready.
type Timing struct {
	Component string        `json:"component"`
	Elapsed   time.Duration `json:"elapsed"`
}

// Info is one line of List.
type Info struct {
	Name       string    `json:"name"`
	Kind       string    `json:"kind"`
	Running    bool      `json:"running"`
	Standing   bool      `json:"standing"`
	Created    time.Time `json:"created"`
	Server     string    `json:"server"`
	Kubeconfig string    `json:"kubeconfig"`
}

// Capabilities is what a cluster can do beyond what every cluster does.
type Capabilities struct {
	// SingleUID is true when all containers run under one user ID, so that
	// nothing can be told apart by user ID.
	SingleUID bool `json:"singleUID"`
	// Outside is how a client gets an address that is none of the mesh's
	// cluster networks.
	Outside Outside `json:"outside"`
	// ClusterNetworks are the ranges of pods' addresses: what a mesh that is
	// installed for a run takes as its cluster networks, so that Outside is
	// outside of them. Empty: the mesh's own defaults will do.
	ClusterNetworks []netip.Prefix `json:"clusterNetworks,omitempty"`
	// Faults is true when the cluster is Harmful.
	Faults bool `json:"faults"`
	// Nodes is the number of nodes that take pods.
	Nodes int `json:"nodes"`
	// IPv6 is true when pods and services have IPv6 addresses.
	IPv6 bool `json:"ipv6"`
	// Borrowed is true when the cluster is somebody's and was there before: what a
	// run makes in it goes when the run ends, and a mesh that stands stays as it is.
	Borrowed bool `json:"borrowed"`
	// LocalImages is true when this project's images are there without loading.
	LocalImages bool `json:"localImages"`
}

// Outside says how a client gets an address outside the cluster's networks.
type Outside struct {
	How OutsideHow `json:"how,omitempty"`
	// Networks hold every such address and no pod's other address; empty with
	// OutsideNone.
	Networks []netip.Prefix `json:"networks,omitempty"`
}

// OutsideHow is a way to an address outside the cluster's networks.
type OutsideHow string

const (
	// OutsideNone: there is none, and claims that need one are skipped.
	OutsideNone OutsideHow = ""
	// OutsidePods: pods with OutsideAnnotation have such addresses, and a proxy
	// when they ask for one.
	OutsidePods OutsideHow = "pods"
	// OutsideHosts: pods on the host network that bind to the node's address.
	// They have no proxy; who is to appear meshed speaks mesh TLS himself.
	OutsideHosts OutsideHow = "hosts"
)

// OutsideAnnotation with the value "outside" on a pod asks for an address in
// Outside.Networks where those are pods' (OutsidePods).
const OutsideAnnotation = "meshproof.dev/network"

// ImageLoader is a Cluster that takes images from files; others pull them.
type ImageLoader interface {
	// LoadImages puts every image of the OCI or Docker archives (tar files, not
	// compressed) onto every node. Loading an image again replaces it. Error:
	// *SetupError, which names the archive and the node.
	LoadImages(ctx context.Context, archives ...string) error
}
