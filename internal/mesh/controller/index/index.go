package index

import (
	"errors"
	"maps"
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
	// mentions holds who mentions an object of another kind, of any namespace.
	mentions map[mention]map[referrer]bool
	// existing are the Namespaces that exist.
	existing map[string]bool
	// accountsKnown is set once all ServiceAccounts have been seen.
	accountsKnown bool
	// defaults holds one snapshot per distinct policy without a Server, so that
	// ports with the same policy share it.
	defaults map[defaultKey]*Snapshot
	// stamp says what the index is of; nil where nobody has told it.
	stamp *Stamp
	// concerned is told the namespaces that transactions have changed; see
	// OnChange.
	concerned func(namespaces []string)
}

// namespace holds what can depend on one another without being mentioned by its
// namespace: of other namespaces only authentications ever matter.
type namespace struct {
	name           string
	pods           map[string]*pod
	servers        map[string]*server
	authorizations map[string]*AuthorizationSpec
	policies       map[string]*PolicySpec
	meshTLS        map[string]*MeshTLSSpec
	networks       map[string]*NetworksSpec
	routes         map[Reference]*RouteSpec
	limits         map[string]*RateLimitSpec
	// accounts are the ServiceAccounts that exist.
	accounts map[string]bool
	// bystanders are pods without a proxy, kept to tell of Servers that enforce
	// nothing. Values are the pods' labels.
	bystanders map[string]map[string]string
	// object is what is known of the Namespace itself.
	object NamespaceSpec

	ways ways
}

// pod is a meshed pod and those of its ports that are watched.
type pod struct {
	// spec is replaced as a whole, never changed.
	spec *PodSpec
	// cells exist for watched ports only. They are created by Watch and removed
	// with their last watcher.
	cells map[uint16]*cell
}

// server is a Server, what depends on it and what was computed of it.
type server struct {
	// spec is replaced as a whole, never changed.
	spec *ServerSpec
	// cells are the watched ports that the Server decides on, by and large in the
	// order in which they came: what they lead to lies in memory in that order, too.
	cells []*cell
	// shared holds one snapshot per distinct policy, by probe paths, so that pods
	// with the same policy share it. A change of the Server or of what names it
	// empties it; former holds what was there, which is used again where the
	// change made no difference, because it is encoded already.
	shared, former map[string]*Snapshot
}

// forget has everything computed anew.
func (s *server) forget() {
	if len(s.former) >= maxShared {
		clear(s.former)
	}
	maps.Copy(s.former, s.shared)
	clear(s.shared)
}

// cell is where the watchers of one pod port meet.
type cell struct {
	namespace *namespace
	pod       *pod
	port      uint16
	// server is the name of the one that decides, "" if none does; decider is that
	// Server, nil if none does or it is gone, and at the cell's place among its cells.
	server   string
	decider  *server
	at       int
	snapshot *Snapshot
	watchers []*Watch
}

// New makes an empty index.
func New(config Config) *Index {
	return &Index{
		config: config, namespaces: map[string]*namespace{}, mentions: map[mention]map[referrer]bool{},
		existing: map[string]bool{}, defaults: map[defaultKey]*Snapshot{},
	}
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
	tx := &Tx{index: x}
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
	return x.snapshot(ns, p.spec, port, x.winner(ns, p.spec, port)), nil
}

func (x *Index) find(in, name string) (*namespace, *pod) {
	ns := x.namespaces[in]
	if ns == nil {
		return nil, nil
	}
	return ns, ns.pods[name]
}

// enter makes the cell of a port that was not watched.
func (x *Index) enter(ns *namespace, name string, p *pod, port uint16) *cell {
	c := &cell{namespace: ns, pod: p, port: port}
	c.decide(x.winner(ns, p.spec, port))
	c.snapshot = x.snapshot(ns, p.spec, port, c.server)
	if len(p.cells) == 0 {
		ns.ways.watched.set(name, p.spec.Labels)
	}
	p.cells[port] = c
	return c
}

// leave forgets the cell of a port that is no longer watched.
func (x *Index) leave(name string, c *cell) {
	c.decide("")
	delete(c.pod.cells, c.port)
	if len(c.pod.cells) == 0 {
		c.namespace.ways.watched.remove(name)
	}
}

// decide notes which Server the cell depends on.
func (c *cell) decide(server string) {
	next := c.namespace.servers[server]
	c.server = server
	if next == c.decider {
		return
	}
	if former := c.decider; former != nil {
		last := len(former.cells) - 1
		former.cells[c.at], former.cells[last].at = former.cells[last], c.at
		former.cells[last] = nil
		former.cells = former.cells[:last]
	}
	if c.decider = next; next != nil {
		c.at = len(next.cells)
		next.cells = append(next.cells, c)
	}
}

func newNamespace(name string) *namespace {
	return &namespace{
		name: name, pods: map[string]*pod{}, servers: map[string]*server{}, authorizations: map[string]*AuthorizationSpec{},
		policies: map[string]*PolicySpec{}, meshTLS: map[string]*MeshTLSSpec{}, networks: map[string]*NetworksSpec{},
		routes: map[Reference]*RouteSpec{}, limits: map[string]*RateLimitSpec{}, accounts: map[string]bool{},
		bystanders: map[string]map[string]string{}, ways: newWays(),
	}
}

func (ns *namespace) empty() bool {
	return len(ns.pods)+len(ns.servers)+len(ns.authorizations)+len(ns.policies)+len(ns.meshTLS)+len(ns.networks)+
		len(ns.routes)+len(ns.limits)+len(ns.accounts)+len(ns.bystanders)+len(ns.object.Problems) == 0
}

// bare reports whether nothing is left of the kinds that keep Linkerd's index of a
// namespace alive. What never was understood is not in that index.
func (ns *namespace) bare() bool {
	if len(ns.pods) > 0 {
		return false
	}
	for _, s := range ns.servers {
		if s.spec.understood() {
			return false
		}
	}
	for _, authorization := range ns.authorizations {
		if authorization.usable() {
			return false
		}
	}
	for _, policy := range ns.policies {
		if policy.usable() {
			return false
		}
	}
	for ref, route := range ns.routes {
		if ref.Kind.http() && route.understood() {
			return false
		}
	}
	return true
}
