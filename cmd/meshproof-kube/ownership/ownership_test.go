package ownership

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestOwnershipIsPretended runs itself in a user namespace with one user, where
// giving a file away fails until it is pretended.
func TestOwnershipIsPretended(t *testing.T) {
	if os.Getenv("MESHPROOF_TEST_SINGLE_UID") == "" {
		command := exec.Command("/proc/self/exe", "-test.run=^TestOwnershipIsPretended$", "-test.v")
		command.Env = append(os.Environ(), "MESHPROOF_TEST_SINGLE_UID=1")
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		if err := command.Start(); err != nil {
			t.Skipf("no user namespaces here: %v", err)
		}
		if err := command.Wait(); err != nil {
			t.Fatalf("in a namespace with one user: %v", err)
		}
		return
	}
	if single, err := SingleUID(); err != nil || !single {
		t.Fatalf("SingleUID = %v, %v in a namespace with one user", single, err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(file, 2102, 0); err == nil {
		t.Fatal("a user that does not exist here can own a file: there is nothing to pretend")
	}
	if err := Pretend(); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(file, 2102, 0); err != nil {
		t.Errorf("Lchown = %v, want it to be pretended", err)
	}
	if err := os.Chown(file, 2102, 0); err != nil {
		t.Errorf("Chown = %v, want it to be pretended", err)
	}
	if err := os.Remove(file); err != nil {
		t.Errorf("other calls must not be touched: %v", err)
	}
}
