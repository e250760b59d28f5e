package index

import (
	"maps"
	"slices"
)

// commit recomputes the watched ports that were marked, wakes the watchers of
// those whose policy is another, and tells whom it may concern.
func (tx *Tx) commit() {
	x := tx.index
	tx.neglect()
	tx.spread()
	same := map[[2]*Snapshot]bool{}
	for c := range tx.cells {
		x.recompute(c, same)
	}
	for name := range tx.touched {
		if ns := x.namespaces[name]; ns != nil && ns.empty() {
			delete(x.namespaces, name)
		}
	}
	if len(tx.touched) > 0 && x.concerned != nil {
		x.concerned(slices.Collect(maps.Keys(tx.touched)))
	}
}

// spread marks the watched ports that depend on the Servers that were marked.
func (tx *Tx) spread() {
	x := tx.index
	for at := range tx.servers {
		ns := x.namespaces[at.namespace]
		if ns == nil || ns.servers[at.name] == nil {
			continue
		}
		s := ns.servers[at.name]
		s.forget()
		for c := range s.cells {
			mark(&tx.cells, c)
		}
	}
	for at := range tx.moved {
		if ns := x.namespaces[at.namespace]; ns != nil && ns.servers[at.name] != nil {
			tx.reach(ns, ns.servers[at.name].spec)
		}
	}
}

// reach marks the watched ports that the Server selects.
func (tx *Tx) reach(ns *namespace, spec *ServerSpec) {
	for name := range ns.ways.watched.fulfilling(spec.Pods) {
		p := ns.pods[name]
		for port, c := range p.cells {
			if spec.selectsPort(p.spec, port, tx.index.config.Dialect) {
				mark(&tx.cells, c)
			}
		}
	}
}

// recompute brings a watched port up to date. same remembers what was found equal
// in this transaction: many ports share their snapshots.
func (x *Index) recompute(c *cell, same map[[2]*Snapshot]bool) {
	c.decide(x.winner(c.namespace, c.pod.spec, c.port))
	next := x.snapshot(c.namespace, c.pod.spec, c.port, c.server)
	if next == c.snapshot {
		return
	}
	pair := [2]*Snapshot{c.snapshot, next}
	equal, known := same[pair]
	if !known {
		equal = next.Server.Equal(&c.snapshot.Server)
		same[pair] = equal
	}
	if equal {
		return
	}
	c.snapshot = next
	for w := range c.watchers {
		w.publish(next)
	}
}

// neglect forgets what Linkerd's index forgets: with the last pod, Server,
// authorization and HTTPRoute of a namespace its GRPCRoutes and rate limits go,
// until they are seen again.
func (tx *Tx) neglect() {
	if tx.index.config.Dialect.StatusAtOnce {
		return
	}
	for name := range tx.reduced {
		ns := tx.index.namespaces[name]
		if ns == nil || !ns.bare() {
			continue
		}
		for _, ref := range slices.Collect(maps.Keys(ns.routes)) {
			if !ref.Kind.http() {
				tx.route(ns, ref, nil)
			}
		}
		for _, limit := range slices.Collect(maps.Keys(ns.limits)) {
			tx.limit(ns, limit, nil)
		}
	}
}
