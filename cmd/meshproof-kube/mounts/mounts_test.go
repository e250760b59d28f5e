package mounts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideVariable marks the test process that may mount.
const insideVariable = "MESHPROOF_MOUNTS_TEST_INSIDE"

// unusable is why nothing can be mounted here.
var unusable string

// TestMain runs the tests again in user and mount namespaces of their own.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		unusable = err.Error()
		os.Exit(m.Run())
	}
}

func requireMounts(t *testing.T) {
	t.Helper()
	if unusable != "" {
		t.Skip("namespaces are unusable here:", unusable)
	}
}

// options are a mount point's, as the kernel lists them.
func options(t *testing.T, target string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 3 && fields[1] == target {
			return fields[2] + " " + fields[3]
		}
	}
	return ""
}

func TestTmpfsHasItsSizeAndGoesAgain(t *testing.T) {
	requireMounts(t)
	m, target := New(), t.TempDir()
	if err := m.Mount("tmpfs", target, "tmpfs", []string{"size=65536", "noexec"}); err != nil {
		t.Fatal(err)
	}
	if got := options(t, target); !strings.HasPrefix(got, "tmpfs rw,") || !strings.Contains(got, "noexec") || !strings.Contains(got, "size=64k") {
		t.Errorf("mounted as %q", got)
	}
	for range 2 { // the second time nothing is mounted, which is no error
		if err := m.Unmount(target); err != nil {
			t.Error(err)
		}
	}
	if got := options(t, target); got != "" {
		t.Errorf("still mounted as %q", got)
	}
}

func TestReadOnlyBindMountIsReadOnly(t *testing.T) {
	requireMounts(t)
	m, source, target := New(), t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.MountSensitive(source, target, "", []string{"bind"}, []string{"ro"}); err != nil {
		t.Fatal(err)
	}
	defer m.Unmount(target)
	if data, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(data) != "text" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := os.WriteFile(filepath.Join(target, "file"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v", err)
	}
}

func TestFailureNamesTheMount(t *testing.T) {
	requireMounts(t)
	err := New().Mount("nothing", "/nowhere", "tmpfs", nil)
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error: %v", err)
	}
}
