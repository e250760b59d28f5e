package inbound

import (
	"context"
	"slices"
	"strconv"
)

// PolicyView tells what is in force, for the control port.
type PolicyView struct{ store *store }

// PortView is what is in force on one port.
type PortView struct {
	// Hash names the message in force; "" when no message is.
	Hash string `json:"hash"`
	// Source is controller, default (the proxy's own, only in dialect linkerd) or none (connections are held).
	Source   string `json:"source"`
	Protocol string `json:"protocol"`
	// Server is kind/name.
	Server string `json:"server"`
	// Version counts the messages brought into force on this port since the watch began.
	Version int `json:"version"`
	// Watched says that the controller tells of changes, now.
	Watched bool `json:"watched"`
}

// view waits for the rechecks of open connections: a policy is in force when
// what it does not cover any more has been cut.
func (c *cell) view() (PortView, *snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	snap := c.current.Load()
	v := PortView{Source: snap.source, Version: snap.version, Watched: c.watched.Load()}
	if snap.port != nil {
		v.Hash, v.Protocol, v.Server = snap.port.Hash, snap.port.Protocol.String(), snap.port.Server.String()
	}
	return v, snap
}

// All returns every watched port.
func (p *PolicyView) All() map[string]PortView {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	all := make(map[string]PortView, len(p.store.cells))
	for number, c := range p.store.cells {
		all[strconv.Itoa(int(number))], _ = c.view()
	}
	return all
}

// Await returns the port's view once one of the hashes (any, if none is given)
// is in force; ok is false when ctx ended first. Asking begins a watch of the port.
func (p *PolicyView) Await(ctx context.Context, number uint16, hashes ...string) (v PortView, ok bool) {
	c, err := p.store.acquire(number)
	if err != nil {
		return PortView{Source: sourceNone}, false
	}
	defer p.store.release(c)
	for {
		var snap *snapshot
		v, snap = c.view()
		if snap.port != nil && (len(hashes) == 0 || slices.Contains(hashes, v.Hash)) {
			return v, true
		}
		select {
		case <-snap.superseded:
		case <-ctx.Done():
			return v, false
		}
	}
}
