package destination

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

// Hint is how an endpoint's proxy wants to be spoken to.
type Hint int

// The hints. Without one the client speaks as it would without a mesh.
const (
	NoHint Hint = iota
	// H2: through the proxy's inbound port, HTTP upgraded to HTTP/2.
	H2
	// Opaque: through the proxy's inbound port, bytes as they are (T-36).
	Opaque
)

// Endpoint is one place where traffic can go. It is comparable.
type Endpoint struct {
	Address netip.AddrPort
	// Identity that the endpoint must prove, "" when it is not meshed there.
	Identity string
	Hint     Hint
	// InboundPort is where the endpoint's proxy takes traffic; set with a Hint.
	InboundPort uint16
	// What metrics say about it.
	Pod, Namespace, ServiceAccount, Owner, TemplateHash, Zone string
}

// Endpoints is what a destination resolves to.
type Endpoints struct {
	// Exists is false when there is no such Service or pod.
	Exists bool
	// Service and Namespace are "" for a pod's address.
	Service, Namespace string
	// ByAddress never holds an endpoint under another's address.
	ByAddress map[netip.AddrPort]Endpoint
}

// Profile is what a client has to know before its first byte.
type Profile struct {
	// Service, Namespace and Port are set for an address or a name of a Service.
	Service, Namespace string
	Port               uint16
	// Opaque: do not look what is spoken.
	Opaque bool
	// Endpoint is set for an address of a pod.
	Endpoint *Endpoint
}

// target is what a client asks about: an address or a Service's name, and a port.
type target struct {
	ip   netip.Addr // invalid for a name
	name key
	port uint16
}

// parseTarget reads "10.1.2.3:80" or "web-svc.emojivoto.svc.cluster.local:80".
// ok is false when it is neither.
func parseTarget(path, clusterDomain string) (t target, ok bool) {
	host, port, err := net.SplitHostPort(path)
	if err != nil {
		return target{}, false
	}
	if t.port, ok = parsePort(port); !ok {
		return target{}, false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		t.ip = ip.Unmap()
		return t, true
	}
	short, ok := strings.CutSuffix(strings.TrimSuffix(strings.ToLower(host), "."), ".svc."+strings.ToLower(clusterDomain))
	name, namespace, two := strings.Cut(short, ".")
	if !ok || !two || name == "" || namespace == "" || strings.Contains(namespace, ".") {
		return target{}, false
	}
	t.name = key{namespace, name}
	return t, true
}

// profile looks at t as it is now. The namespace is where the answer comes from.
func (x *Index) profile(t target) (p Profile, namespace string) {
	name := t.name
	if t.ip.IsValid() {
		service, known := x.byService[t.ip]
		if !known {
			return x.podProfile(t)
		}
		name = service
	}
	s := x.services[name]
	if s == nil {
		return Profile{}, name.namespace
	}
	return Profile{Service: s.name, Namespace: s.namespace, Port: t.port, Opaque: x.serviceOpaque(s, t.port)}, s.namespace
}

func (x *Index) podProfile(t target) (Profile, string) {
	p := x.podAt(t.ip)
	if p == nil {
		return Profile{}, ""
	}
	e := x.endpoint(p, netip.AddrPortFrom(t.ip, t.port), x.podOpaque(p, t.port))
	return Profile{Opaque: e.Hint == Opaque, Endpoint: &e}, p.namespace
}

// endpoints looks at t as it is now.
func (x *Index) endpoints(t target) (e Endpoints, namespace string) {
	name := t.name
	if t.ip.IsValid() {
		service, known := x.byService[t.ip]
		if !known {
			return x.podEndpoints(t)
		}
		name = service
	}
	s := x.services[name]
	if s == nil {
		return Endpoints{}, name.namespace
	}
	return x.serviceEndpoints(s, t.port), s.namespace
}

