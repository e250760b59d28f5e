package kind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/meshproof/meshproof/internal/cluster"
)

// What a test that makes real clusters needs.
const (
	imageVariable  = "MESHPROOF_KIND_IMAGE"
	configVariable = "MESHPROOF_KIND_CONFIG"
)

// patience bounds every wait of these tests.
const patience = 5 * time.Minute

// realOptions skips the test where no real cluster can be made.
func realOptions(t *testing.T) Options {
	t.Helper()
	options := Options{Image: os.Getenv(imageVariable), Config: os.Getenv(configVariable), State: t.TempDir()}
	if options.Image == "" {
		t.Skipf("%s names no node image of kind", imageVariable)
	}
	provider, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Available(t.Context()); err != nil {
		t.Skipf("no kind cluster can be made here: %v", err)
	}
	return options
}

func newProvider(t *testing.T, options Options) *Provider {
	t.Helper()
	provider, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// archive is a file with one image that nobody else has.
func archive(t *testing.T, reference string) string {
	t.Helper()
	image, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestARealClusterLives(t *testing.T) {
	provider := newProvider(t, realOptions(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	made, err := provider.Create(ctx, cluster.Options{Logs: t.TempDir(), Progress: func(e cluster.Event) { t.Log(e) }})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = made.Close(context.Background())
		}
	}()
	t.Logf("%+v", made.Capabilities())
	began := time.Now()
	if err := made.(cluster.ImageLoader).LoadImages(ctx, archive(t, "registry.example/meshproof/test:v1")); err != nil {
		t.Fatal(err)
	}
	t.Log("loaded in", time.Since(began))
	logs := t.TempDir()
	if err := made.Logs(ctx, logs); err != nil {
		t.Error(err)
	}
	began = time.Now()
	closed = true
	if err := made.Close(ctx); err != nil {
		t.Fatal(err)
	}
	t.Log("closed in", time.Since(began))
	select {
	case <-made.Done():
	default:
		t.Error("the cluster is closed, and not done")
	}
	if _, err := provider.Open(ctx, made.Name()); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("after its end it can be opened: %v", err)
	}
}

// own is the role of an owner that waits to be killed.
func own(state string) int {
	provider, err := New(Options{Image: os.Getenv(imageVariable), Config: os.Getenv(configVariable), State: state})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	made, err := provider.Create(context.Background(), cluster.Options{Name: os.Getenv(ownerVariable + "_NAME"), Progress: func(e cluster.Event) { fmt.Println("step:", e.Component, e.Done) }})
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("ready:", made.Name())
	select {}
}
