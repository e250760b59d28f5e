package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
)

// bare is a provider that makes no cluster.
func bare(t *testing.T) *Provider {
	t.Helper()
	provider, err := New(t.TempDir(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

func TestAClusterHasOneUserAtATime(t *testing.T) {
	provider := bare(t)
	release, err := provider.Exclusive(context.Background(), "one", func() { t.Error("the first user waits") })
	if err != nil {
		t.Fatal(err)
	}
	other, err := provider.Exclusive(context.Background(), "two", func() { t.Error("the user of another cluster waits") })
	if err != nil {
		t.Fatal(err)
	}
	other()
	waits, got := make(chan struct{}), make(chan error, 1)
	go func() {
		second, err := provider.Exclusive(context.Background(), "one", func() { close(waits) })
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
	if _, err := provider.Exclusive(ctx, "one", func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("somebody who gave up got %v", err)
	}
	release()
	if err := <-got; err != nil {
		t.Errorf("the second user got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(string(provider.clusters), "*"+holdSuffix)); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestCleanupRemovesTheHoldsOfTheDeadOnly(t *testing.T) {
	provider := bare(t)
	release, err := provider.Exclusive(context.Background(), "held", func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	dead := filepath.Join(string(provider.clusters), "dead"+holdSuffix)
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Cleanup(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dead user's hold is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(string(provider.clusters), "held"+holdSuffix)); err != nil {
		t.Errorf("a living user's hold is gone: %v", err)
	}
	if _, err := provider.Exclusive(context.Background(), "../up", func() {}); !errors.Is(err, cluster.ErrName) {
		t.Errorf("a name that is none got %v", err)
	}
}
