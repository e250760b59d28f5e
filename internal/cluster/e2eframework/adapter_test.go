package e2eframework

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/e2e-framework/support"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/providers"
)

const kubeconfig = `
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "https://127.0.0.1:6443"}}]
users: [{name: me, user: {token: t}}]
`

// fake makes clusters that are no more than a kubeconfig.
type fake struct {
	cluster.Provider
	dir     string
	content string
	err     error
	made    []*fakeCluster
}

func (f *fake) Kind() string { return "fake" }

func (f *fake) Create(_ context.Context, options cluster.Options) (cluster.Cluster, error) {
	if f.err != nil {
		return nil, f.err
	}
	c := &fakeCluster{name: options.Name, path: filepath.Join(f.dir, options.Name)}
	f.made = append(f.made, c)
	return c, os.WriteFile(c.path, []byte(f.content), 0o600)
}

type fakeCluster struct {
	cluster.Cluster
	name, path string
	local      bool
	closed     int
}

func (c *fakeCluster) Name() string       { return c.name }
func (c *fakeCluster) Kubeconfig() string { return c.path }
func (c *fakeCluster) Capabilities() cluster.Capabilities {
	return cluster.Capabilities{LocalImages: c.local}
}

func (c *fakeCluster) Close(context.Context) error {
	c.closed++
	return nil
}

// taker is a cluster that takes images, and keeps what it got.
type taker struct {
	*fakeCluster
	got [][]byte
}

func (c *taker) LoadImages(_ context.Context, archives ...string) error {
	for _, path := range archives {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.got = append(c.got, content)
	}
	return nil
}

func TestAClusterIsMadeUsedAndDestroyed(t *testing.T) {
	ctx := t.Context()
	f := &fake{dir: t.TempDir(), content: kubeconfig}
	a := New(f)
	var opted bool
	var k support.E2EClusterProvider = a
	k = k.SetDefaults().WithName("one").WithOpts(func(support.E2EClusterProvider) { opted = true })
	path, err := k.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	generated, err := k.GenerateKubeconfig()
	if want := filepath.Join(f.dir, "one"); path != want || k.GetKubeconfig() != want || generated != want || err != nil {
		t.Errorf("kubeconfigs %q, %q, %q (%v), want %q", path, k.GetKubeconfig(), generated, err, want)
	}
	if got := k.GetKubectlContext(); got != "here" {
		t.Errorf("context %q, want here", got)
	}
	if got := k.KubernetesRestConfig().Host; got != "https://127.0.0.1:6443" {
		t.Errorf("host %q", got)
	}
	if !opted {
		t.Error("an option was not applied")
	}
	if _, err := k.Create(ctx); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("a second Create: %v, want %v", err, cluster.ErrExists)
	}
	for range 2 {
		if err := k.Destroy(ctx); err != nil {
			t.Error(err)
		}
	}
	if len(f.made) != 1 || f.made[0].closed != 1 {
		t.Errorf("%d clusters, the first closed %d times, want each once", len(f.made), f.made[0].closed)
	}
	if k.GetKubeconfig() != "" || k.KubernetesRestConfig() != nil || k.GetKubectlContext() != "" {
		t.Error("a cluster that is destroyed is still known")
	}
}

func TestOneAdapterIsTheTemplateOfSeveralClusters(t *testing.T) {
	f := &fake{dir: t.TempDir(), content: kubeconfig}
	a := New(f)
	one := a.WithName("one")
	if _, err := one.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := a.WithName("two")
	if _, err := two.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := two.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if one.GetKubeconfig() != filepath.Join(f.dir, "one") || f.made[0].closed != 0 {
		t.Error("the first cluster ended with the second")
	}
	if a.WithName("one") != one {
		t.Error("the name that a cluster has makes another one")
	}
}

func TestWhatMeansNothingIsRefused(t *testing.T) {
	ctx := t.Context()
	f := &fake{dir: t.TempDir(), content: kubeconfig}
	for what, create := range map[string]func() (string, error){
		"arguments":     func() (string, error) { return New(f).Create(ctx, "--image", "x") },
		"version":       func() (string, error) { return New(f).WithVersion("v1.2.3").Create(ctx) },
		"configuration": func() (string, error) { return New(f).CreateWithConfig(ctx, "kind.yaml") },
	} {
		if _, err := create(); err == nil {
			t.Errorf("%s for a provider that has no such thing is accepted", what)
		}
	}
	if len(f.made) != 0 {
		t.Errorf("%d clusters were made on the way", len(f.made))
	}
	if err := New(f).ExportLogs(ctx, t.TempDir()); !errors.Is(err, errNoCluster) {
		t.Errorf("logs of no cluster: %v", err)
	}
	if err := New(f).WaitForControlPlane(ctx, nil); !errors.Is(err, errNoCluster) {
		t.Errorf("the control plane of no cluster: %v", err)
	}
}

