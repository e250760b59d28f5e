package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/internal/cluster"
)

var _ cluster.Inspector = (*Cluster)(nil)

// clockTick is the unit of processor time in /proc, the same on every platform
// that Go runs on.
const clockTick = 10 * time.Millisecond

// Processes implements cluster.Inspector: the first process and everything
// below it. Orphans are the first process' own children, so nothing that lives
// in the cluster is anywhere else.
func (c *Cluster) Processes() ([]cluster.Process, error) {
	all, err := readProcesses()
	if err != nil {
		return nil, fmt.Errorf("list processes of cluster %s: %w", c.record.Name, err)
	}
	first := all[c.record.PID]
	if first.StartTime != c.record.StartTime {
		return nil, fmt.Errorf("list processes of cluster %s: its first one, %d, has ended: %w", c.record.Name, c.record.PID, fs.ErrNotExist)
	}
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	var found []cluster.Process
	for next := []int{c.record.PID}; len(next) > 0; {
		p := all[next[0]]
		next = append(next[1:], children[p.PID]...)
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID))
		if err != nil || len(command) == 0 {
			continue // it has ended
		}
		p.Command = strings.Split(string(bytes.TrimSuffix(command, []byte{0})), "\x00")
		found = append(found, p.Process)
	}
	return found, nil
}

// process is a line of the machine's list.
type process struct {
	cluster.Process
	parent int
}

// readProcesses lists the machine's processes by their numbers, without their
// commands.
func readProcesses() (map[int]process, error) {
	directory, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	names, err := directory.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		// Counted from the end of the second field, the name, which may hold
		// anything.
		fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		const parent, user, system, start = 4 - 3, 14 - 3, 15 - 3, 22 - 3
		if len(fields) <= start {
			continue
		}
		number := func(field int) int64 { n, _ := strconv.ParseInt(fields[field], 10, 64); return n }
		all[pid] = process{parent: int(number(parent)), Process: cluster.Process{PID: pid, StartTime: uint64(number(start)),
			CPU: time.Duration(number(user)+number(system)) * clockTick}}
	}
	return all, nil
}

// Memory implements cluster.Inspector. The kernel lets the user who made the
// cluster's user namespace read it.
func (c *Cluster) Memory(p cluster.Process) (cluster.Memory, error) {
	path := fmt.Sprintf("/proc/%d/smaps_rollup", p.PID)
	data, err := os.ReadFile(path)
	if errors.Is(err, unix.ESRCH) || err == nil && startTime(p.PID) != p.StartTime {
		err = fs.ErrNotExist
	}
	if err != nil {
		return cluster.Memory{}, fmt.Errorf("read memory of process %d: %w", p.PID, err)
	}
	// Lines such as "Pss:     7872 kB".
	var m cluster.Memory
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		target := map[string]*int64{"Rss": &m.RSS, "Pss": &m.PSS}[name]
		if target == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return cluster.Memory{}, fmt.Errorf("read %s: %q: %w", path, strings.TrimSpace(line), err)
		}
		*target = kilobytes << 10
	}
	return m, nil
}
