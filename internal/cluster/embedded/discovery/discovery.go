// Package discovery turns the services and endpoints of the API server into
// what the node's network needs: addresses to translate, and names to answer.
//
// Each change yields a new Snapshot of everything; a published Snapshot is
// never changed. The package programs nothing.
package discovery

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshproof/meshproof/internal/cluster/embedded/network"
)

// Snapshot is the state of all services at one moment.
type Snapshot struct {
	// Ports are the service addresses, for network.Translator.
	Ports []network.Service
	// Names has one entry per service.
	Names map[ServiceName]Record
}

// ServiceName is a service's key.
type ServiceName struct{ Namespace, Name string }

// Record is what DNS knows of a service.
type Record struct {
	// ClusterIP is the zero Addr for a headless service.
	ClusterIP netip.Addr
	// External is the other name of a service that is only one.
	External string
	// Ports of the service.
	Ports []Port
	// Endpoints are the addresses behind a headless service, ready or published
	// although they are not; sorted by address.
	Endpoints []Endpoint
}

// Port is one named port.
type Port struct {
	Name, Protocol string // protocol in lower case
	Port           uint16
}

// Endpoint is one address with the name that leads to it alone.
type Endpoint struct {
	Address netip.Addr
	Host    string
	Ports   []Port
}

// Build makes a Snapshot. Only IPv4 is considered; there is nothing else.
func Build(services []*corev1.Service, slicesOfEndpoints []*discoveryv1.EndpointSlice) *Snapshot {
	byService := map[ServiceName][]*discoveryv1.EndpointSlice{}
	for _, s := range slicesOfEndpoints {
		if s.AddressType == discoveryv1.AddressTypeIPv4 {
			name := ServiceName{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
			byService[name] = append(byService[name], s)
		}
	}
	snapshot := &Snapshot{Names: make(map[ServiceName]Record, len(services))}
	for _, service := range services {
		name := ServiceName{service.Namespace, service.Name}
		if service.Spec.Type == corev1.ServiceTypeExternalName {
			snapshot.Names[name] = Record{External: service.Spec.ExternalName}
			continue
		}
		record := Record{}
		for _, p := range service.Spec.Ports {
			record.Ports = append(record.Ports, Port{p.Name, strings.ToLower(string(p.Protocol)), uint16(p.Port)})
		}
		if address, err := netip.ParseAddr(service.Spec.ClusterIP); err == nil {
			record.ClusterIP = address
			snapshot.Ports = append(snapshot.Ports, translate(service, address, byService[name])...)
		} else {
			record.Endpoints = endpoints(byService[name])
		}
		snapshot.Names[name] = record
	}
	return snapshot
}

// protocols are the numbers of what a service port can be.
var protocols = map[corev1.Protocol]uint8{corev1.ProtocolTCP: unix.IPPROTO_TCP, corev1.ProtocolUDP: unix.IPPROTO_UDP, corev1.ProtocolSCTP: unix.IPPROTO_SCTP}

func translate(service *corev1.Service, address netip.Addr, all []*discoveryv1.EndpointSlice) []network.Service {
	var out []network.Service
	for _, p := range service.Spec.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		s := network.Service{Address: netip.AddrPortFrom(address, uint16(p.Port)), Protocol: protocols[protocol],
			Sticky: service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP}
		var leaving []netip.AddrPort
		for _, slice := range all {
			port, ok := portNamed(slice, p.Name, protocol)
			if !ok {
				continue
			}
			for _, endpoint := range slice.Endpoints {
				for _, text := range endpoint.Addresses {
					a, err := netip.ParseAddr(text)
					switch {
					case err != nil:
					case ready(endpoint):
						s.Endpoints = append(s.Endpoints, netip.AddrPortFrom(a, port))
					case endpoint.Conditions.Serving != nil && *endpoint.Conditions.Serving:
						leaving = append(leaving, netip.AddrPortFrom(a, port))
					}
				}
			}
		}
		if len(s.Endpoints) == 0 {
			// As kube-proxy does: those that are on their way out but still serve
			// are better than none.
			s.Endpoints = leaving
		}
		out = append(out, s)
	}
	return out
}

func ready(endpoint discoveryv1.Endpoint) bool {
	return endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
}

func portNamed(slice *discoveryv1.EndpointSlice, name string, protocol corev1.Protocol) (uint16, bool) {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) && (p.Protocol == nil || *p.Protocol == protocol) {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

func endpoints(all []*discoveryv1.EndpointSlice) []Endpoint {
	var out []Endpoint
	for _, slice := range all {
		var ports []Port
		for _, p := range slice.Ports {
			if p.Port == nil {
				continue
			}
			port := Port{Protocol: "tcp", Port: uint16(*p.Port)}
			if p.Name != nil {
				port.Name = *p.Name
			}
			if p.Protocol != nil {
				port.Protocol = strings.ToLower(string(*p.Protocol))
			}
			ports = append(ports, port)
		}
		for _, endpoint := range slice.Endpoints {
			// The controller calls an endpoint ready when its service publishes
			// addresses that are not.
			if !ready(endpoint) {
				continue
			}
			for _, text := range endpoint.Addresses {
				address, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				host := strings.ReplaceAll(address.String(), ".", "-")
				if endpoint.Hostname != nil && *endpoint.Hostname != "" {
					host = *endpoint.Hostname
				}
				out = append(out, Endpoint{address, strings.ToLower(host), ports})
			}
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Host, b.Host)) })
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Address == b.Address && a.Host == b.Host })
}
