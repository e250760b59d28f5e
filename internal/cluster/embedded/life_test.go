package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/embedded/layout"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

func TestClosedClusterLeavesNothingAndHasChangedNothing(t *testing.T) {
	asEveryUser(t, func(t *testing.T) {
		provider := newProvider(t)
		before := hostState(t)
		var told []string
		c := create(t, provider, cluster.Options{Progress: func(e cluster.Event) {
			if e.Done {
				told = append(told, e.Component)
			}
		}})
		t.Log("timings:", c.Timings())
		for _, component := range []string{"namespaces", "API server", "node", "DNS"} {
			if !slices.Contains(told, component) {
				t.Errorf("nobody was told that %s is ready, only %q", component, told)
			}
		}
		f := provider.clusters.Folder(c.Name())
		r, err := readRecord(f)
		if err != nil {
			t.Fatal(err)
		}
		pids := members(t, r.PID)
		if len(pids) < 4 {
			t.Errorf("the cluster has the processes %v only", pids)
		}
		started := startTimes(pids)
		if info, err := os.Stat(c.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("kubeconfig: %v, %v", info, err)
		}
		if diff := cmp.Diff(before, hostState(t)); diff != "" {
			t.Error("the host while the cluster stands (-before +now):", diff)
		}
		if err := c.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, pids, started)
		if diff := cmp.Diff(before, hostState(t)); diff != "" {
			t.Error("the host afterwards (-before +after):", diff)
		}
		if _, err := os.Stat(string(f)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the cluster's folder is still there: %v", err)
		}
		if c.Err() == nil {
			t.Error("a cluster that has ended does not say why")
		}
	})
}

func TestClusterDiesWithItsOwnerAndCleanupRemovesItsFolderOnly(t *testing.T) {
	asEveryUser(t, func(t *testing.T) {
		provider := newProvider(t)
		dir := filepath.Dir(string(provider.clusters))
		other := create(t, provider, cluster.Options{Name: "other"})
		o := startOwner(t, dir, "orphan")
		r, err := readRecord(provider.clusters.Folder("orphan"))
		if err != nil {
			t.Fatal(err)
		}
		pids := members(t, r.PID)
		started := startTimes(pids)
		bystander := filepath.Join(dir, "clusters", "Not_A_Cluster")
		if err := os.Mkdir(bystander, 0o755); err != nil {
			t.Fatal(err)
		}
		if removed, err := provider.Cleanup(context.Background()); err != nil || len(removed) > 0 {
			t.Errorf("cleanup beside two clusters that run removed %q, error %v", removed, err)
		}

		if err := o.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, pids, started)

		removed, err := provider.Cleanup(context.Background())
		if err != nil || !slices.Equal(removed, []string{"orphan"}) {
			t.Errorf("cleanup removed %q, error %v", removed, err)
		}
		for _, dir := range []string{string(provider.clusters.Folder("other")), bystander} {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("after cleanup: %v", err)
			}
		}
		if err := other.Err(); err != nil {
			t.Error("the other cluster has ended:", err)
		}
	})
}

func TestKeptClusterOutlivesItsOwnerUntilItIsDeleted(t *testing.T) {
	asEveryUser(t, func(t *testing.T) {
		provider := newProvider(t)
		o := startOwner(t, filepath.Dir(string(provider.clusters)), "kept")
		if _, err := o.orders.Write([]byte("keep\n")); err != nil {
			t.Fatal(err)
		}
		o.expect("kept")
		r, err := readRecord(provider.clusters.Folder("kept"))
		if err != nil {
			t.Fatal(err)
		}
		pids := members(t, r.PID)
		started := startTimes(pids)
		if err := o.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = o.cmd.Wait()
		if removed, err := provider.Cleanup(context.Background()); err != nil || len(removed) > 0 {
			t.Errorf("cleanup removed %q, error %v", removed, err)
		}
		clusters, err := provider.List(context.Background())
		if err != nil || len(clusters) != 1 || !clusters[0].Running || !clusters[0].Standing {
			t.Fatalf("clusters: %+v, error %v", clusters, err)
		}
		c, err := provider.Open(context.Background(), "kept")
		if err != nil {
			t.Fatal(err)
		}
		ping(t, c)
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
		ping(t, c) // it was only given back
		if err := provider.Delete(context.Background(), "kept"); err != nil {
			t.Fatal(err)
		}
		awaitGone(t, pids, started)
		if _, err := provider.Open(context.Background(), "kept"); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("open after delete: %v", err)
		}
		if err := provider.Delete(context.Background(), "kept"); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("delete after delete: %v", err)
		}
	})
}

func TestClusterEndsWithAnyOfItsComponentsAndSaysWhich(t *testing.T) {
	provider := newProvider(t)
	c := create(t, provider, cluster.Options{})
	r, err := readRecord(provider.clusters.Folder(c.Name()))
	if err != nil {
		t.Fatal(err)
	}
	pids := members(t, r.PID)
	started := startTimes(pids)
	killed := false
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), "\x00kubelet\x00") {
			killed = unix.Kill(pid, unix.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatal("there is no kubelet to kill")
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the cluster lives on without a kubelet")
	}
	awaitGone(t, pids, started)
	var setup *cluster.SetupError
	if err := c.Err(); !errors.As(err, &setup) || !strings.Contains(err.Error(), "kubelet was ended by signal killed") {
		t.Errorf("the cluster ended because of %v", err)
	}
}

