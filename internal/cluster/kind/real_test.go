package kind

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/meshproof/meshproof/internal/cluster"
)

// What a test that makes real clusters needs.
const (
	imageVariable  = "MESHPROOF_KIND_IMAGE"
	configVariable = "MESHPROOF_KIND_CONFIG"
	// twoVariable allows two clusters at a time.
	twoVariable = "MESHPROOF_KIND_TWO"
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

// nodesOf are the containers of a cluster.
func nodesOf(t *testing.T, p *Provider, name string) []container {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // it is for cleanups, too
	tool, err := p.tool(ctx)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := tool.containers(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// created makes a cluster that ends with the test.
func created(t *testing.T, p *Provider, options cluster.Options) cluster.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	made, err := p.Create(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := made.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if nodes := nodesOf(t, p, made.Name()); len(nodes) > 0 {
			t.Errorf("left are %v", nodes)
		}
		if names := left(t, p); slices.Contains(names, made.Name()) {
			t.Errorf("left in the state folder are %v", names)
		}
	})
	return made
}

const someManifests = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing, listKind: ThingList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: made-first}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: made-first}}
`

func TestARealClusterLives(t *testing.T) {
	options := realOptions(t)
	options.Nodes = 2
	home := t.TempDir()
	t.Setenv("HOME", home)
	provider := newProvider(t, options)
	made := created(t, provider, cluster.Options{Manifests: [][]byte{[]byte(someManifests)}, Progress: func(e cluster.Event) { t.Logf("%.1fs %s %v", e.Elapsed.Seconds(), e.Component, e.Done) }})

	t.Run("it has what it says", func(t *testing.T) {
		got := made.Capabilities()
		t.Logf("%+v", got)
		if got.Nodes != 2 || got.Outside.How != cluster.OutsideHosts || len(got.Outside.Networks) != 1 || len(got.ClusterNetworks) != 1 || got.LocalImages || got.Borrowed {
			t.Errorf("got %+v", got)
		}
		if timings := made.Timings(); len(timings) == 0 || timings[len(timings)-1].Component != "ready" {
			t.Errorf("timings are %v", timings)
		}
	})
	t.Run("it accepts objects of the manifests' kinds at once", func(t *testing.T) {
		access, err := clientcmd.BuildConfigFromFlags("", made.Kubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		client, err := dynamic.NewForConfig(access)
		if err != nil {
			t.Fatal(err)
		}
		thing := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Thing", "metadata": map[string]any{"name": "a"}}}
		things := client.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}).Namespace("made-first")
		if _, err := things.Create(t.Context(), thing, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("its kubeconfig is for this user only, and the user's own is not touched", func(t *testing.T) {
		info, err := os.Stat(made.Kubeconfig())
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v", info, err)
		}
		if entries, _ := os.ReadDir(home); len(entries) > 0 {
			t.Errorf("in the home folder are %v", entries)
		}
	})
	t.Run("images are loaded onto every node, again, too", func(t *testing.T) {
		const reference = "registry.example/meshproof/test:v1"
		loader := made.(cluster.ImageLoader)
		for range 2 {
			if err := loader.LoadImages(t.Context(), archive(t, reference)); err != nil {
				t.Fatal(err)
			}
		}
		for _, node := range nodesOf(t, provider, made.Name()) {
			tool, _ := provider.tool(t.Context())
			if out, err := tool.run(t.Context(), "exec", node.Name, "crictl", "images"); err != nil || !strings.Contains(string(out), "registry.example/meshproof/test") {
				t.Errorf("node %s has %s, %v", node.Name, out, err)
			}
		}
		var setup *cluster.SetupError
		nothing := filepath.Join(t.TempDir(), "nothing.tar")
		if err := os.WriteFile(nothing, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{nothing, nothing + ".missing"} {
			if err := loader.LoadImages(t.Context(), path); !errors.As(err, &setup) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			} else {
				t.Log(err)
			}
		}
	})
	t.Run("its logs are those of every node", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "logs")
		if err := made.Logs(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		for _, node := range nodesOf(t, provider, made.Name()) {
			if info, err := os.Stat(filepath.Join(dir, node.Name, "kubelet.log")); err != nil || info.Size() == 0 {
				t.Errorf("got %v, %v", info, err)
			}
		}
	})
	t.Run("another process can open it, and leaves it alone", func(t *testing.T) {
		other := newProvider(t, Options{State: options.State})
		opened, err := other.Open(t.Context(), made.Name())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(made.Capabilities(), opened.Capabilities(), samePrefix); diff != "" {
			t.Error("-made +opened:", diff)
		}
		if again, err := other.Open(t.Context(), made.Name()); err != nil || again != opened {
			t.Errorf("opened again: %v, %v", again, err)
		}
		if removed, err := other.Cleanup(t.Context()); err != nil || len(removed) > 0 {
			t.Errorf("cleanup removed %v, %v", removed, err)
		}
		if err := opened.Close(t.Context()); err != nil || len(nodesOf(t, provider, made.Name())) != 2 {
			t.Errorf("after Close there are %v, %v", nodesOf(t, provider, made.Name()), err)
		}
		if _, err := other.Create(t.Context(), cluster.Options{Name: made.Name()}); !errors.Is(err, cluster.ErrExists) {
			t.Errorf("created again: %v", err)
		}
	})
	t.Run("who remembers other clusters opens it as somebody else's, and does not delete it", func(t *testing.T) {
		other := newProvider(t, Options{State: t.TempDir(), Image: options.Image})
		opened, err := other.Open(t.Context(), made.Name())
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(opened.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("its kubeconfig: %v, %v", info, err)
		}
		if removed, err := other.Cleanup(t.Context()); err != nil || len(removed) > 0 {
			t.Errorf("cleanup removed %v, %v", removed, err)
		}
		if err := other.Delete(t.Context(), made.Name()); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("delete: %v", err)
		}
		if _, err := other.Create(t.Context(), cluster.Options{Name: made.Name()}); !errors.Is(err, cluster.ErrExists) {
			t.Errorf("create: %v", err)
		}
		if err := opened.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(opened.Kubeconfig()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its kubeconfig is left: %v", err)
		}
		if len(nodesOf(t, provider, made.Name())) != 2 {
			t.Error("its nodes are gone")
		}
	})
	t.Run("its end is noticed", func(t *testing.T) {
		select {
		case <-made.Done():
			t.Fatal("it has ended before:", made.Err())
		default:
		}
		if err := provider.Delete(t.Context(), made.Name()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-made.Done():
			if made.Err() == nil {
				t.Error("it does not say why")
			}
		case <-time.After(patience):
			t.Error("it is not noticed")
		}
		if _, err := provider.Open(t.Context(), made.Name()); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("it can still be opened: %v", err)
		}
	})
}

func TestARealClusterOfAKilledOwnerIsCleanedUp(t *testing.T) {
	options := realOptions(t)
	for _, moment := range []string{"step: " + nodesMade + " false", "step: " + controlPlane + " false", "ready: "} {
		t.Run(moment, func(t *testing.T) {
			name := randomName("mp-test-")
			provider := newProvider(t, options)
			owner := exec.CommandContext(t.Context(), os.Args[0])
			owner.Env = append(os.Environ(), ownerVariable+"="+options.State, ownerVariable+"_NAME="+name)
			out, err := owner.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := owner.Start(); err != nil {
				t.Fatal(err)
			}
			reached := false
			for lines := bufio.NewScanner(out); !reached && lines.Scan(); {
				t.Log(lines.Text())
				reached = strings.HasPrefix(lines.Text(), moment)
			}
			if !reached {
				t.Error("the owner has ended early")
			} else if removed, err := provider.Cleanup(t.Context()); err != nil || len(removed) > 0 {
				t.Errorf("while its owner lives, cleanup removed %v, %v", removed, err)
			}
			_ = owner.Process.Kill()
			_ = owner.Wait()
			began := time.Now()
			removed, err := provider.Cleanup(t.Context())
			t.Log("cleaned up in", time.Since(began))
			if diff := cmp.Diff([]string{name}, removed); err != nil || diff != "" {
				t.Error(err, "removed -want +got:", diff)
			}
			if nodes := nodesOf(t, provider, name); len(nodes) > 0 {
				t.Errorf("left are %v", nodes)
			}
			if names := left(t, provider); len(names) > 0 {
				t.Errorf("left in the state folder are %v", names)
			}
			if running := commands(t, name); len(running) > 0 {
				t.Errorf("still running: %v", running)
			}
		})
	}
}

// commands are those of all processes whose arguments contain text, except this
// one's.
func commands(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), text) {
			found = append(found, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return found
}

func TestAnInterruptedRealCreationLeavesNothing(t *testing.T) {
	provider := newProvider(t, realOptions(t))
	for _, moment := range []string{nodesMade, controlPlane} {
		t.Run(moment, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			name := randomName("mp-test-")
			var began time.Time
			_, err := provider.Create(ctx, cluster.Options{Name: name, Progress: func(e cluster.Event) {
				if e.Component == moment && !e.Done {
					began = time.Now()
					cancel()
				}
			}})
			t.Log("ended in", time.Since(began))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if nodes := nodesOf(t, provider, name); len(nodes) > 0 {
				t.Errorf("left are %v", nodes)
			}
			if names := left(t, provider); len(names) > 0 {
				t.Errorf("left in the state folder are %v", names)
			}
		})
	}
}

func TestTwoRealClustersAreMadeAtOnce(t *testing.T) {
	if os.Getenv(twoVariable) == "" {
		t.Skipf("%s is not set: this takes the memory of two clusters", twoVariable)
	}
	options := realOptions(t)
	for _, name := range []string{"one", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			made := created(t, newProvider(t, options), cluster.Options{})
			t.Log(made.Timings())
			if made.Capabilities().Nodes != 1 {
				t.Errorf("got %+v", made.Capabilities())
			}
		})
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
