package embedded

import (
	"context"

	"github.com/meshproof/meshproof/internal/cluster"
)

var _ cluster.Exclusive = (*Provider)(nil)

// Exclusive implements cluster.Exclusive.
func (p *Provider) Exclusive(ctx context.Context, name string, waiting func()) (release func(), err error) {
	return p.clusters.Exclusive(ctx, name, waiting)
}
