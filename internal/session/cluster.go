package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
	"github.com/meshproof/meshproof/internal/engine"
	"github.com/meshproof/meshproof/internal/walltime"
	"github.com/meshproof/meshproof/workloads/mesh"
)

const (
	// closeBudget is for the cluster to end.
	closeBudget = 30 * time.Second
	// goneInterval is between two looks whether a cluster that was opened stands.
	goneInterval = time.Second
)

// tied is a context that ends with the cluster, too: then waiting would be in
// vain. release lets go of the cluster.
func (s *session) tied(ctx context.Context, made cluster.Cluster) (out context.Context, release func()) {
	out, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		look := time.NewTicker(goneInterval)
		defer look.Stop()
		for {
			select {
			case <-made.Done():
				cancel(&engine.Lost{Err: fmt.Errorf("the cluster has ended: %w", made.Err())})
			case <-look.C:
				if !s.opened || s.capabilities.Borrowed { // its lease tells who is on somebody's
					continue
				}
				// A cluster that was not made here does not tell of its end.
				if _, err := s.Provider.Open(out, made.Name()); errors.Is(err, cluster.ErrNotFound) {
					cancel(&engine.Lost{Err: fmt.Errorf("cluster %s has ended or was deleted", made.Name())})
				}
				continue
			case <-out.Done():
			}
			return
		}
	}()
	return out, func() { cancel(nil); <-watching }
}

// hold keeps other runs off the named cluster: scenarios that change the mesh's
// settings would change them for those, too.
func (s *session) hold(ctx context.Context) (free func(), err error) {
	provider, ok := s.Provider.(cluster.Exclusive)
	if s.ClusterName == "" || !ok {
		return func() {}, nil
	}
	return provider.Exclusive(ctx, s.ClusterName, func() { s.say("waiting for whoever uses cluster %s to finish", s.ClusterName) })
}

// cluster opens the named cluster or makes one. What a cluster will be able to
// do decides the mesh's settings: where it is known, the mesh starts with it.
func (s *session) cluster(ctx context.Context) (cluster.Cluster, error) {
	if s.ClusterName != "" {
		opened, err := s.Provider.Open(ctx, s.ClusterName)
		if err == nil {
			s.opened = true
			s.know(opened.Capabilities())
			return opened, nil
		}
		if !errors.Is(err, cluster.ErrNotFound) {
			return nil, fmt.Errorf("open cluster %s: %w", s.ClusterName, err)
		}
	}
	options := cluster.Options{Name: s.ClusterName, Standing: s.Keep, Logs: s.logDir(),
		Progress: func(e cluster.Event) {
			if !e.Done {
				s.say("waiting for the cluster: %s", e.Component)
			} else {
				s.say("ready after %.1fs: %s", e.Elapsed.Seconds(), e.Component)
			}
		}}
	if foreseen, ok := s.Provider.(cluster.Foreseen); ok {
		s.know(foreseen.Capabilities())
		manifests, err := mesh.Install(s.Mesh)
		if err != nil {
			return nil, fmt.Errorf("print the mesh's manifests: %w", err)
		}
		options.Manifests = [][]byte{manifests}
	}
	if _, lent := s.Provider.(*kubeconfig.Provider); !lent { // who may clean it up is found out later
		s.cleanUp(ctx)
	}
	s.created = time.Now()
	made, err := s.Provider.Create(ctx, options)
	if err != nil {
		return nil, err
	}
	s.opened = made.Capabilities().Borrowed
	s.know(made.Capabilities())
	return made, nil
}

// know takes in what the cluster can do, and what follows for the mesh.
func (s *session) know(capabilities cluster.Capabilities) {
	s.capabilities = capabilities
	if len(s.Mesh.ClusterNetworks) == 0 {
		for _, network := range capabilities.ClusterNetworks {
			s.Mesh.ClusterNetworks = append(s.Mesh.ClusterNetworks, network.String())
		}
	}
}

// cleanUp removes what killed runs have left. It is a courtesy: what cannot be
// removed keeps no new cluster from being made.
func (s *session) cleanUp(ctx context.Context) {
	removed, err := s.Provider.Cleanup(ctx)
	if len(removed) > 0 {
		s.say("removed what was left of %s", strings.Join(removed, ", "))
	}
	if err != nil {
		s.say("not everything that killed runs have left can be removed: %v", err)
	}
}

// logs keeps the logs of the cluster's components in the run's folder.
func (s *session) logs(ctx context.Context, made cluster.Cluster) error {
	if s.Dir == "" {
		return nil
	}
	s.walltime.Enter(walltime.Evidence)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
	defer cancel()
	err := made.Logs(ctx, s.logDir())
	if err == nil {
		s.say("the logs of the cluster's components are in %s", s.logDir())
	}
	return err
}

// logDir is where the logs of the cluster's components are kept.
func (s *session) logDir() string {
	if s.Dir == "" {
		return ""
	}
	return filepath.Join(s.Dir, "cluster")
}

func (s *session) close(ctx context.Context, made cluster.Cluster) {
	s.walltime.Enter(walltime.Cluster)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
	defer cancel()
	if s.opened || s.Keep {
		s.say("cluster %s stays", made.Name())
	} else {
		s.say("giving back the cluster")
	}
	if err := made.Close(ctx); err != nil { // the run's verdict stands all the same
		s.say("the cluster was not given back: %v", err)
	}
}
