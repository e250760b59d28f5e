// Command meshproof-kube is the embedded cluster's Kubernetes: etcd, the API
// server, the controller manager and the scheduler in one process, or the
// kubelet in another.
//
// It starts components that are Kubernetes' own with settings that suit a
// cluster which lives for minutes on a small machine, and nothing else: the
// certificates, the addresses and the container runtime's socket are made by
// its caller. It imports nothing of the main module, so that no dependency of
// that module ever recompiles Kubernetes. It refuses to run without the folder
// it is told to keep everything in.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
)

// exitUsage is the exit code for a wrong command line.
const exitUsage = 4

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	var run func(context.Context, []string) error
	switch os.Args[1] {
	case "control-plane":
		run = controlPlane
	case "kubelet":
		run = runKubelet
	default:
		usage()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[2:]); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "meshproof-kube %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: meshproof-kube control-plane|kubelet [flags]")
	os.Exit(exitUsage)
}

// setVerbosity makes the components log at the given level; they share one
// logger per process, which is why no component's own logging flags are used.
func setVerbosity(level int) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	return flags.Parse([]string{fmt.Sprintf("-v=%d", level)})
}
