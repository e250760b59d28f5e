package cluster

import "time"

// Inspector is a Cluster whose processes run on this machine, so that they can
// be looked at from outside. It is optional: what cannot be looked at goes
// without figures.
type Inspector interface {
	// Processes lists all processes of the cluster: its components' and those
	// of its pods' containers.
	Processes() ([]Process, error)
	// Memory says what a process holds. One that has ended is an error that
	// wraps fs.ErrNotExist.
	Memory(Process) (Memory, error)
}

// Process is one process at the moment it was listed.
type Process struct {
	// PID as this machine sees it, and when the process started in clock ticks
	// after the machine did: together they name one process.
	PID       int
	StartTime uint64
	// Command is its argument vector.
	Command []string
	// CPU is the processor time it has used so far.
	CPU time.Duration
}

// Memory is what one process holds, in bytes.
type Memory struct {
	// RSS counts every page that is mapped and present, shared ones in full:
	// summed over processes of one program it counts that program many times.
	RSS int64
	// PSS counts a page that n processes of the machine share as 1/n, so that
	// the sum over processes is what they hold together.
	PSS int64
}
