package providers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded"
	"github.com/meshproof/meshproof/internal/cluster/kind"
)

// Auto leaves the choice to what this machine has: kind where a node provider
// answers and has the node image, else embedded.
const Auto = "auto"

// autoBudget bounds the look at the node provider.
const autoBudget = 20 * time.Second

// auto chooses, and says why in one line. A mistake in the settings is told, and
// not taken for a reason against kind.
func auto(options Options) (provider cluster.Provider, why string, err error) {
	if err := refuse(Auto, options); err != nil {
		return nil, "", err
	}
	containers, err := newKind(options)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), autoBudget)
	defer cancel()
	with, err := containers.Available(ctx)
	if err == nil {
		return containers, fmt.Sprintf("cluster: %s (%s)", kind.Kind, with), nil
	}
	provider, other := embedded.New(options.Programs, options.State)
	if other != nil {
		return nil, "", errors.Join(err, other)
	}
	reason := err.Error()
	if setup := (*cluster.SetupError)(nil); errors.As(err, &setup) {
		reason = setup.Cause // what would help is of no interest: there is another way
	}
	return provider, fmt.Sprintf("cluster: %s (%s)", embedded.Kind, reason), nil
}
