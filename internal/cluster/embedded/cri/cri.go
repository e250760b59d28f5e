// Package cri is the container runtime of the embedded cluster: the Kubernetes
// Container Runtime Interface, version 1, without images, layers, cgroups or
// any program besides its own.
//
// A pod sandbox is a set of namespaces (net, uts, ipc) held by descriptors. A
// container is a process with a mount and PID namespace of its own, on a root
// made of a tmpfs, the binaries its image names and the mounts that the
// kubelet asks for. What flows through: CRI calls in, processes, their log
// files and streams (exec, attach, port-forward) out.
//
// Wiring. Containers start as the program that hosts the runtime, called with
// hidden arguments; linking this package is enough for that, and [InitMain],
// first thing in main, says so. Then
//
//	server, err := cri.New(cri.Config{BinDir: "/state/bin", RunDir: "/state/run/cri", Network: network})
//	err = server.Serve(ctx, listener) // a unix socket; returns when ctx ended and every container is gone
//
// The kubelet must share the server's mount and PID namespace: the paths in its
// requests are opened in it. Its feature gate EventedPLEG must be off, as it is
// by default: the kubelet then asks every second what has happened. With the
// gate it believes a cache that on a busy node lags behind its own starts, and
// starts a container a second time beside the first. So there is no event feed.
//
// It refuses to run without /proc of its own PID namespace and on a kernel
// older than Linux 5.12, and it refuses, by an error on the call, what it
// cannot do honestly: shared PID namespaces, user namespaces per pod, devices
// by CDI, mounts that propagate out of a container, checkpoints, events. It enforces no
// resource limit. With a single mapped uid every container runs as uid 0, with
// the capabilities that its security context leaves it.
package cri

import (
	"context"
	"net/netip"
	"os"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri/containerinit"
)

// NetworkAnnotation on a pod chooses its address range; the value
// NetworkOutside asks for one outside every range that meshes take for their
// own.
const (
	NetworkAnnotation = "meshproof.dev/network"
	NetworkOutside    = "outside"
)

// Network gives pods their interface.
type Network interface {
	// Attach makes the interface, address and route in the namespace at path
	// netns and returns the address. The path is valid until Detach returned.
	Attach(ctx context.Context, sandboxID, netns string, outside bool) (netip.Addr, error)
	// Detach undoes Attach. It is repeated when it failed, and may be called
	// for a sandbox that was never attached.
	Detach(ctx context.Context, sandboxID string) error
}

// InitMain says that the calling program hosts containers: linking this package
// is what does it, long before main. It fails loudly if that did not happen.
func InitMain() {
	if containerinit.Requested(os.Args) {
		panic("a container's first process has reached main")
	}
}
