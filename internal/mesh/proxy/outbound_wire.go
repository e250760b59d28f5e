package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/proxy/outbound"
)

// dialOwn reaches a port of the pod itself by way of the inbound half (B-02).
type dialOwn = func(ctx context.Context, dst netip.AddrPort) (net.Conn, error)

// runOutbound runs the outbound half until ctx ends. Without a destination
// service there is none to run.
func runOutbound(ctx context.Context, cfg Config, id *identity.Client, dialOwn dialOwn, registry prometheus.Registerer, log *slog.Logger) error {
	if cfg.DestinationAddr == "" {
		<-ctx.Done()
		return nil
	}
	half, err := outbound.New(outbound.Config{
		ListenAddr:  cfg.Outbound.String(),
		Destination: outbound.Destination{Addr: cfg.DestinationAddr, Name: cfg.DestinationName, Context: cfg.DestinationContext},
		Identity:    id, LocalIPs: cfg.IPs, DialOwn: dialOwn, Registerer: registry, SocketMark: cfg.SocketMark, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("set up the outbound half: %w", err)
	}
	return half.Run(ctx)
}
