// Standalone is a proxy as a process of its own in a place where nothing
// redirects to it. Its arguments are pairs LISTEN=DESTINATION, its environment is
// that of a proxy in a pod, and its first line of output says where it listens.
//
// It is for suites and benchmarks; nothing installs it.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/meshproof/meshproof/internal/mesh/proxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	pairs := make([]proxy.Pair, 0, len(args))
	for _, arg := range args {
		listen, destination, _ := strings.Cut(arg, "=")
		from, err := netip.ParseAddrPort(listen)
		if err != nil {
			return fmt.Errorf("%q: want LISTEN=DESTINATION: %w", arg, err)
		}
		to, err := netip.ParseAddrPort(destination)
		if err != nil {
			return fmt.Errorf("%q: want LISTEN=DESTINATION: %w", arg, err)
		}
		pairs = append(pairs, proxy.Pair{Listen: from, Destination: to})
	}
	return proxy.Standalone(ctx, pairs, os.Stdout)
}