func (x *Index) podEndpoints(t target) (Endpoints, string) {
	p := x.podAt(t.ip)
	if p == nil {
		return Endpoints{}, ""
	}
	at := netip.AddrPortFrom(t.ip, t.port)
	return Endpoints{Exists: true, ByAddress: map[netip.AddrPort]Endpoint{at: x.endpoint(p, at, x.podOpaque(p, t.port))}}, p.namespace
}

func (x *Index) serviceEndpoints(s *service, number uint16) Endpoints {
	all := Endpoints{Exists: true, Service: s.name, Namespace: s.namespace, ByAddress: map[netip.AddrPort]Endpoint{}}
	port := s.port(number)
	if port == nil && !s.headless {
		return all
	}
	for _, slice := range x.slices[s.key] {
		for _, at := range slice.ports {
			// Names of a headless Service resolve to pods; any of their ports may
			// then be asked for by number.
			if port != nil && at.name != port.name || port == nil && at.number != number {
				continue
			}
			opaque := at.opaque || port != nil && port.opaque || s.opaque.contains(number)
			for _, e := range slice.endpoints {
				address := netip.AddrPortFrom(e.address, at.number)
				if e.pod == (key{}) {
					all.ByAddress[address] = Endpoint{Address: address, Zone: e.zone}
					continue
				}
				if p := x.pods[e.pod]; p != nil {
					made := x.endpoint(p, address, opaque || x.podOpaque(p, at.number))
					made.Zone = e.zone
					all.ByAddress[address] = made
				}
			}
		}
	}
	return all
}

// endpoint describes a port of a pod.
func (x *Index) endpoint(p *pod, at netip.AddrPort, opaque bool) Endpoint {
	e := Endpoint{Address: at, Pod: p.name, Namespace: p.namespace, ServiceAccount: p.serviceAccount, Owner: p.owner, TemplateHash: p.templateHash}
	if !p.meshed || p.bypassed(at.Port()) {
		return e
	}
	e.Identity = x.config.Identity(p.serviceAccount, p.namespace)
	if at.Port() == p.adminPort || at.Port() == p.controlPort {
		return e
	}
	e.Hint, e.InboundPort = H2, p.inboundPort
	if opaque {
		e.Hint = Opaque
	}
	return e
}

// podOpaque applies that part of T-36 which a pod's port decides: its annotation,
// else its namespace's, or the Server that decides about the port. A Server that
// names its port decides about the port's hostPort, too.
func (x *Index) podOpaque(p *pod, port uint16) bool {
	list := p.opaque
	if !p.annotated {
		list = x.namespaces[p.namespace]
	}
	return list.contains(port) || x.opaqueServer(p, port, "") ||
		slices.ContainsFunc(p.hostPorts, func(h hostPort) bool { return h.host == port && x.opaqueServer(p, h.container, h.name) })
}

// opaqueServer tells whether the Server that decides about a port is opaque, and
// selects the port by this name, when there is one.
func (x *Index) opaqueServer(p *pod, port uint16, name string) bool {
	snapshot, err := x.policy.Lookup(p.namespace, p.name, port)
	if err != nil || snapshot.Server.Reference.Kind != index.Server || snapshot.Server.Protocol.Kind != index.Opaque {
		return false
	}
	return name == "" || x.servers[key{p.namespace, snapshot.Server.Reference.Name}] == name
}

// serviceOpaque decides whether clients may look at what is spoken to a Service's
// port: its annotation says no, or else its namespace's, or else the default
// list; or all its endpoints are opaque, and a client that waited for a server
// to speak first would wait in vain.
func (x *Index) serviceOpaque(s *service, number uint16) bool {
	list := x.opaqueByDefault
	if s.annotated {
		list = s.opaque
	} else if of, annotated := x.namespaces[s.namespace]; annotated {
		list = of
	}
	if port := s.port(number); list.contains(number) || port != nil && port.opaque {
		return true
	}
	endpoints := x.serviceEndpoints(s, number)
	for _, e := range endpoints.ByAddress {
		if e.Hint != Opaque {
			return false
		}
	}
	return len(endpoints.ByAddress) > 0
}
