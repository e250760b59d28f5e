package cri

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/meshproof/meshproof/internal/cluster"
)

// stateOf is the letter that /proc has for what a process does.
func stateOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return after[:1]
}

func TestAContainerIsStoppedAndGoesOn(t *testing.T) {
	inNamespaces(t, func(t *testing.T, r *rig) {
		podID, pod := r.pod()
		id, err := r.tryContainer(podID, pod, func(c *runtimeapi.ContainerConfig) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
		c, err := r.server.container(id)
		if err != nil {
			t.Fatal(err)
		}
		harm, name := r.server.Harm(), c.config.GetMetadata().GetName()
		where := cluster.Pod{Namespace: "ns", Name: "pod"}
		for _, signal := range []syscall.Signal{unix.SIGSTOP, unix.SIGCONT} {
			if err := harm.Signal(where, name, signal); err != nil {
				t.Fatal(err)
			}
			if signal == unix.SIGSTOP { // and so it has stopped
				if state := stateOf(t, c.running().pid); state != "T" {
					t.Errorf("told to stop its state is %s", state)
				}
				continue
			}
			r.eventually("going on", func() bool { return stateOf(t, c.running().pid) != "T" })
		}
		for _, other := range []struct {
			pod       cluster.Pod
			container string
		}{{where, "nobody"}, {cluster.Pod{Namespace: "other", Name: "pod"}, name}} {
			if err := harm.Signal(other.pod, other.container, unix.SIGSTOP); !errors.Is(err, cluster.ErrNotFound) {
				t.Errorf("container %s of pod %s: %v", other.container, other.pod, err)
			}
		}
		if err := harm.Limit(where, name, 3); err != nil {
			t.Fatal(err)
		}
		var limit unix.Rlimit
		if err := unix.Prlimit(c.running().pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil || limit.Cur > 64 || limit.Cur == limit.Max {
			t.Errorf("limited to %d of %d: %v", limit.Cur, limit.Max, err)
		}
		if err := harm.Limit(where, name, -1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Prlimit(c.running().pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil || limit.Cur != limit.Max {
			t.Errorf("limited to %d of %d afterwards: %v", limit.Cur, limit.Max, err)
		}
		network, err := harm.Network(where)
		if err != nil {
			t.Fatal(err)
		}
		network.Close()
	})
}
