package index

import (
	"maps"
	"slices"

	"github.com/meshproof/meshproof/internal/mesh/revision"
)

// commit recomputes the watched ports that were marked, wakes the watchers of
// those whose policy is another, and tells whom it may concern.
func (tx *Tx) commit() {
	x := tx.index
	tx.neglect()
	tx.spread()
	same := comparisons{}
	for c := range tx.cells {
		c.decide(x.winner(c.namespace, c.pod.spec, c.port))
		tx.refresh(c, &same)
	}
	for at := range tx.servers {
		if s := x.server(at); s != nil {
			for _, c := range s.cells {
				tx.refresh(c, &same)
			}
		}
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

// Settle ends what belongs to one event; further ones of the same transaction may
// follow. What Linkerd's index forgets after an event is forgotten, even where the
// next event would have kept it.
func (tx *Tx) Settle() {
	tx.neglect()
	clear(tx.reduced)
	tx.events++
}

// Stamp says what the index is of once the transaction is done.
func (tx *Tx) Stamp(r revision.Revision) { tx.index.stamp = &Stamp{Revision: r} }

// spread prepares what follows from the Servers that were marked: their policy is
// to be computed anew, and where they may select other ports, those that they did
// select and those that they do may have another Server. Other ports of theirs
// keep their Server.
func (tx *Tx) spread() {
	for at := range tx.servers {
		if s := tx.index.server(at); s != nil {
			s.forget()
		}
	}
	for at := range tx.moved {
		s := tx.index.server(at)
		if s == nil {
			continue
		}
		for _, c := range s.cells {
			mark(&tx.cells, c)
		}
		tx.reach(tx.index.namespaces[at.namespace], s.spec)
	}
}

// server is the one at a place, nil if there is none any more.
func (x *Index) server(at place) *server {
	if ns := x.namespaces[at.namespace]; ns != nil {
		return ns.servers[at.name]
	}
	return nil
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

// refresh brings a watched port up to date with the Server that decides on it.
//
// What was changed by one event and changed back by another of the same
// transaction is told again where there are revisions: whoever has it must not be
// led back to what was between, by another replica that is there still.
func (tx *Tx) refresh(c *cell, same *comparisons) {
	x := tx.index
	next := x.snapshot(c.namespace, c.pod.spec, c.port, c.server)
	if next == c.snapshot || same.equal(c.snapshot, next) {
		if tx.events < 2 || x.stamp == nil {
			return
		}
		next = c.snapshot
	}
	c.snapshot = next
	if tx.latest == nil || tx.latest.Snapshot != next {
		tx.latest = &Published{next, x.stamp}
	}
	for _, w := range c.watchers {
		w.publish(tx.latest)
	}
}

// comparisons remembers which snapshots are the same policy: many ports share
// theirs, and change from one to the other together.
type comparisons struct {
	known map[[2]*Snapshot]bool
	// last is what was asked last, for long runs of the same.
	last       [2]*Snapshot
	lastAnswer bool
}

func (c *comparisons) equal(a, b *Snapshot) bool {
	pair := [2]*Snapshot{a, b}
	if pair == c.last {
		return c.lastAnswer
	}
	answer, known := c.known[pair]
	if !known {
		if c.known == nil {
			c.known = map[[2]*Snapshot]bool{}
		}
		answer = a.Server.Equal(&b.Server)
		c.known[pair] = answer
	}
	c.last, c.lastAnswer = pair, answer
	return answer
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