func TestAClusterThatCannotBeUsedIsGivenBack(t *testing.T) {
	f := &fake{dir: t.TempDir(), content: "no: kubeconfig: at all"}
	a := New(f)
	if _, err := a.WithName("one").Create(t.Context()); err == nil {
		t.Error("a kubeconfig that cannot be read is accepted")
	}
	if f.made[0].closed != 1 || a.Cluster() != nil {
		t.Errorf("the cluster was closed %d times, want once", f.made[0].closed)
	}
	f.err = &cluster.SetupError{Cause: "no daemon"}
	if _, err := New(f).Create(t.Context()); !errors.Is(err, f.err) {
		t.Errorf("error %v, want the provider's own", err)
	}
}

func TestSettingsReachTheProvider(t *testing.T) {
	var got Settings
	a := NewFrom(func(s Settings) (cluster.Provider, error) {
		got = s
		return nil, errors.New("no more is asked")
	})
	_, _ = a.WithVersion("v1.35.0").WithPath("/bin").CreateWithConfig(t.Context(), "kind.yaml")
	if want := (Settings{Version: "v1.35.0", Programs: "/bin", Config: "kind.yaml"}); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	for version, want := range map[string]string{"v1.35.0": "kindest/node:v1.35.0", "mine:1": "mine:1", "r.test/node@sha256:0": "r.test/node@sha256:0"} {
		if got := nodeImage(version); got != want {
			t.Errorf("the image of %s is %s, want %s", version, got, want)
		}
	}
	var wrong *cluster.OptionError
	if _, err := Choice(providers.Choice{Kind: "nonsense"}).Create(t.Context()); !errors.As(err, &wrong) {
		t.Errorf("error %v, want that there is no such kind of cluster", err)
	}
}

func TestImagesComeFromArchives(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	plain, zipped := filepath.Join(dir, "images.tar"), filepath.Join(dir, "images.tar.gz")
	content := []byte("an archive")
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	if _, err := w.Write(content); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{plain: content, zipped: compressed.Bytes()} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &taker{fakeCluster: &fakeCluster{name: "one"}}
	a := &Adapter{cluster: c}
	t.Setenv("TMPDIR", t.TempDir())
	for _, path := range []string{plain, zipped} {
		if err := a.LoadImageArchive(ctx, path); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([][]byte{content, content}, c.got); diff != "" {
		t.Errorf("what was loaded (-want +got):\n%s", diff)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
		t.Errorf("%v stays behind", left)
	}
	if err := a.LoadImageArchive(ctx, filepath.Join(dir, "none.tar")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that the file is not there", err)
	}
}

func TestImagesThatCannotBeLoadedSaySo(t *testing.T) {
	ctx := t.Context()
	for name, test := range map[string]struct {
		cluster cluster.Cluster
		image   string
		want    string // empty: it is there
	}{
		"ours, on a cluster that has them":  {&fakeCluster{local: true}, "meshproof/agent:dev", ""},
		"another, on such a cluster":        {&fakeCluster{local: true}, "nginx:latest", "LoadImageArchive"},
		"ours, on a cluster that pulls":     {&fakeCluster{name: "far"}, "meshproof/agent:dev", "registry"},
		"another, on a cluster that loads":  {&taker{fakeCluster: &fakeCluster{}}, "nginx:latest", "LoadImageArchive"},
		"ours, without programs to make it": {&taker{fakeCluster: &fakeCluster{}}, "meshproof/agent:dev", "meshproof-agent"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Adapter{cluster: test.cluster, settings: Settings{Programs: t.TempDir()}}
			err := a.LoadImage(ctx, test.image)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	local := &Adapter{cluster: &fakeCluster{local: true}}
	if err := local.LoadImageArchive(ctx, "any.tar"); err == nil {
		t.Error("an archive is accepted that cannot be loaded")
	}
	if err := local.LoadImage(ctx, "meshproof/agent:dev", "--nodes"); err == nil {
		t.Error("arguments are accepted")
	}
}