func TestTwoClustersAtOnce(t *testing.T) {
	provider := newProvider(t)
	var creating sync.WaitGroup
	clusters, failures := make([]cluster.Cluster, 2), make([]error, 2)
	for i, name := range []string{"one", "two"} {
		creating.Go(func() {
			clusters[i], failures[i] = provider.Create(context.Background(), cluster.Options{Name: name})
		})
	}
	creating.Wait()
	for i, c := range clusters {
		skipUnusable(t, failures[i])
		if failures[i] != nil {
			t.Fatal(failures[i])
		}
		ping(t, c)
		defer c.Close(context.Background())
	}
	if _, err := provider.Create(context.Background(), cluster.Options{Name: "one"}); !errors.Is(err, cluster.ErrExists) {
		t.Errorf("create a third of the first one's name: %v", err)
	}
	ping(t, clusters[0])
}

func TestCancelledCreateLeavesNothing(t *testing.T) {
	provider := newProvider(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := provider.Create(ctx, cluster.Options{Name: "stopped", Progress: func(e cluster.Event) {
		if e.Component == "namespaces" && e.Done {
			cancel()
		}
	}})
	skipUnusable(t, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled create: %v", err)
	}
	if clusters, err := provider.List(context.Background()); err != nil || len(clusters) != 0 {
		t.Errorf("clusters afterwards: %+v, error %v", clusters, err)
	}
}

func TestAClusterThatDiesYoungLeavesItsLogs(t *testing.T) {
	provider := newProvider(t)
	logs := filepath.Join(t.TempDir(), "logs")
	_, err := provider.Create(context.Background(), cluster.Options{Name: "young", Logs: logs, Progress: func(e cluster.Event) {
		if e.Component != "API server" || !e.Done {
			return
		}
		if r, err := readRecord(provider.clusters.Folder("young")); err == nil {
			_ = unix.Kill(r.PID, unix.SIGKILL)
		}
	}})
	if !errors.Is(err, cluster.ErrNotReady) || !strings.Contains(err.Error(), "first process was killed") {
		t.Errorf("error %v does not say what happened", err)
	}
	if entries, err := os.ReadDir(logs); err != nil || len(entries) == 0 {
		t.Errorf("no logs are left: %v", err)
	}
	if _, err := os.Stat(string(provider.clusters.Folder("young"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	provider := newProvider(t)
	for _, name := range []string{"UPPER", "-a", "a-", "a/b", "..", "a.b", strings.Repeat("a", 51)} {
		if _, err := provider.Create(context.Background(), cluster.Options{Name: name}); !errors.Is(err, cluster.ErrName) {
			t.Errorf("create %q: %v", name, err)
		}
		if err := provider.Delete(context.Background(), name); !errors.Is(err, cluster.ErrNotFound) {
			t.Errorf("delete %q: %v", name, err)
		}
	}
}

func TestWhatIsMissingIsToldWithARemedy(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, bin, state, remedy string }{
		{"no programs", t.TempDir(), t.TempDir(), "run make build"},
		{"a state folder that cannot be made", bin(t), filepath.Join(blocked, "state"), "set " + state.DirVariable},
	} {
		provider, err := New(test.bin, test.state)
		if err != nil {
			t.Fatal(err)
		}
		_, err = provider.Create(context.Background(), cluster.Options{})
		var setup *cluster.SetupError
		if !errors.As(err, &setup) || !strings.Contains(err.Error(), "(remedy: "+test.remedy) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestAnErrorNumberIsToldOnce(t *testing.T) {
	got := explainInside(layout.Status{Step: "proc", Failed: "mount proc: " + unix.EPERM.Error(), Errno: int(unix.EPERM)}).Error()
	if !strings.HasPrefix(got, "mount proc: operation not permitted (remedy: ") {
		t.Errorf("got %s", got)
	}
}

// TestUnusableNamespacesAreExplained forbids the command line, running in a
// user namespace of its own, to make more of them.
func TestUnusableNamespacesAreExplained(t *testing.T) {
	const script = `echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" cluster create --name refused`
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to set a limit with:", err)
	}
	cmd := exec.Command(shell, "-c", script, filepath.Join(bin(t), program))
	cmd.Env = []string{state.DirVariable + "=" + t.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	output, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Skip("namespaces are unusable here:", err)
	}
	const setUp = 3
	if exit.ExitCode() != setUp {
		t.Errorf("exit code %d, want %d", exit.ExitCode(), setUp)
	}
	text := strings.TrimSpace(string(output))
	if strings.Contains(text, "\n") || !strings.Contains(text, "namespaces") || !strings.Contains(text, "remedy: raise the number of user namespaces") {
		t.Errorf("output: %s", text)
	}
}
