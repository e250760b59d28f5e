// Package node is the process that does for an embedded cluster what a machine
// and its services do elsewhere: container runtime, pod network, translation
// of service addresses, and DNS.
//
// It runs inside the cluster's namespaces, started by package sandbox. Calls
// come from the kubelet, services and endpoints from the API server; what it
// does ends up in the kernel. When one of its parts fails it ends, and the
// cluster with it.
package node

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster/embedded/cri"
	"github.com/meshproof/meshproof/internal/cluster/embedded/discovery"
	"github.com/meshproof/meshproof/internal/cluster/embedded/dns"
	"github.com/meshproof/meshproof/internal/cluster/embedded/faults"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/embedded/network"
	"github.com/meshproof/meshproof/workloads/images"
)

// Main runs the node until ctx ends.
func Main(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	statusFD := flags.Int("status-fd", -1, "inherited pipe for status lines")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	slog.SetDefault(log)

	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(layout.State, layout.PKI, layout.NodeKubeconfig))
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	stand, err := newStandIns(config)
	if err != nil {
		return err
	}
	runtime, err := cri.New(cri.Config{
		BinDir: filepath.Join(layout.State, layout.Bin), RunDir: "/run/cri", Network: network.NewPods(), Log: log,
		Images: images.FindOrStandIn, StandIn: stand.args})
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", layout.Socket)
	if err != nil {
		return fmt.Errorf("listen for the kubelet: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return runtime.Serve(ctx, listener) })
	orders, err := net.Listen("unix", filepath.Join(layout.State, layout.Run, layout.FaultSocket))
	if err != nil {
		return fmt.Errorf("listen for orders of faults: %w", err)
	}
	group.Go(func() error { return faults.Serve(ctx, orders, runtime.Harm()) })

	names := &dns.Server{}
	var waiting sync.WaitGroup // for a first snapshot and for open sockets
	waiting.Add(2)
	group.Go(func() error { return names.Serve(ctx, layout.DNS, waiting.Done) })
	group.Go(func() error { return follow(ctx, config, names, waiting.Done) })
	go func() {
		waiting.Wait()
		report(*statusFD, layout.DNSReady)
	}()
	return group.Wait()
}

// follow brings services from the API server to the kernel and to DNS. It
// calls first when the first state is in force.
func follow(ctx context.Context, config *rest.Config, names *dns.Server, first func()) error {
	var translator network.Translator
	var once sync.Once
	return discovery.Watch(ctx, config, func(s *discovery.Snapshot) error {
		// Addresses first: a name must not lead to what is not there yet.
		if err := translator.Apply(s.Ports); err != nil {
			return err
		}
		names.Update(s)
		once.Do(first)
		return nil
	})
}

// report tells the creator that a component is ready.
func report(fd int, component string) {
	if fd < 0 {
		return
	}
	file := os.NewFile(uintptr(fd), "status")
	defer file.Close()
	if line, err := json.Marshal(layout.Status{Component: component}); err == nil {
		_, _ = file.Write(append(line, '\n')) // the creator may have gone
	}
}
