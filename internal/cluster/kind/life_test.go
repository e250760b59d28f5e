package kind

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshproof/meshproof/internal/cluster"
)

const testImage = "local/node:v1"

// faked is a provider that uses the fake docker of a test.
func faked(t *testing.T) *Provider {
	t.Helper()
	return newProvider(t, Options{Image: testImage, State: t.TempDir()})
}

// left are the clusters that a provider remembers, and whatever else is beside.
func left(t *testing.T, p *Provider) []string {
	t.Helper()
	entries, err := os.ReadDir(string(p.clusters))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, entry := range entries {
		if entry.Name() != ".lock" {
			out = append(out, entry.Name())
		}
	}
	return out
}

func TestWhatStandsInTheWayIsToldInOneLine(t *testing.T) {
	node := []fakeContainer{{ID: "a", Name: "taken-control-plane", Cluster: "taken", Status: "Up 3 minutes"}}
	for _, test := range []struct {
		name  string
		world world
		kind  string // of cluster to create
		want  string
	}{
		{"no daemon", world{Fail: map[string]string{"ps": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"}}, "a",
			"no Docker daemon answers at unix:///var/run/docker.sock (remedy: start it (systemctl start docker), or set DOCKER_HOST to one that runs)"},
		{"no daemon, as newer ones say it", world{Fail: map[string]string{"ps": "failed to connect to the docker API at tcp://10.0.0.1:2375; check if the path is correct and if the daemon is running: dial tcp"}}, "a",
			"no Docker daemon answers at tcp://10.0.0.1:2375 (remedy: start it (systemctl start docker), or set DOCKER_HOST to one that runs)"},
		{"no permission", world{Fail: map[string]string{"ps": `permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.47/containers/json": dial unix /var/run/docker.sock: connect: permission denied`}}, "a",
			"this user may not use docker: permission denied on its socket (remedy: add this user to the group docker and log in again, or run as root)"},
		{"no image", world{}, "a",
			"docker has no node image local/node:v1, and none is pulled (remedy: docker pull local/node:v1, or name one that is there with --kind-image)"},
		{"a port is taken", world{Images: []string{testImage}, Fail: map[string]string{"run": "docker: Error response from daemon: driver failed programming external connectivity on endpoint a-control-plane (1c2): Bind for 127.0.0.1:6443 failed: port is already allocated."}}, "a",
			"a port that the cluster needs on this machine is taken: 127.0.0.1:6443 (remedy: end who listens there, or change apiServerPort or extraPortMappings in the file of --kind-config)"},
		{"a cluster of somebody else's", world{Images: []string{testImage}, Containers: node}, "taken",
			"create cluster taken: a cluster of this name exists that meshproof did not make (kind delete cluster --name taken)"},
		{"not a name", world{}, "No_Name", `create cluster "No_Name": not a name for a cluster: it has up to 50 lower-case letters, digits and dashes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			docker := newFake(t, test.world)
			before := docker.names()
			provider := faked(t)
			_, err := provider.Create(t.Context(), cluster.Options{Name: test.kind})
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			if diff := cmp.Diff(before, docker.names()); diff != "" {
				t.Error("containers -before +after:", diff)
			}
			if names := left(t, provider); len(names) > 0 {
				t.Errorf("left in the state folder: %v", names)
			}
		})
	}
}

func TestErrorsHaveTheirTypes(t *testing.T) {
	var setup *cluster.SetupError
	newFake(t, world{})
	if _, err := faked(t).Create(t.Context(), cluster.Options{}); !errors.As(err, &setup) {
		t.Errorf("a missing image is %T", err)
	}
	newFake(t, world{Images: []string{testImage}, Containers: []fakeContainer{{ID: "a", Cluster: "taken"}}})
	if _, err := faked(t).Create(t.Context(), cluster.Options{Name: "taken"}); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("a cluster that exists is %v", err)
	}
	for _, wanted := range []string{"", "podman", "nonsense"} {
		t.Setenv("PATH", t.TempDir())
		t.Setenv(toolVariable, wanted)
		if _, err := faked(t).Create(t.Context(), cluster.Options{}); !errors.As(err, &setup) || !strings.Contains(err.Error(), wanted) {
			t.Errorf("without %q on PATH: %v", wanted, err)
		}
	}
}

func TestNothingIsPulled(t *testing.T) {
	docker := newFake(t, world{})
	if _, err := faked(t).Create(t.Context(), cluster.Options{}); err == nil {
		t.Fatal("a cluster without an image")
	}
	for _, call := range docker.world().Calls {
		if strings.HasPrefix(call, "pull") || strings.HasPrefix(call, "run") {
			t.Errorf("it asked to %s", call)
		}
	}
}

func TestAnInterruptedCreationLeavesNothing(t *testing.T) {
	docker := newFake(t, world{Images: []string{testImage}, Hang: true, Containers: []fakeContainer{{ID: "other", Name: "other-control-plane", Cluster: "other", Status: "Up 1 second"}}})
	provider := faked(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	because := errors.New("somebody pressed a key")
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		// The fake is another process, which tells through a file.
		for !docker.has("young-control-plane") && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel(because)
	}()
	t.Cleanup(func() { <-watched })
	if _, err := provider.Create(ctx, cluster.Options{Name: "young"}); !errors.Is(err, because) || strings.Contains(err.Error(), "has not ended") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]string{"other-control-plane"}, docker.names()); diff != "" {
		t.Error("containers -want +got:", diff)
	}
	if names := left(t, provider); len(names) > 0 {
		t.Errorf("left in the state folder: %v", names)
	}
}

func TestRetainKeepsWhatDidNotComeUp(t *testing.T) {
	docker := newFake(t, world{Images: []string{testImage}, Fail: map[string]string{"run": "no idea"}})
	provider := newProvider(t, Options{Image: testImage, State: t.TempDir(), Retain: true})
	logs := filepath.Join(t.TempDir(), "logs")
	_, err := provider.Create(t.Context(), cluster.Options{Name: "kept", Logs: logs})
	if err == nil || !strings.Contains(err.Error(), "cluster delete --cluster kind --name kept") {
		t.Errorf("the way to get rid of it is not told: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(logs, outputName)); err != nil || !strings.Contains(string(data), "no idea") {
		t.Errorf("the output is not kept: %q, %v", data, err)
	}
	if removed, err := provider.Cleanup(t.Context()); err != nil || len(removed) > 0 || !docker.has("kept-control-plane") {
		t.Errorf("cleanup removed %v, %v", removed, err)
	}
	if err := provider.Delete(t.Context(), "kept"); err != nil || docker.has("kept-control-plane") || len(left(t, provider)) > 0 {
		t.Errorf("it cannot be deleted: %v, %v", err, docker.names())
	}
}

// remembered makes the folder of a cluster that nobody owns any more.
func remembered(t *testing.T, p *Provider, r record) {
	t.Helper()
	r.Tool = "docker"
	f, lock, err := p.clusters.Reserve(r.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := f.WriteRecord(r); err != nil {
		t.Fatal(err)
	}
}

func TestCleanupRemovesWhatIsOursAndDead(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	node := func(cluster, id string, created time.Time) fakeContainer {
		return fakeContainer{ID: id, Name: cluster + "-control-plane", Cluster: cluster, Status: "Up 1 hour", Created: created}
	}
	for _, test := range []struct {
		name    string
		node    fakeContainer
		record  record
		removed bool // the folder
		gone    bool // the node
	}{
		{"a killed owner's", node("a", "1", now), record{Name: "a", Created: now, Nodes: []string{"1"}}, true, true},
		{"somebody else's of the same name", node("a", "2", now), record{Name: "a", Created: now, Nodes: []string{"1"}}, true, false},
		{"one that was being made", node("a", "1", now), record{Name: "a", Created: now, Wanted: 1}, true, true},
		{"an older one of the same name", node("a", "1", now.Add(-time.Hour)), record{Name: "a", Created: now}, true, false},
		{"a standing one", node("a", "1", now), record{Name: "a", Created: now, Nodes: []string{"1"}, Standing: true}, false, false},
		{"a standing one that somebody has replaced", node("a", "2", now), record{Name: "a", Created: now, Nodes: []string{"1"}, Standing: true}, true, false},
		{"one that we know nothing of", node("b", "2", now), record{Name: "a", Created: now, Nodes: []string{"1"}}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			docker := newFake(t, world{Containers: []fakeContainer{test.node}})
			provider := faked(t)
			remembered(t, provider, test.record)
			removed, err := provider.Cleanup(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(removed, "a"); got != test.removed || got == slices.Contains(left(t, provider), "a") {
				t.Errorf("removed %v, left %v", removed, left(t, provider))
			}
			if got := !docker.has(test.node.Name); got != test.gone {
				t.Errorf("the node is gone: %v, want %v", got, test.gone)
			}
		})
	}
}

func TestCleanupLeavesWhatItsOwnerHolds(t *testing.T) {
	docker := newFake(t, world{Containers: []fakeContainer{{ID: "1", Name: "a-control-plane", Cluster: "a", Status: "Up", Created: time.Now()}}})
	provider := faked(t)
	f, lock, err := provider.clusters.Reserve("a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := f.WriteRecord(record{Name: "a", Tool: "docker", Nodes: []string{"1"}}); err != nil {
		t.Fatal(err)
	}
	if removed, err := provider.Cleanup(t.Context()); err != nil || len(removed) > 0 || !docker.has("a-control-plane") {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestCleanupKeepsARecordThatItCannotActOn(t *testing.T) {
	provider := faked(t)
	for _, test := range []struct {
		name  string
		world world
		host  string
		want  string
	}{
		{"no daemon", world{Fail: map[string]string{"ps": "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"}}, "", "no Docker daemon answers"},
		{"another daemon", world{}, "tcp://10.0.0.1:2375", "with another node provider"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newFake(t, test.world)
			remembered(t, provider, record{Name: "a", Nodes: []string{"1"}})
			t.Setenv("DOCKER_HOST", test.host)
			removed, err := provider.Cleanup(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || len(removed) > 0 {
				t.Errorf("removed %v, error %v", removed, err)
			}
			if diff := cmp.Diff([]string{"a"}, left(t, provider)); diff != "" {
				t.Error("remembered -want +got:", diff)
			}
			if err := provider.clusters.Folder("a").Remove(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWithoutClustersNobodyIsAsked(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	provider := faked(t)
	if removed, err := provider.Cleanup(t.Context()); err != nil || removed != nil {
		t.Errorf("cleanup: %v, %v", removed, err)
	}
	if infos, err := provider.List(t.Context()); err != nil || infos != nil {
		t.Errorf("list: %v, %v", infos, err)
	}
	if err := provider.Delete(t.Context(), "a"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("delete: %v", err)
	}
}

func TestAClusterOfSomebodyElseIsNotDeleted(t *testing.T) {
	docker := newFake(t, world{Containers: []fakeContainer{{ID: "1", Name: "theirs-control-plane", Cluster: "theirs", Status: "Up"}}})
	err := faked(t).Delete(t.Context(), "theirs")
	if !errors.Is(err, cluster.ErrNotFound) || !strings.Contains(err.Error(), "kind delete cluster --name theirs") || !docker.has("theirs-control-plane") {
		t.Errorf("got %v, left %v", err, docker.names())
	}
}

func TestAListTellsWhatRuns(t *testing.T) {
	newFake(t, world{Containers: []fakeContainer{
		{ID: "1", Name: "a-control-plane", Cluster: "a", Status: "Up 2 hours"},
		{ID: "2", Name: "b-control-plane", Cluster: "b", Status: "Exited (137) 1 hour ago"},
		{ID: "3", Name: "theirs-control-plane", Cluster: "theirs", Status: "Up 2 hours"},
	}})
	provider := faked(t)
	for _, r := range []record{{Name: "a", Nodes: []string{"1"}, Standing: true, Server: "https://127.0.0.1:1"}, {Name: "b", Nodes: []string{"2"}}, {Name: "c", Nodes: []string{"4"}}} {
		remembered(t, provider, r)
	}
	got, err := provider.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return provider.clusters.Folder(name).Path(kubeconfigName) }
	want := []cluster.Info{
		{Name: "a", Kind: Kind, Running: true, Standing: true, Server: "https://127.0.0.1:1", Kubeconfig: path("a")},
		{Name: "b", Kind: Kind, Kubeconfig: path("b")}, {Name: "c", Kind: Kind, Kubeconfig: path("c")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:", diff)
	}
}

func TestOpeningTellsWhyNot(t *testing.T) {
	newFake(t, world{Containers: []fakeContainer{
		{ID: "1", Name: "stopped-control-plane", Cluster: "stopped", Status: "Exited (137) 1 hour ago"},
		{ID: "2", Name: "young-control-plane", Cluster: "young", Status: "Up 1 second"},
	}})
	provider := faked(t)
	remembered(t, provider, record{Name: "young", Nodes: []string{"2"}})
	for name, want := range map[string]string{
		"stopped": "does not run", "young": "is being created, or did not come up", "none": "no such cluster", "../up": "no such cluster",
	} {
		if _, err := provider.Open(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestANameThatADeadOwnerHadIsFree(t *testing.T) {
	docker := newFake(t, world{Containers: []fakeContainer{{ID: "1", Name: "a-control-plane", Cluster: "a", Status: "Up"}}})
	provider := faked(t)
	remembered(t, provider, record{Name: "a", Nodes: []string{"1"}})
	// It fails for the image, and has made room by then.
	if _, err := provider.Create(t.Context(), cluster.Options{Name: "a"}); err == nil || errors.Is(err, cluster.ErrExists) {
		t.Errorf("got %v", err)
	}
	if docker.has("a-control-plane") {
		t.Error("the dead owner's node is left")
	}
	docker.change(func(w *world) { w.Containers = []fakeContainer{{ID: "1", Name: "a-control-plane", Cluster: "a"}} })
	remembered(t, provider, record{Name: "a", Nodes: []string{"1"}, Standing: true})
	if _, err := provider.Create(t.Context(), cluster.Options{Name: "a"}); !errors.Is(err, cluster.ErrExists) || !docker.has("a-control-plane") {
		t.Errorf("a standing cluster: %v", err)
	}
}
