package destination

import (
	"maps"
	"net/netip"
	"reflect"
	"sync"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
	"github.com/meshproof/meshproof/internal/policy/api"
	"github.com/meshproof/meshproof/workloads/mesh/values"
)

// Index is what is known of the cluster. Its methods may be called concurrently.
type Index struct {
	config  values.Values
	dialect api.Dialect
	// opaqueByDefault are the ports of Services that say nothing (D-16).
	opaqueByDefault ports

	mu         sync.Mutex
	namespaces map[string]ports // opaque ports of those that have the annotation
	services   map[key]*service
	slices     map[key]map[string]*slice // by Service, then by name
	pods       map[key]*pod
	servers    map[key]string              // the port's name, "" for a number; the policy index has the rest
	byService  map[netip.Addr]key          // cluster IPs
	byPod      map[netip.Addr]map[key]bool // pod IPs
	watches    map[*Watch]struct{}
	// policy knows Servers and meshed pods, in order to tell which Server decides
	// about a port.
	policy *index.Index
	// noted are the namespaces in which policy has changed during an update.
	noted []string
}

// NewIndex makes an empty index. The error names what is wrong with v.
func NewIndex(v values.Values) (*Index, error) {
	dialect, err := api.ParseDialect(v.Dialect)
	if err != nil {
		return nil, err
	}
	x := &Index{
		config: v, dialect: dialect, opaqueByDefault: parsePorts(v.OpaquePorts),
		namespaces: map[string]ports{}, services: map[key]*service{}, slices: map[key]map[string]*slice{}, pods: map[key]*pod{}, servers: map[key]string{},
		byService: map[netip.Addr]key{}, byPod: map[netip.Addr]map[key]bool{}, watches: map[*Watch]struct{}{},
		policy: index.New(index.Config{
			DefaultPolicy: v.DefaultInboundPolicy, ControlPlaneNamespace: v.ControlPlaneNamespace,
			IdentityDomain: v.IdentityTrustDomain, Dialect: dialect,
		}),
	}
	x.policy.OnChange(func(namespaces []string) { x.noted = append(x.noted, namespaces...) })
	return x, nil
}

// touched is what one change may concern.
type touched struct {
	namespaces map[string]bool
	ips        map[netip.Addr]bool
}

func (t *touched) namespace(name string) { t.namespaces[name] = true }
func (t *touched) addresses(ips []netip.Addr) {
	for _, ip := range ips {
		t.ips[ip] = true
	}
}

// update makes one change and wakes the watches that it may concern.
func (x *Index) update(change func(*touched)) {
	t := &touched{map[string]bool{}, map[netip.Addr]bool{}}
	x.mu.Lock()
	defer x.mu.Unlock()
	change(t)
	for _, name := range x.noted {
		t.namespace(name)
	}
	x.noted = x.noted[:0]
	for w := range x.watches {
		if t.namespaces[w.namespace] || t.ips[w.target.ip] {
			w.wake()
		}
	}
}

func (x *Index) setNamespace(name, opaque string, annotated bool, t *touched) {
	list := parsePorts(opaque)
	old, had := x.namespaces[name]
	if annotated == had && reflect.DeepEqual(old, list) {
		return
	}
	delete(x.namespaces, name)
	if annotated {
		x.namespaces[name] = list
	}
	t.namespace(name)
}

func (x *Index) setService(s *service, t *touched) {
	old := x.services[s.key]
	if reflect.DeepEqual(old, s) {
		return
	}
	if old != nil {
		x.deleteService(s.key, t)
	}
	x.services[s.key] = s
	for _, ip := range s.ips {
		x.byService[ip] = s.key
	}
	t.namespace(s.namespace)
	t.addresses(s.ips)
}

func (x *Index) deleteService(k key, t *touched) {
	old := x.services[k]
	if old == nil {
		return
	}
	delete(x.services, k)
	for _, ip := range old.ips {
		// The address may already belong to another Service.
		if x.byService[ip] == k {
			delete(x.byService, ip)
		}
	}
	t.namespace(k.namespace)
	t.addresses(old.ips)
}

func (x *Index) setSlice(s *slice, t *touched) {
	if old := x.slices[s.service][s.name]; reflect.DeepEqual(old, s) {
		return
	}
	if x.slices[s.service] == nil {
		x.slices[s.service] = map[string]*slice{}
	}
	x.slices[s.service][s.name] = s
	t.namespace(s.service.namespace)
}

func (x *Index) deleteSlice(service key, name string, t *touched) {
	if x.slices[service][name] == nil {
		return
	}
	delete(x.slices[service], name)
	if len(x.slices[service]) == 0 {
		delete(x.slices, service)
	}
	t.namespace(service.namespace)
}

func (x *Index) setPod(p *pod, spec index.PodSpec, t *touched) {
	x.policy.Update(func(tx *index.Tx) {
		if p.meshed {
			tx.SetPod(p.namespace, p.name, spec)
		} else {
			tx.DeletePod(p.namespace, p.name)
		}
	})
	old := x.pods[p.key]
	if reflect.DeepEqual(old, p) {
		return
	}
	x.forgetAddresses(old, t)
	x.pods[p.key] = p
	for _, ip := range p.ips {
		if x.byPod[ip] == nil {
			x.byPod[ip] = map[key]bool{}
		}
		x.byPod[ip][p.key] = true
	}
	t.addresses(p.ips)
	t.namespace(p.namespace)
}

func (x *Index) deletePod(k key, t *touched) {
	old := x.pods[k]
	if old == nil {
		return
	}
	x.policy.Update(func(tx *index.Tx) { tx.DeletePod(k.namespace, k.name) })
	x.forgetAddresses(old, t)
	delete(x.pods, k)
	t.namespace(k.namespace)
}

func (x *Index) forgetAddresses(p *pod, t *touched) {
	if p == nil {
		return
	}
	for _, ip := range p.ips {
		delete(x.byPod[ip], p.key)
		if len(x.byPod[ip]) == 0 {
			delete(x.byPod, ip)
		}
	}
	t.addresses(p.ips)
}

// podAt is the pod that has an address now. Should two claim it, for a moment
// after it was given to another, it is nobody's: a wrong identity would fail
// every connection.
func (x *Index) podAt(ip netip.Addr) *pod {
	if len(x.byPod[ip]) != 1 {
		return nil
	}
	for k := range maps.Keys(x.byPod[ip]) {
		return x.pods[k]
	}
	return nil
}
