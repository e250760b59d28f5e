package index

import (
	"maps"
	"reflect"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// Tx collects changes. Setting what is already there changes nothing. It is
// valid during Update only.
//
// Each change marks what depends on it: the Servers whose policy it is part of,
// and the watched ports that may have another Server. Nothing is computed before
// the end, and nothing that is not marked is looked at, however much there is.
type Tx struct {
	index *Index
	// servers are those whose policy may be another; moved are those of them that
	// may select other ports, too.
	servers, moved map[place]bool
	// cells may have another Server.
	cells map[*cell]bool
	// touched are the namespaces where findings may be others, and reduced those
	// where something was deleted.
	touched, reduced map[string]bool
	// events counts what has been settled.
	events int
	// latest is what was published last, for long runs of the same.
	latest *Published
}

// place is an object's name in a namespace.
type place struct{ namespace, name string }

func mark[K comparable](set *map[K]bool, key K) {
	if *set == nil {
		*set = map[K]bool{}
	}
	(*set)[key] = true
}

func (tx *Tx) namespace(name string) *namespace {
	ns := tx.index.namespaces[name]
	if ns == nil {
		ns = newNamespace(name)
		tx.index.namespaces[name] = ns
	}
	return ns
}

func (tx *Tx) touch(namespace string) { mark(&tx.touched, namespace) }

// affect marks Servers whose policy may be another.
func (tx *Tx) affect(ns *namespace, servers func(yield func(string) bool)) {
	for name := range servers {
		mark(&tx.servers, place{ns.name, name})
	}
}

// exchange stores what a setter was given. It returns the former value, nil if
// there was none, and whether anything changes; next nil deletes.
func exchange[K comparable, S any](tx *Tx, ns *namespace, all map[K]*S, key K, next *S) (before *S, changed bool) {
	before = all[key]
	switch {
	case next == nil && before == nil, next != nil && before != nil && reflect.DeepEqual(before, next):
		return before, false
	case next == nil:
		delete(all, key)
	default:
		all[key] = next
	}
	tx.touch(ns.name)
	return before, true
}

// SetPod adds or replaces a meshed pod. Another pod under the same name ends the
// watches of the former.
func (tx *Tx) SetPod(namespace, name string, spec PodSpec) {
	ns := tx.namespace(namespace)
	old := ns.pods[name]
	if old != nil && old.spec.UID != spec.UID {
		tx.DeletePod(namespace, name)
		old = nil
	}
	if old == nil {
		ns.pods[name] = &pod{spec: &spec, cells: map[uint16]*cell{}}
		tx.touch(namespace)
		return
	}
	if old.spec.equal(&spec) {
		return
	}
	old.spec = &spec
	tx.touch(namespace)
	if len(old.cells) > 0 {
		ns.ways.watched.set(name, spec.Labels)
	}
	for _, c := range old.cells {
		mark(&tx.cells, c)
	}
}

// DeletePod removes a meshed pod and ends its watches.
func (tx *Tx) DeletePod(namespace, name string) {
	ns, old := tx.index.find(namespace, name)
	if old == nil {
		return
	}
	for _, c := range old.cells {
		for _, w := range c.watchers {
			w.cell = nil
			close(w.changed)
		}
		c.watchers = nil
		tx.index.leave(name, c)
		delete(tx.cells, c)
	}
	delete(ns.pods, name)
	tx.touch(namespace)
	mark(&tx.reduced, namespace)
}

// SetServer adds or replaces a Server.
func (tx *Tx) SetServer(namespace, name string, spec ServerSpec) {
	ns := tx.namespace(namespace)
	old := ns.servers[name]
	var before *ServerSpec
	if old != nil {
		before = old.spec
	}
	spec = spec.inForce(before, tx.index.config.Dialect)
	if old == nil {
		old = &server{shared: map[string]*Snapshot{}, former: map[string]*Snapshot{}}
		ns.servers[name] = old
	} else if reflect.DeepEqual(*before, spec) {
		return
	}
	old.spec = &spec
	ns.ways.selecting.set(spec.Port, name, spec.Pods)
	ns.ways.labelled.set(name, spec.Labels)
	tx.touch(namespace)
	mark(&tx.servers, place{namespace, name})
	if before == nil || !before.selectsAs(&spec) {
		mark(&tx.moved, place{namespace, name})
	}
}

// DeleteServer gives the Server's ports to the next in order, or to the default.
func (tx *Tx) DeleteServer(namespace, name string) {
	ns := tx.index.namespaces[namespace]
	if ns == nil || ns.servers[name] == nil {
		return
	}
	for _, c := range ns.servers[name].cells {
		mark(&tx.cells, c)
	}
	if ns.servers[name].spec.understood() {
		mark(&tx.reduced, namespace)
	}
	delete(ns.servers, name)
	ns.ways.selecting.set(PortReference{}, name, nil)
	ns.ways.labelled.remove(name)
	tx.touch(namespace)
}

// SetBystander adds or replaces the labels of a pod without a proxy.
func (tx *Tx) SetBystander(namespace, name string, labels map[string]string) {
	ns := tx.namespace(namespace)
	if old, known := ns.bystanders[name]; !known || !maps.Equal(old, labels) {
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
	if !tx.index.existing[name] {
		tx.index.existing[name] = true
		tx.mentioned(mention{kind: api.NamespaceKind, name: name})
	}
	tx.setNamespace(name, spec)
}

func (tx *Tx) setNamespace(name string, spec NamespaceSpec) {
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
func (tx *Tx) DeleteNamespace(name string) {
	if tx.index.existing[name] {
		delete(tx.index.existing, name)
		tx.mentioned(mention{kind: api.NamespaceKind, name: name})
	}
	tx.setNamespace(name, NamespaceSpec{})
}
