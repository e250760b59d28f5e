package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
)

func TestAClusterHasOneUserAtATime(t *testing.T) {
	registry := Registry(t.TempDir())
	release, err := registry.Exclusive(context.Background(), "one", func() { t.Error("the first user waits") })
	if err != nil {
		t.Fatal(err)
	}
	other, err := registry.Exclusive(context.Background(), "two", func() { t.Error("the user of another cluster waits") })
	if err != nil {
		t.Fatal(err)
	}
	other()
	waits, got := make(chan struct{}), make(chan error, 1)
	go func() {
		second, err := registry.Exclusive(context.Background(), "one", func() { close(waits) })
		if err == nil {
			second()
		}
		got <- err
	}()
	<-waits
	select {
	case <-got:
		t.Fatal("two users hold the cluster")
	default:
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := registry.Exclusive(ctx, "one", func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody who gave up got %v", err)
	}
	release()
	if err := <-got; err != nil {
		t.Errorf("the second user got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(string(registry), "*"+holdSuffix)); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestCleanupRemovesTheHoldsOfTheDeadOnly(t *testing.T) {
	registry := Registry(t.TempDir())
	release, err := registry.Exclusive(context.Background(), "held", func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	dead := filepath.Join(string(registry), "dead"+holdSuffix)
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := registry.RemoveHolds(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead user's hold is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(string(registry), "held"+holdSuffix)); err != nil {
		t.Errorf("a living user's hold is gone: %v", err)
	}
	if _, err := registry.Exclusive(context.Background(), "../up", func() {}); !errors.Is(err, cluster.ErrName) {
		t.Errorf("a name that is none got %v", err)
	}
}
