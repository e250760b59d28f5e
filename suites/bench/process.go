package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program that runs until it is stopped.
type process struct {
	name   string
	cmd    *exec.Cmd
	stderr tail
	ended  chan struct{}
}

// tail keeps the last that was written.
type tail struct{ text []byte }

// tailLength is enough for the reason of an end.
const tailLength = 2 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(len(t.text)-tailLength, 0):]
	return len(p), nil
}

// stopWithin is how long a program may take to end.
const stopWithin = 3 * time.Second

// launch starts a program. When greeting is not nil its first line of output is
// decoded into it before launch returns.
func launch(ctx context.Context, greeting any, env []string, name string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(name), cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	// What kills this process kills its targets.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out io.ReadCloser
	var err error
	if greeting != nil {
		if out, err = p.cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	stop := context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })
	if greeting != nil {
		err = json.NewDecoder(out).Decode(greeting)
	}
	stop()
	go func() { defer close(p.ended); p.cmd.Wait() }()
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("read where %s listens: %w\n%s", p.name, err, p.stderr.text)
	}
	return p, nil
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stopWithin, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
}

// use is what a process and its children have used so far.
type use struct {
	cpu time.Duration
	// resident is memory that is theirs alone or mapped, in bytes.
	resident int64
}

// usageOf sums over the process and its children. The processor time is the
// kernel's sum of what /proc shows as utime and stime, without being rounded to
// hundredths of a second.
func usageOf(pid int) (use, error) {
	var sum use
	for _, pid := range family(pid) {
		var ts unix.Timespec
		if err := unix.ClockGettime(processClock(pid), &ts); err != nil {
			return use{}, fmt.Errorf("read the processor time of %d: %w", pid, err)
		}
		resident, err := residentOf(pid)
		if err != nil {
			return use{}, err
		}
		sum.cpu += time.Duration(ts.Nano())
		sum.resident += resident
	}
	return sum, nil
}

// processClock is the clock of the processor time of a process (see
// clock_getcpuclockid, which is this arithmetic).
func processClock(pid int) int32 {
	const scheduled = 2
	return int32(^pid<<3 | scheduled)
}

func family(pid int) []int {
	all := []int{pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for child := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(child); err == nil {
			all = append(all, family(n)...)
		}
	}
	return all
}

func residentOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, line, found := strings.Cut(string(text), "\nVmRSS:")
	fields := strings.Fields(line)
	if !found || len(fields) == 0 {
		return 0, errors.New("no VmRSS in /proc")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}
