package index

import (
	"errors"
	"sync"
)

// ErrNotFound says that no meshed pod of that name is known.
var ErrNotFound = errors.New("unknown pod")

// Index holds all specs and what follows from them. Its methods may be called
// concurrently.
type Index struct {
	config Config

	mu         sync.RWMutex
	namespaces map[string]*namespace
	// concerned is told the namespaces that transactions have changed; see
	// OnChange.
	concerned func(namespaces []string)
}

// namespace is everything that can depend on one another: policy never crosses
// namespaces.
type namespace struct {
	pods           map[string]*pod
	servers        map[string]*ServerSpec
	authorizations map[string]*AuthorizationSpec
	// bystanders are pods without a proxy, kept to tell of Servers that enforce
	// nothing. Values are the pods' labels.
	bystanders map[string]map[string]string
	// object is what is known of the Namespace itself.
	object NamespaceSpec
	// shared holds one snapshot per distinct policy, so that pods with the same
	// policy share it. Any change of a Server or authorization empties it.
	shared map[shareKey]*Snapshot
}

type pod struct {
	// spec is replaced as a whole, never changed.
	spec *PodSpec
	// cells exist for watched ports only. They are created by Watch and removed
	// with their last watcher.
	cells map[uint16]*cell
}

// cell is where the watchers of one pod port meet.
type cell struct {
	snapshot *Snapshot
	watchers map[*Watch]struct{}
}

// New makes an empty index.
func New(config Config) *Index {
	return &Index{config: config, namespaces: map[string]*namespace{}}
}

// Config is what the index was made with.
func (x *Index) Config() Config { return x.config }

// OnChange has f called after each transaction that changed something, with the
// namespaces concerned. f is called with the index locked and must only take
// note. It is set once, before the first transaction.
func (x *Index) OnChange(f func(namespaces []string)) { x.concerned = f }

// Update applies all that change does to the transaction as one step: nobody
// sees a state in between, and each affected port is computed once.
func (x *Index) Update(change func(*Tx)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	tx := &Tx{index: x, dirty: map[string]*dirty{}}
	change(tx)
	tx.commit()
}

// Lookup computes the policy of a pod's port, which need not be declared (W-04).
func (x *Index) Lookup(namespace, name string, port uint16) (*Snapshot, error) {
	// Sharing snapshots writes, hence the full lock; it is held for microseconds.
	x.mu.Lock()
	defer x.mu.Unlock()
	ns, p := x.find(namespace, name)
	if p == nil {
		return nil, ErrNotFound
	}
	if c := p.cells[port]; c != nil {
		return c.snapshot, nil
	}
	return x.snapshot(ns, p, port), nil
}

func (x *Index) find(in, name string) (*namespace, *pod) {
	ns := x.namespaces[in]
	if ns == nil {
		return nil, nil
	}
	return ns, ns.pods[name]
}

func (x *Index) recompute(ns *namespace, p *pod) {
	for port, c := range p.cells {
		next := x.snapshot(ns, p, port)
		if next == c.snapshot {
			continue
		}
		if next.Server.Equal(&c.snapshot.Server) {
			// Nothing changed for this port: keep what is encoded already, and have
			// others find it too.
			ns.shared[x.key(ns, p, port)] = c.snapshot
			continue
		}
		c.snapshot = next
		for w := range c.watchers {
			w.publish(next)
		}
	}
}

func (ns *namespace) empty() bool {
	return len(ns.pods)+len(ns.servers)+len(ns.authorizations)+len(ns.bystanders)+len(ns.object.Problems) == 0
}
