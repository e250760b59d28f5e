package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/meshproof/meshproof/clients/load"
)

// places are the processors that each part of a measurement runs on, the same
// for every target: the target has one that it shares with nobody. Left to the
// kernel, three busy processes on two processors push each other around, and who
// is pushed differs from second to second. Nil places are anywhere.
type places struct {
	load, sink, target []int
}

// placesOn divides processors. With two of them load and sink share one, as they
// do without a target: what changes between direct and a target is the target
// alone. With one there is nothing to divide.
func placesOn(processors []int) places {
	switch n := len(processors); {
	case n < 2:
		return places{}
	case n == 2:
		return places{load: processors[:1], sink: processors[:1], target: processors[1:]}
	default:
		return places{load: processors[:n-2], sink: processors[n-2 : n-1], target: processors[n-1:]}
	}
}

// processors are those that this process may use.
func processors() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var all []int
	for i := range len(set) * strconv.IntSize {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

func setOf(processors []int) *unix.CPUSet {
	var set unix.CPUSet
	for _, i := range processors {
		set.Set(i)
	}
	return &set
}

// on calls f on a thread that runs on the processors, which the processes that f
// starts inherit.
func on(processors []int, f func() error) error {
	if len(processors) == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("ask for the processors of a thread: %w", err)
	}
	if err := unix.SchedSetaffinity(0, setOf(processors)); err != nil {
		return fmt.Errorf("choose processors: %w", err)
	}
	defer unix.SchedSetaffinity(0, &before)
	return f()
}

// move moves a process to the processors: every thread that it has, and by them
// every one that they start. A thread that is started meanwhile by one that had
// not been moved yet is found by looking once more.
func move(pid int, processors []int) error {
	if len(processors) == 0 {
		return nil
	}
	moved := map[string]bool{}
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return fmt.Errorf("choose processors: %w", err)
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || moved[task.Name()] {
				continue
			}
			// A thread that has ended needs no place.
			if err := unix.SchedSetaffinity(id, setOf(processors)); err != nil && err != unix.ESRCH {
				return fmt.Errorf("choose processors: %w", err)
			}
			moved[task.Name()], again = true, true
		}
	}
	return nil
}

// workers sets how many threads of the load run at a time: as many as it has
// processors, so that none of them waits by spinning where another could work. At
// a fixed rate the thread that keeps time needs one more, which it hardly uses.
func (r *runner) workers(plan load.Plan) {
	n := len(r.where.load)
	if n == 0 {
		return
	}
	if plan.Rate > 0 {
		n++
	}
	runtime.GOMAXPROCS(n)
}
