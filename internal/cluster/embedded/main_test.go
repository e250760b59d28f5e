package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
	"github.com/meshproof/meshproof/internal/cluster/state"
)

// The test binary runs in two more roles: as an ordinary user, and as the owner
// of a cluster that is killed.
const (
	ordinaryVariable = "MESHPROOF_TEST_ORDINARY"
	ownerVariable    = "MESHPROOF_TEST_OWNER"
	binVariable      = "MESHPROOF_TEST_BIN"
)

// nobody is the ordinary user that root becomes.
const nobody = 65534

// patience bounds every wait of these tests.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	if role := os.Getenv(ownerVariable); role != "" {
		if err := own(role); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The client library's streams take their time to close, and tell nobody.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/moby/spdystream.(*Connection).shutdown"))
}

// own creates a cluster that belongs to this process, says so and waits for
// orders: "keep" lets it stand, the end of input closes it.
func own(name string) error {
	provider, err := New(os.Getenv(binVariable), "")
	if err != nil {
		return err
	}
	c, err := provider.Create(context.Background(), cluster.Options{Name: name})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		if orders.Text() == "keep" {
			if err := c.Keep(context.Background()); err != nil {
				return err
			}
			fmt.Println("kept")
		}
	}
	return c.Close(context.Background())
}

// bin is the folder with the project's programs. Without it these tests cannot
// run; they build nothing, because Kubernetes takes minutes to build.
func bin(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv(binVariable); dir != "" {
		return dir
	}
	dir, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meshproof", "meshproof-kube", "meshproof-agent", "grpcurl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Skipf("bin/%s is missing: run make build first", name)
		}
	}
	return dir
}

// newProvider returns a provider with a state folder of its own.
func newProvider(t *testing.T) *Provider {
	t.Helper()
	provider, err := New(bin(t), stateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// stateDir is a folder of this test below one that nobody else may enter, as a
// home folder is.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "state")
}

// create creates a cluster that the test's end closes at the latest.
func create(t *testing.T, provider *Provider, options cluster.Options) cluster.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := provider.Create(ctx, options)
	skipUnusable(t, err)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = c.Logs(context.Background(), filepath.Join(os.TempDir(), "meshproof-failed-"+c.Name()))
		}
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// skipUnusable skips the test when the machine refuses namespaces, which is
// found out by having tried.
func skipUnusable(t *testing.T, err error) {
	t.Helper()
	var setup *cluster.SetupError
	if errors.As(err, &setup) && setup.Remedy != "" {
		t.Skip("namespaces are unusable here:", err)
	}
}

// asEveryUser runs body as this user and, for root, as an ordinary one too, in
// a process of its own.
func asEveryUser(t *testing.T, body func(t *testing.T)) {
	if os.Getenv(ordinaryVariable) != "" || os.Geteuid() != 0 {
		t.Run("ordinary user", body)
		return
	}
	t.Run("root", body)
	t.Run("ordinary user", func(t *testing.T) {
		dir := shared(t)
		cmd := exec.Command(filepath.Join(dir, "test"), "-test.run", "^"+strings.Split(t.Name(), "/")[0]+"$", "-test.v", "-test.timeout=5m")
		cmd.Dir = dir
		cmd.Env = []string{"HOME=" + filepath.Join(dir, "home"), "TMPDIR=" + filepath.Join(dir, "home"), "PATH=/nowhere",
			ordinaryVariable + "=1", binVariable + "=" + filepath.Join(dir, "bin")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
		output, err := cmd.CombinedOutput()
		t.Logf("%s", output)
		if err != nil {
			t.Error(err)
		} else if strings.Contains(string(output), "--- SKIP") {
			t.Skip("skipped by the ordinary user")
		}
	})
}

// shared makes a folder that an ordinary user can use, with a home of his own,
// this test binary and the programs.
func shared(t *testing.T) string {
	t.Helper()
	programs := bin(t)
	dir, err := os.MkdirTemp("", "meshproof-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "bin"), 0o755), os.Mkdir(filepath.Join(dir, "home"), 0o700),
		os.Chown(filepath.Join(dir, "home"), nobody, nobody), copyProgram("/proc/self/exe", filepath.Join(dir, "test")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meshproof", "meshproof-kube", "meshproof-agent", "grpcurl"} {
		source, target := filepath.Join(programs, name), filepath.Join(dir, "bin", name)
		if !link(source, target) {
			if err := copyProgram(source, target); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// owner is another process that owns a cluster.
type owner struct {
	t      *testing.T
	cmd    *exec.Cmd
	orders io.WriteCloser
	lines  *bufio.Scanner
}

// startOwner starts a process that creates the named cluster, and waits for it.
func startOwner(t *testing.T, stateDir, name string) *owner {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), ownerVariable+"="+name, binVariable+"="+bin(t), state.DirVariable+"="+stateDir)
	cmd.Stderr = os.Stderr
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := &owner{t, cmd, orders, bufio.NewScanner(output)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	o.expect("ready")
	return o
}

func (o *owner) expect(line string) {
	o.t.Helper()
	if !o.lines.Scan() {
		o.t.Fatalf("the owner ended instead of saying %q", line)
	}
	if got := o.lines.Text(); got != line {
		if strings.Contains(got, "remedy") {
			o.t.Skip("namespaces are unusable here:", got)
		}
		o.t.Fatalf("the owner said %q, want %q", got, line)
	}
}

// members are the processes in a cluster's user namespace and below, by the
// state folder that is their root's.
func members(t *testing.T, pid int) []int {
	t.Helper()
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, entry := range entries {
		var other int
		if _, err := fmt.Sscan(entry.Name(), &other); err != nil {
			continue
		}
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", other)); err == nil && got == want {
			out = append(out, other)
		}
	}
	return out
}

// await waits until none of the processes is there. Their numbers may have
// been given to others, which is told by when those started.
func awaitGone(t *testing.T, pids []int, started map[int]uint64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for _, pid := range pids {
		for started[pid] != 0 && startTime(pid) == started[pid] {
			if time.Now().After(deadline) {
				t.Fatalf("process %d of the cluster is still there", pid)
			}
			_, _ = unix.Poll(nil, 10)
		}
	}
}

func startTimes(pids []int) map[int]uint64 {
	out := map[int]uint64{}
	for _, pid := range pids {
		out[pid] = startTime(pid)
	}
	return out
}

// hostState is everything of the host that a cluster could have changed: its
// kernel settings, its mounts and its network devices. Values that change by
// themselves are left out.
func hostState(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, root := range []string{"/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net", "/proc/sys/fs"} {
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || volatile(path) {
				return nil
			}
			if data, err := os.ReadFile(path); err == nil {
				state[path] = string(data)
			}
			return nil
		})
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	state["mounts"] = string(mounts)
	devices, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(devices), "\n") {
		name, _, _ := strings.Cut(line, ":")
		state["device "+strings.TrimSpace(name)] = "present"
	}
	return state
}

// volatile is true for settings that count or draw lots.
func volatile(path string) bool {
	for _, part := range []string{"/random/", "ns_last_pid", "inode-", "dentry-", "file-nr", "aio-nr", "pty/nr", "nf_conntrack_count", "stat_refresh", "/fs/quota/"} {
		if strings.Contains(path, part) {
			return true
		}
	}
	return false
}
