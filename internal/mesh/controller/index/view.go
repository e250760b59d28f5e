package index

import (
	"fmt"
	"maps"
	"slices"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// view is what is known of a namespace at one moment, to be looked at without a
// lock: the specs themselves are never changed.
type view struct {
	dialect        api.Dialect
	pods           map[string]*PodSpec
	servers        map[string]*ServerSpec
	authorizations map[string]*AuthorizationSpec
	policies       map[string]*PolicySpec
	meshTLS        map[string]*MeshTLSSpec
	networks       map[string]*NetworksSpec
	routes         map[Reference]*RouteSpec
	limits         map[string]*RateLimitSpec
	bystanders     map[string]map[string]string
	object         NamespaceSpec
	// absent are the objects of any namespace that are mentioned here and do not
	// exist, and unusable those that exist and count for nothing.
	absent, voided map[mention]bool
	// selecting remembers the Servers that select pods with given labels; the pods
	// of one workload share theirs.
	selecting map[string][]string
}

func (x *Index) view(name string) (*view, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns := x.namespaces[name]
	if ns == nil {
		return nil, false
	}
	v := &view{
		dialect: x.config.Dialect, servers: make(map[string]*ServerSpec, len(ns.servers)), authorizations: maps.Clone(ns.authorizations),
		policies: maps.Clone(ns.policies), meshTLS: maps.Clone(ns.meshTLS), networks: maps.Clone(ns.networks),
		routes: maps.Clone(ns.routes), limits: maps.Clone(ns.limits),
		bystanders: maps.Clone(ns.bystanders), object: ns.object, absent: map[mention]bool{}, voided: map[mention]bool{},
		pods: make(map[string]*PodSpec, len(ns.pods)), selecting: map[string][]string{},
	}
	for serverName, s := range ns.servers {
		v.servers[serverName] = s.spec
	}
	for podName, p := range ns.pods {
		v.pods[podName] = p.spec
	}
	for _, spec := range ns.authorizations {
		v.look(x, spec.accounts)
	}
	for _, spec := range ns.policies {
		v.look(x, spec.mentions())
	}
	for _, spec := range ns.meshTLS {
		v.look(x, spec.named)
	}
	for _, spec := range ns.limits {
		v.look(x, spec.clients)
	}
	return v, true
}

// look notes which of the mentioned objects are not there.
func (v *view) look(x *Index, all []mention) {
	for _, m := range all {
		ns := x.namespaces[m.namespace]
		exists, usable := false, true
		switch {
		case m.kind == api.NamespaceKind:
			exists = x.existing[m.name]
		case m.kind == api.ServiceAccountKind:
			exists = !x.accountsKnown || ns != nil && ns.accounts[m.name]
		case ns == nil:
		case m.kind == api.MeshTLSAuthenticationKind:
			spec := ns.meshTLS[m.name]
			exists, usable = spec != nil, spec != nil && spec.usable()
		case m.kind == api.NetworkAuthenticationKind:
			spec := ns.networks[m.name]
			exists, usable = spec != nil, spec != nil && spec.usable()
		}
		if !exists {
			v.absent[m] = true
		} else if !usable {
			v.voided[m] = true
		}
	}
}

// serverFacts is what pods tell about a Server that selects them.
type serverFacts struct {
	// unproxied are selected pods without a proxy.
	unproxied []string
	// lacking are selected pods that do not declare the port, where that matters.
	lacking []string
	// ceded says which ports others decide.
	ceded []string
}

// facts goes once over all pods.
func (v *view) facts() map[string]serverFacts {
	facts := map[string]serverFacts{}
	// declared are Servers whose named port some selected pod declares: a name is
	// expected of some of them only, it is how one Server covers the pods that
	// have such a port.
	declared := map[string]bool{}
	for podName, p := range v.pods {
		deciding := map[uint16]string{}
		candidates := v.selectingPod(p.Labels)
		for _, name := range candidates {
			server, f := v.servers[name], facts[name]
			ports := v.ports(server, p)
			switch {
			case server.Port == PortReference{}:
				// It cannot be understood, which is another finding.
			case len(ports) > 0 && server.Port.Number == 0:
				declared[name] = true
			case len(ports) == 0:
				f.lacking = append(f.lacking, podName)
				facts[name] = f
			}
			for _, port := range ports {
				if winner, taken := deciding[port]; !taken || server.before(name, v.servers[winner], winner) {
					deciding[port] = name
				}
			}
		}
		for _, name := range candidates {
			for _, port := range v.ports(v.servers[name], p) {
				if winner := deciding[port]; winner != name {
					f := facts[name]
					f.ceded = append(f.ceded, fmt.Sprintf("%s on port %d of %s", winner, port, podName))
					facts[name] = f
				}
			}
		}
	}
	for podName, labels := range v.bystanders {
		for _, name := range v.selectingPod(labels) {
			f := facts[name]
			f.unproxied = append(f.unproxied, podName)
			facts[name] = f
		}
	}
	for name := range declared {
		f := facts[name]
		f.lacking = nil
		facts[name] = f
	}
	return facts
}

// ports are those of the pod that the Server selects.
func (v *view) ports(server *ServerSpec, p *PodSpec) []uint16 {
	switch {
	case server.Port.Number == 0:
		return p.Named[server.Port.Name]
	case server.selectsPort(p, server.Port.Number, v.dialect):
		return []uint16{server.Port.Number}
	default:
		return nil
	}
}

// selectingPod lists the Servers that select pods with these labels.
func (v *view) selectingPod(labels map[string]string) []string {
	var key []byte
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		key = append(append(append(append(key, name...), 0), labels[name]...), 0)
	}
	names, known := v.selecting[string(key)]
	if !known {
		for name, server := range v.servers {
			if server.Pods != nil && matches(server.Pods, labels) {
				names = append(names, name)
			}
		}
		v.selecting[string(key)] = names
	}
	return names
}
