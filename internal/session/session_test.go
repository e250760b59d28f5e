package session

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/engine"
)

// lent is a provider of one cluster that was made elsewhere, and that cluster.
type lent struct {
	cluster.Provider
	cluster.Cluster
	gone atomic.Bool
	done chan struct{}
}

func (l *lent) Open(context.Context, string) (cluster.Cluster, error) {
	if l.gone.Load() {
		return nil, cluster.ErrNotFound
	}
	return l, nil
}

func (l *lent) Name() string          { return "lent" }
func (l *lent) Done() <-chan struct{} { return l.done }
func (l *lent) Err() error            { return errors.New("its kubelet was ended") }

func TestTheEndOfTheClusterEndsTheRun(t *testing.T) {
	for name, end := range map[string]func(*lent){
		"made here": func(l *lent) { close(l.done) },
		"opened":    func(l *lent) { l.gone.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &lent{done: make(chan struct{})}
				s := &session{Options: Options{Provider: l}, opened: name == "opened"}
				ctx, release := s.tied(context.Background(), l)
				defer release()
				synctest.Wait()
				if ctx.Err() != nil {
					t.Fatalf("the run ends while the cluster stands: %v", context.Cause(ctx))
				}
				end(l)
				<-ctx.Done()
				var lost *engine.Lost
				if !errors.As(context.Cause(ctx), &lost) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
			})
		})
	}
}
