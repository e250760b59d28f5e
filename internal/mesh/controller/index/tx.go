package index

import "reflect"

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
		if server.selectsPod(p.spec) {
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
		ns.pods[name] = &pod{spec: &spec, cells: map[uint16]*cell{}}
		tx.touch(namespace)
		return
	}
	if !reflect.DeepEqual(*old.spec, spec) {
		old.spec = &spec
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
