package embedded

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/meshproof/meshproof/internal/cluster"
)

// inspect looks at the processes of a cluster with a pod that runs echo.
func inspect(t *testing.T, made cluster.Cluster) {
	c := made.(*Cluster)
	before := members(t, c.record.PID)
	processes, err := c.Processes()
	if err != nil {
		t.Fatal(err)
	}
	after := members(t, c.record.PID)
	// The kernel tells a cluster's processes by their namespace as well.
	for _, pid := range before {
		if slices.Contains(after, pid) && !slices.ContainsFunc(processes, func(p cluster.Process) bool { return p.PID == pid }) {
			t.Errorf("process %d is in the cluster's user namespace and not listed", pid)
		}
	}
	for _, p := range processes {
		if !slices.Contains(before, p.PID) && !slices.Contains(after, p.PID) {
			t.Errorf("process %d (%q) is listed and not in the cluster's user namespace", p.PID, p.Command)
		}
	}
	measured := map[string]bool{}
	for _, p := range processes {
		memory, err := c.Memory(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			t.Errorf("%q: %v", p.Command, err)
			continue
		}
		if memory.PSS <= 0 || memory.PSS > memory.RSS || memory.RSS > 1<<33 {
			t.Errorf("%q holds %+v", p.Command, memory)
		}
		for _, program := range []string{"meshproof node init", "meshproof-kube control-plane", "meshproof-kube kubelet", "meshproof-agent echo"} {
			if strings.Contains(strings.Join(p.Command, " "), program) {
				measured[program] = true
				if strings.HasPrefix(program, "meshproof-kube") && p.CPU == 0 {
					t.Errorf("%s has used no processor time", program)
				}
			}
		}
	}
	if len(measured) != 4 {
		t.Errorf("of the programs that run only these were seen: %v", measured)
	}
	gone := processes[0]
	gone.StartTime++
	if _, err := c.Memory(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a process whose number another one has: %v", err)
	}
}
