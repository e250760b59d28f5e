package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshproof/meshproof/internal/cluster/embedded/discovery"
)

// found is what a name leads to.
type found struct {
	exists    bool
	addresses []netip.Addr
	services  []target
	pointer   string
	alias     string
}

// target is what an SRV record points at.
type target struct {
	host      string
	port      uint16
	addresses []netip.Addr
}

// lookup resolves a name in lower case.
func (i *index) lookup(name string) found {
	if rest, ok := strings.CutSuffix(name, "."+reverseZone); ok {
		return i.lookupReverse(rest)
	}
	if name == zone {
		return found{exists: true}
	}
	rest, ok := strings.CutSuffix(name, "."+zone)
	if !ok {
		return found{}
	}
	labels := strings.Split(rest, ".")
	last := len(labels) - 1
	switch kind := labels[last]; {
	case kind == "svc" && last == 0, kind == "pod" && last == 0:
		return found{exists: true}
	case kind == "svc":
		return i.lookupService(labels[:last])
	case kind == "pod" && last == 2:
		address, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
		if err != nil || !address.Is4() {
			return found{}
		}
		return found{exists: true, addresses: []netip.Addr{address}}
	}
	return found{}
}

// lookupService resolves the labels before "svc": namespace; service and
// namespace; endpoint, service and namespace; or port, protocol, service and
// namespace.
func (i *index) lookupService(labels []string) found {
	namespace := labels[len(labels)-1]
	if len(labels) == 1 {
		return found{exists: i.namespaces[namespace]}
	}
	service := labels[len(labels)-2]
	record, ok := i.services[discovery.ServiceName{Namespace: namespace, Name: service}]
	if !ok {
		return found{}
	}
	fqdn := service + "." + namespace + ".svc." + zone
	switch labels = labels[:len(labels)-2]; len(labels) {
	case 0:
		if record.External != "" {
			return found{exists: true, alias: dns.Fqdn(record.External)}
		}
		return found{exists: true, addresses: addresses(record), services: targets(record, fqdn, "", "")}
	case 1:
		f := found{}
		for _, endpoint := range record.Endpoints {
			if endpoint.Host == labels[0] {
				f.exists, f.addresses = true, append(f.addresses, endpoint.Address)
			}
		}
		return f
	case 2:
		name, hasName := strings.CutPrefix(labels[0], "_")
		protocol, hasProtocol := strings.CutPrefix(labels[1], "_")
		if !hasName || !hasProtocol {
			return found{}
		}
		list := targets(record, fqdn, name, protocol)
		return found{exists: len(list) > 0, services: list}
	}
	return found{}
}

func addresses(record discovery.Record) []netip.Addr {
	if record.ClusterIP.IsValid() {
		return []netip.Addr{record.ClusterIP}
	}
	var out []netip.Addr
	for _, endpoint := range record.Endpoints {
		if len(out) == 0 || out[len(out)-1] != endpoint.Address { // they are sorted
			out = append(out, endpoint.Address)
		}
	}
	return out
}

// targets lists the ports of a service that match; an empty name and protocol
// match all that have a name.
func targets(record discovery.Record, fqdn, name, protocol string) []target {
	matches := func(p discovery.Port) bool {
		return name == "" && protocol == "" || p.Name == name && p.Protocol == protocol
	}
	var out []target
	if record.ClusterIP.IsValid() {
		for _, p := range record.Ports {
			if matches(p) {
				out = append(out, target{fqdn, p.Port, []netip.Addr{record.ClusterIP}})
			}
		}
	}
	for _, endpoint := range record.Endpoints {
		for _, p := range endpoint.Ports {
			if matches(p) {
				out = append(out, target{endpoint.Host + "." + fqdn, p.Port, []netip.Addr{endpoint.Address}})
			}
		}
	}
	return out
}

func (i *index) lookupReverse(rest string) found {
	labels := strings.Split(rest, ".")
	for a, b := 0, len(labels)-1; a < b; a, b = a+1, b-1 {
		labels[a], labels[b] = labels[b], labels[a]
	}
	address, err := netip.ParseAddr(strings.Join(labels, "."))
	if err != nil {
		return found{}
	}
	name, ok := i.reverse[address]
	return found{exists: ok, pointer: name}
}

// records answers one type of question under the name it was asked by.
func (f found) records(name string, kind uint16) []dns.RR {
	var out []dns.RR
	if f.alias != "" {
		out = append(out, &dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: f.alias})
	}
	if kind == dns.TypeA || kind == dns.TypeANY {
		for _, address := range f.addresses {
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA), A: address.AsSlice()})
		}
	}
	if kind == dns.TypeSRV || kind == dns.TypeANY {
		for _, t := range f.services {
			out = append(out, &dns.SRV{Hdr: header(name, dns.TypeSRV), Weight: 1, Port: t.port, Target: t.host})
		}
	}
	if f.pointer != "" && (kind == dns.TypePTR || kind == dns.TypeANY) {
		out = append(out, &dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: f.pointer})
	}
	return out
}

// targets are the addresses of the hosts that SRV records name.
func (f found) targets() []dns.RR {
	var out []dns.RR
	seen := map[string]bool{}
	for _, t := range f.services {
		if seen[t.host] {
			continue
		}
		seen[t.host] = true
		for _, address := range t.addresses {
			out = append(out, &dns.A{Hdr: header(t.host, dns.TypeA), A: address.AsSlice()})
		}
	}
	return out
}
