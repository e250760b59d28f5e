package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// insideVariable marks the test process that runs in namespaces of its own.
const insideVariable = "MESHPROOF_NETWORK_TEST_INSIDE"

// unusable is why the tests that need a network of their own cannot run.
var unusable string

// TestMain runs the tests again in new user and network namespaces, where they
// may do everything and nobody is disturbed.
func TestMain(m *testing.M) {
	if os.Getenv(insideVariable) != "" {
		if err := errors.Join(SetupNode(), SetupFilter()); err != nil {
			fmt.Fprintln(os.Stderr, "set up the node's network:", err)
			os.Exit(1)
		}
		goleak.VerifyTestMain(m)
		return
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
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

// requireNetwork skips a test where namespaces are unusable.
func requireNetwork(t *testing.T) {
	t.Helper()
	if unusable != "" {
		t.Skip("namespaces are unusable here:", unusable)
	}
}
