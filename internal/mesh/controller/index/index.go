package index

import (
	"errors"
	"reflect"
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
	spec PodSpec
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

// Tx collects changes. Setting what is already there changes nothing. It is
// valid during Update only.
type Tx struct {
	index *Index
	dirty map[string]*dirty
}

// dirty is what may have to be recomputed in one namespace: the step between
// "what changed" and "what is computed". A port depends on its pod, on the
// Servers that select the pod and on the authorizations that name the winner;
// nothing else is looked at, however large the namespace is.
type dirty struct {
	// pods that changed themselves.
	pods map[string]bool
	// servers are the names of those that changed or whose authorizations did.
	servers map[string]bool
	// reach holds what those Servers select, before and after.
	reach map[*ServerSpec]bool
}

func (d *dirty) server(name string, specs ...*ServerSpec) {
	d.servers[name] = true
	for _, spec := range specs {
		if spec != nil {
			d.reach[spec] = true
		}
	}
}

// authorized marks the Servers that the authorization names.
func (d *dirty) authorized(ns *namespace, spec *AuthorizationSpec) {
	if spec == nil {
		return
	}
	if spec.ServerSelector == nil {
		d.server(spec.ServerName, ns.servers[spec.ServerName])
		return
	}
	for name, server := range ns.servers {
		if spec.names(server, name) {
			d.server(name, server)
		}
	}
}

func (d *dirty) reaches(name string, p *pod) bool {
	if d.pods[name] {
		return true
	}
	for server := range d.reach {
		if server.selectsPod(&p.spec) {
			return true
		}
	}
	return false
}

func (tx *Tx) namespace(name string) *namespace {
	ns := tx.index.namespaces[name]
	if ns == nil {
		ns = &namespace{
			pods: map[string]*pod{}, servers: map[string]*ServerSpec{}, authorizations: map[string]*AuthorizationSpec{},
			bystanders: map[string]map[string]string{}, shared: map[shareKey]*Snapshot{},
		}
		tx.index.namespaces[name] = ns
	}
	return ns
}

func (tx *Tx) touch(namespace string) *dirty {
	d := tx.dirty[namespace]
	if d == nil {
		d = &dirty{pods: map[string]bool{}, servers: map[string]bool{}, reach: map[*ServerSpec]bool{}}
		tx.dirty[namespace] = d
	}
	return d
}

// SetPod adds or replaces a meshed pod. Another pod under the same name ends the
// watches of the former.
func (tx *Tx) SetPod(namespace, name string, spec PodSpec) {
	ns := tx.namespace(namespace)
	old := ns.pods[name]
	if old != nil && old.spec.UID != spec.UID {
		tx.DeletePod(namespace, name)
		ns, old = tx.namespace(namespace), nil
	}
	if old == nil {
		ns.pods[name] = &pod{spec: spec, cells: map[uint16]*cell{}}
		tx.touch(namespace)
		return
	}
	if !reflect.DeepEqual(old.spec, spec) {
		old.spec = spec
		tx.touch(namespace).pods[name] = true
	}
}

// DeletePod removes a meshed pod and ends its watches.
func (tx *Tx) DeletePod(namespace, name string) {
	ns, old := tx.index.find(namespace, name)
	if old == nil {
		return
	}
	for _, c := range old.cells {
		for w := range c.watchers {
			close(w.gone)
		}
		c.watchers = nil
	}
	delete(ns.pods, name)
	tx.touch(namespace)
}

// SetServer adds or replaces a Server.
func (tx *Tx) SetServer(namespace, name string, spec ServerSpec) {
	ns := tx.namespace(namespace)
	old := ns.servers[name]
	spec = spec.inForce(old, tx.index.config.Dialect)
	if old != nil && reflect.DeepEqual(*old, spec) {
		return
	}
	ns.servers[name] = &spec
	tx.touch(namespace).server(name, old, &spec)
}

// DeleteServer gives the Server's ports to the next in order, or to the default.
func (tx *Tx) DeleteServer(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil && ns.servers[name] != nil {
		tx.touch(namespace).server(name, ns.servers[name])
		delete(ns.servers, name)
	}
}

// SetAuthorization adds or replaces a ServerAuthorization.
func (tx *Tx) SetAuthorization(namespace, name string, spec AuthorizationSpec) {
	ns := tx.namespace(namespace)
	old := ns.authorizations[name]
	spec = spec.inForce(old, tx.index.config.Dialect)
	if old != nil && reflect.DeepEqual(*old, spec) {
		return
	}
	ns.authorizations[name] = &spec
	d := tx.touch(namespace)
	d.authorized(ns, old)
	d.authorized(ns, &spec)
}

// DeleteAuthorization withdraws what the ServerAuthorization granted.
func (tx *Tx) DeleteAuthorization(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil && ns.authorizations[name] != nil {
		tx.touch(namespace).authorized(ns, ns.authorizations[name])
		delete(ns.authorizations, name)
	}
}

// SetBystander adds or replaces the labels of a pod without a proxy.
func (tx *Tx) SetBystander(namespace, name string, labels map[string]string) {
	ns := tx.namespace(namespace)
	if old, known := ns.bystanders[name]; !known || !reflect.DeepEqual(old, labels) {
		ns.bystanders[name] = labels
		tx.touch(namespace)
	}
}

// DeleteBystander removes a pod without a proxy.
func (tx *Tx) DeleteBystander(namespace, name string) {
	if ns := tx.index.namespaces[namespace]; ns != nil {
		if _, known := ns.bystanders[name]; known {
			delete(ns.bystanders, name)
			tx.touch(namespace)
		}
	}
}

// SetNamespace adds or replaces what is known of a Namespace object.
func (tx *Tx) SetNamespace(name string, spec NamespaceSpec) {
	if tx.index.namespaces[name] == nil && len(spec.Problems) == 0 {
		return
	}
	ns := tx.namespace(name)
	if !reflect.DeepEqual(ns.object, spec) {
		ns.object = spec
		tx.touch(name)
	}
}

// DeleteNamespace forgets the Namespace object. What is left in the namespace
// stays in force until its own deletion is seen.
func (tx *Tx) DeleteNamespace(name string) { tx.SetNamespace(name, NamespaceSpec{}) }

// commit recomputes the watched ports that may have changed, wakes the watchers
// of those that did, and tells whom it may concern.
func (tx *Tx) commit() {
	changed := make([]string, 0, len(tx.dirty))
	for name, d := range tx.dirty {
		changed = append(changed, name)
		ns := tx.index.namespaces[name]
		for key := range ns.shared {
			if d.servers[key.server] {
				delete(ns.shared, key)
			}
		}
		for podName, p := range ns.pods {
			if len(p.cells) > 0 && d.reaches(podName, p) {
				tx.index.recompute(ns, p)
			}
		}
		if ns.empty() {
			delete(tx.index.namespaces, name)
		}
	}
	if len(changed) > 0 && tx.index.concerned != nil {
		tx.index.concerned(changed)
	}
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
