package clusters

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/e2e-framework/klient"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/envfuncs"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/e2eframework"
	"github.com/meshproof/meshproof/internal/cluster/kubeconfig"
)

// TestASecondCluster makes a cluster beside the suite's own, and ends it.
func TestASecondCluster(t *testing.T) {
	needsClusters(t)
	name := envconf.RandomName("second", 14)
	second := e2eframework.Choice(*choice)
	var was cluster.Cluster
	feature := features.New("two clusters").
		Setup(func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			// A configuration of its own, because the framework's function turns
			// the one it is given to the new cluster.
			out, err := envfuncs.CreateCluster(second, name)(ctx, envconf.New())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // for a test that ends half-way
				if err := second.Destroy(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
			})
			was = second.Cluster()
			return out
		}).
		Assess("both answer, and neither knows what is in the other", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			other, err := klient.NewWithKubeConfigFile(second.GetKubeconfig())
			if err != nil {
				t.Fatal(err)
			}
			var found corev1.Namespace
			if err := config.Client().Resources().Get(ctx, config.Namespace(), "", &found); err != nil {
				t.Errorf("the first cluster: %v", err)
			}
			if err := other.Resources().Get(ctx, config.Namespace(), "", &found); err == nil {
				t.Errorf("namespace %s of the first cluster is in the second", config.Namespace())
			}
			return ctx
		}).
		Assess("both are listed as running", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			running := listed(ctx, t)
			for _, name := range []string{name, suite.adapter.Cluster().Name()} {
				if !running[name] {
					t.Errorf("cluster %s is not listed as running: %v", name, running)
				}
				if forgotten(name) == nil {
					t.Errorf("nothing is remembered of cluster %s: its end could not be seen either", name)
				}
			}
			return ctx
		}).
		Assess("a third of the same name is refused", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
			if _, err := e2eframework.Choice(*choice).WithName(name).Create(ctx); !errors.Is(err, cluster.ErrExists) {
				t.Errorf("error %v, want %v", err, cluster.ErrExists)
			}
			if !listed(ctx, t)[name] {
				t.Error("the cluster whose name was wanted is gone")
			}
			return ctx
		}).
		Assess("a cluster that is destroyed leaves nothing", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if _, err := envfuncs.DestroyCluster(name)(ctx, config); err != nil {
				t.Fatal(err)
			}
			if err := gone(ctx, was); err != nil {
				t.Error(err)
			}
			return ctx
		}).
		Assess("the other one answers still", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			if err := suite.adapter.WaitForControlPlane(ctx, config.Client()); err != nil {
				t.Error(err)
			}
			return ctx
		}).Feature()
	suite.env.Test(t, feature)
}

// listed says of every cluster there is whether it runs.
func listed(ctx context.Context, t *testing.T) map[string]bool {
	t.Helper()
	provider, _, err := choice.Provider()
	if err != nil {
		t.Fatal(err)
	}
	infos, err := provider.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running := map[string]bool{}
	for _, info := range infos {
		running[info.Name] = info.Running
	}
	return running
}

func TestCreationThatIsCutShortLeavesNothing(t *testing.T) {
	needsClusters(t)
	name := envconf.RandomName("aborted", 14)
	ctx, cancel := context.WithCancel(t.Context())
	provider, _, err := choice.Provider()
	if err != nil {
		t.Fatal(err)
	}
	// Cancelled at the first sign of life, wherever that is.
	c, err := provider.Create(ctx, cluster.Options{Name: name, Progress: func(cluster.Event) { cancel() }})
	cancel()
	if err == nil {
		t.Fatal("a cluster came up although its creation was cancelled:", errors.Join(c.Close(context.WithoutCancel(ctx))))
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one that says that it was cancelled", err)
	}
	if running, there := listed(t.Context(), t)[name]; there {
		t.Errorf("cluster %s is listed, running %t", name, running)
	}
	if err := forgotten(name); err != nil {
		t.Error(err)
	}
}

func TestLogsAreExported(t *testing.T) {
	needs(t)
	feature := features.New("logs").
		Assess("components and pods have left logs", func(ctx context.Context, t *testing.T, config *envconf.Config) context.Context {
			dir := filepath.Join(t.TempDir(), "logs")
			if err := suite.adapter.ExportLogs(ctx, dir); err != nil {
				t.Fatal(err)
			}
			files, bytes := 0, int64(0)
			err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				info, err := entry.Info()
				if err == nil && info.Mode().IsRegular() {
					files, bytes = files+1, bytes+info.Size()
				}
				return err
			})
			if err != nil || files == 0 || bytes == 0 {
				t.Errorf("%d files of %d bytes, error %v", files, bytes, err)
			}
			// Of a cluster that is not its own a provider copies the pods' only.
			if choice.Kind != kubeconfig.Kind && !mentions(t, dir, "kube") {
				t.Errorf("no file of %s is a Kubernetes component's", strings.Join(names(dir), ", "))
			}
			return ctx
		}).Feature()
	suite.env.Test(t, feature)
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir) // what is not there is not named
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found
}

// mentions reports whether the path of a file below dir holds a text.
func mentions(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		inside, _ := filepath.Rel(dir, path)
		found = found || err == nil && !entry.IsDir() && strings.Contains(inside, text)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}
