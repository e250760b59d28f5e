package cri

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
)

// oomKills is how often this machine's kernel has killed a process for want of
// memory since it started. Without cgroups this is all there is to tell an
// out-of-memory kill from another.
func oomKills() uint64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for scanner := bufio.NewScanner(bytes.NewReader(text)); scanner.Scan(); {
		if value, ok := bytes.CutPrefix(scanner.Bytes(), []byte("oom_kill ")); ok {
			count, _ := strconv.ParseUint(string(value), 10, 64)
			return count
		}
	}
	return 0
}
