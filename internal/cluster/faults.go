package cluster

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Harmful is a Cluster whose pods can be harmed from below Kubernetes. It is
// optional: what needs it is skipped where it is missing.
type Harmful interface{ Faults() Faults }

// Faults harms pods: their processes are signalled, and their connections cut,
// swallowed or slowed.
//
// A disturbance stays until it is lifted, or until its pod is gone; a pod that
// takes its place is not disturbed.
type Faults interface {
	// Signal sends a signal to the first process of a pod's container; one that was
	// told to stop has stopped when it returns. Error: ErrNotFound when there is no
	// such container that runs.
	Signal(ctx context.Context, pod Pod, container string, signal syscall.Signal) error
	// Limit bounds how many descriptors the first process of a container may have
	// open: so many more than it has. Negative takes back what was done. Error: as
	// of Signal.
	Limit(ctx context.Context, pod Pod, container string, more int) error
	// Disturb disturbs the connections that a pod makes to a port, in place of
	// how they were disturbed before. Error: ErrNotFound when there is no such pod.
	Disturb(ctx context.Context, pod Pod, disturbance Disturbance) error
	// Calm lifts what disturbs a pod's connections. It may be repeated, and a pod
	// that is gone is no error.
	Calm(ctx context.Context, pod Pod) error
}

// Pod names a pod.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Disturbance is what becomes of the TCP connections that a pod makes to one
// port, at whatever address.
type Disturbance struct {
	// Port that the pod connects to; none with Lossy, which is about everything
	// that the pod sends and receives.
	Port uint16 `json:"port,omitempty"`
	How  How    `json:"how"`
	// Delay of what is sent either way, with Delayed.
	Delay time.Duration `json:"delay,omitempty"`
	// Percent of what is sent and received that is lost, with Lossy.
	Percent int `json:"percent,omitempty"`
	// Every is the time from one cut to the next, with Flapping.
	Every time.Duration `json:"every,omitempty"`
}

// How connections are disturbed.
type How string

const (
	// Refused: open connections are reset, and new ones refused by a reset.
	Refused How = "refused"
	// Swallowed: nothing arrives either way and nobody is told.
	Swallowed How = "swallowed"
	// Delayed: open connections are reset, and what is sent over new ones
	// arrives later, either way.
	Delayed How = "delayed"
	// Flapping: open connections are reset again and again.
	Flapping How = "flapping"
	// Lossy: packets are lost by chance.
	Lossy How = "lossy"
)

// Check says what is wrong with a disturbance.
func (d Disturbance) Check() error {
	switch {
	case (d.Port == 0) != (d.How == Lossy):
		return fmt.Errorf("disturbance %s of port %d", d.How, d.Port)
	case d.How == Lossy && (d.Percent <= 0 || d.Percent >= 100):
		return fmt.Errorf("a loss of %d %% is none, or leaves nothing", d.Percent)
	case !slices.Contains([]How{Refused, Swallowed, Delayed, Flapping, Lossy}, d.How):
		return fmt.Errorf("no such disturbance as %q", d.How)
	case d.How == Delayed && d.Delay <= 0:
		return fmt.Errorf("a delay of %s is none", d.Delay)
	case d.How == Flapping && d.Every <= 0:
		return fmt.Errorf("cuts every %s are too many", d.Every)
	}
	return nil
}
