package proxy

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meshproof/meshproof/internal/mesh/identity"
	"github.com/meshproof/meshproof/internal/mesh/proxy/outbound"
)

// runOutbound runs the outbound half until ctx ends. Without a destination
// service there is none to run.
func runOutbound(ctx context.Context, cfg Config, id *identity.Client, registry prometheus.Registerer, log *slog.Logger) error {
	if cfg.DestinationAddr == "" {
		<-ctx.Done()
		return nil
	}
	half, err := outbound.New(outbound.Config{
		ListenAddr:  cfg.Outbound.String(),
		Destination: outbound.Destination{Addr: cfg.DestinationAddr, Name: cfg.DestinationName, Context: cfg.DestinationContext},
		Identity:    id, LocalIPs: cfg.IPs, Registerer: registry, SocketMark: cfg.SocketMark, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("set up the outbound half: %w", err)
	}
	return half.Run(ctx)
}
