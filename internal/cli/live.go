package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/live"
	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
	"github.com/meshproof/meshproof/internal/session"
	"github.com/meshproof/meshproof/reports/result"
)

// liveFlags are those by which explain and matrix ask a cluster too.
type liveFlags struct {
	on       bool
	registry string
	*kubeFlags
}

func addLiveFlags(cmd *cobra.Command) *liveFlags {
	f := &liveFlags{}
	cmd.Flags().BoolVar(&f.on, "live", false, "ask a running cluster too, with temporary clients, and mark every difference; without -f its own objects are judged")
	cmd.Flags().StringVar(&f.registry, "registry", "", "with --live: registry of the clients' images")
	f.kubeFlags = addKubeFlags(cmd)
	return f
}

// subject is what is judged: manifests, or a cluster's own objects, with the
// cluster to hold them against where one was asked for.
type subject struct {
	set     *objects.Set
	judge   oracle.Oracle
	cluster *live.Cluster
}

func (f *liveFlags) read(cmd *cobra.Command, streams IOStreams, manifests *manifestFlags) (subject, error) {
	var s subject
	var err error
	if len(manifests.files) > 0 || !f.on {
		if s.set, s.judge, err = manifests.read(streams); err != nil || !f.on {
			return s, err
		}
	}
	config, _, err := f.client()
	if err != nil {
		return s, err
	}
	namespace := ""
	if cmd.Flags().Changed("namespace") && s.set == nil {
		namespace = manifests.namespace
	}
	if s.cluster, err = live.Read(cmd.Context(), config, namespace); err != nil {
		return s, err
	}
	if s.set == nil {
		s.set, s.judge = s.cluster.Set, oracle.New(s.cluster.World, s.cluster.Dialect)
	}
	return s, nil
}

// visit has do ask the cluster, and gives back what was made for it.
func (f *liveFlags) visit(ctx context.Context, s subject, do func(*live.Visit) error) (err error) {
	id := session.NewID(time.Now())
	visit, err := s.cluster.Visit(ctx, engine.Options{ID: id, Registry: f.registry, Mesh: result.Mesh{Dialect: s.judge.Dialect.String()}})
	if err != nil {
		return &ExitError{Code: ExitSetup, Err: err}
	}
	defer func() { err = errors.Join(err, visit.Close(ctx)) }()
	switch err := do(visit); {
	case errors.Is(err, live.ErrClient), errors.Is(err, live.ErrWorkload):
		return &ExitError{Code: ExitUsage, Err: fmt.Errorf("--live: %w", err)}
	case err != nil:
		return &ExitError{Code: ExitSetup, Err: fmt.Errorf("--live: %w", err)}
	}
	return nil
}
