// Standalone is a proxy as a process of its own in a place where nothing
// redirects to it. Its arguments are pairs LISTEN=DESTINATION, its environment is
// that of a proxy in a pod, and its first line of output says where it listens.
//
// It is for suites and benchmarks; nothing installs it. It alone can tell what its
// processor time and its memory go to, see profilesAddr; the agent's proxy cannot.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

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
	stop, err := serveProfiles(os.Getenv(profilesAddr))
	if err != nil {
		return err
	}
	defer stop()
	return proxy.Standalone(ctx, pairs, os.Stdout)
}

// profilesAddr names the loopback address, such as 127.0.0.1:6060, at which
// profiles are served under /debug/pprof/; empty or unset means nowhere.
const profilesAddr = "MESHPROOF_STANDALONE_PPROF"

// serveProfiles serves until stop is called, which waits.
func serveProfiles(address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%s=%q: want a loopback address with a port", profilesAddr, address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve profiles: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(listener) }()
	return func() { server.Close(); <-served }, nil
}
