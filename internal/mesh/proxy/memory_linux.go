package proxy

import (
	"bufio"
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How the runtime is tuned: a sidecar is one of hundreds on a node and mostly
// idle. One worker, as the mesh's users expect; a small heap that stays small.
const (
	workers  = 1
	gcShare  = 50
	softHeap = 128 << 20
	// trimAfter is how long after the certificate the start-up is taken to be
	// over.
	trimAfter = 3 * time.Second
	// trimEvery is how often a proxy with nothing to do gives back the program's
	// pages, which costs it a fraction of a millisecond. At the first such time,
	// and every collectEvery, it gives back its garbage too, which costs it some.
	trimEvery    = 5 * time.Second
	collectEvery = 12
	// idleShare of a processor is what a proxy with nothing to do uses at most.
	// A busy one is left alone: it would need at once what it had given back.
	idleShare = 0.02
)

// tuneRuntime applies the constants above where the environment says nothing.
func tuneRuntime() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(workers)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcShare)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softHeap)
	}
}

// trimMemory gives back what only the start needed, and from then on what has
// been used since, such as for a new connection to the controller, as soon as
// the proxy is idle.
func trimMemory(ctx context.Context, started <-chan struct{}) {
	select {
	case <-started:
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(trimAfter)
	defer timer.Stop()
	idle := func() bool { return true }
	for quiet := 0; ; {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if !idle() {
			quiet = 0
		} else {
			if quiet%collectEvery == 0 {
				debug.FreeOSMemory() // needs much of the program itself
			}
			dropProgramPages()
			quiet++
		}
		idle = sinceNow()
		timer.Reset(trimEvery)
	}
}

// sinceNow returns a function that says whether the process has been idle since.
func sinceNow() func() bool {
	began, before := time.Now(), processorTime()
	return func() bool {
		return (processorTime() - before).Seconds() <= idleShare*time.Since(began).Seconds()
	}
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0 // never
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// dropProgramPages unmaps the pages of the program file that were touched. One
// file holds every role, and initialising all of their packages maps most of
// it; what the proxy really runs comes back from the page cache at first use.
// Only read-only mappings of the program are touched. Failing changes nothing.
func dropProgramPages() {
	var program unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &program); err != nil {
		return
	}
	inode := strconv.FormatUint(program.Ino, 10)
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[4] != inode || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		low, high, _ := strings.Cut(fields[0], "-")
		from, errFrom := strconv.ParseUint(low, 16, 64)
		to, errTo := strconv.ParseUint(high, 16, 64)
		if errFrom != nil || errTo != nil || to <= from {
			return
		}
		unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED)
	}
}
