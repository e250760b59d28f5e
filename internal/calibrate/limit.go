package calibrate

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Limit is what kept a load from being carried. The closed set is listed by Limits.
type Limit string

const (
	// Nothing: it was carried.
	Nothing Limit = "nothing"
	// TheClient used more processor time than anybody else, or called too late while
	// there was some to spare.
	TheClient Limit = "the client"
	// TheTarget used more than anybody else, or gave wrong answers. The target is the
	// application that answers, and who reads what it answered: both are in the
	// process that calibrates.
	TheTarget Limit = "the target"
	// SomethingElse on the machine used more than the client and its target.
	SomethingElse Limit = "something else on this machine"
)

// Limits lists every Limit.
func Limits() []Limit { return []Limit{Nothing, TheClient, TheTarget, SomethingElse} }

// spare is the share of the processors that is left when nobody had to wait for one.
const spare = 0.1

// Limit says what kept the load from being carried. On loopback nothing but processor
// time is scarce, so that it is who used most of it.
func (k Kept) Limit() Limit {
	client, target := float64(k.CPU)*float64(k.Called), float64(k.TargetCPU)*float64(k.Called)
	switch {
	case k.OK():
		return Nothing
	case k.Wrong > 0:
		return TheTarget
	case k.Idle > spare:
		return TheClient
	case k.Others > client && k.Others > target:
		return SomethingElse
	case target > client:
		return TheTarget
	}
	return TheClient
}

// used is the processor time of a client, of the target, of the whole machine, and
// what the machine had not to do.
type used struct{ client, target, machine, idle time.Duration }

// read reads all of it as of now.
func (u *used) read(client int) (err error) {
	if u.client, err = cpuTime(client); err != nil {
		return fmt.Errorf("read the client's processor time: %w", err)
	}
	if u.target, err = cpuTime(os.Getpid()); err != nil {
		return fmt.Errorf("read the target's processor time: %w", err)
	}
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return fmt.Errorf("read the machine's processor time: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	const first, idle, waiting, end = 1, 4, 5, 9 // user to steal; those of guests are in user's
	if len(fields) < end {
		return fmt.Errorf("read the machine's processor time: %q", line)
	}
	for i, field := range fields[first:end] {
		d, err := ticks(field)
		if err != nil {
			return fmt.Errorf("read the machine's processor time: %w", err)
		}
		if u.machine += d; first+i == idle || first+i == waiting {
			u.idle += d
		}
	}
	return nil
}

// spent says what was used between two readings, for so many calls.
func (k *Kept) spent(before, after used) {
	k.CPU = (after.client - before.client) / time.Duration(max(k.Called, 1))
	k.TargetCPU = (after.target - before.target) / time.Duration(max(k.Called, 1))
	machine, idle := after.machine-before.machine, after.idle-before.idle
	if machine > 0 {
		k.Idle = float64(idle) / float64(machine)
	}
	k.Others = float64(max(machine-idle-(after.client-before.client)-(after.target-before.target), 0))
}

// tick is what the kernel counts CPU time in.
const tick = 10 * time.Millisecond

func ticks(text string) (time.Duration, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * tick, err
}

// cpuTime is what a process has used.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the program's name may have blanks
	fields := strings.Fields(rest)
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("%d fields", len(fields))
	}
	inUser, err := ticks(fields[user])
	if err != nil {
		return 0, err
	}
	inSystem, err := ticks(fields[system])
	return inUser + inSystem, err
}
