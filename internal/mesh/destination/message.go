package destination

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	pb "github.com/linkerd/linkerd2-proxy-api/go/destination"
	metapb "github.com/linkerd/linkerd2-proxy-api/go/meta"
	netpb "github.com/linkerd/linkerd2-proxy-api/go/net"
)

// weight of every endpoint: none is preferred.
const weight = 10000

// profileMessage encodes p. An empty profile says: go where you meant to.
func profileMessage(p Profile, config namer) *pb.DestinationProfile {
	message := &pb.DestinationProfile{OpaqueProtocol: p.Opaque}
	if p.Service != "" {
		message.FullyQualifiedName = config.serviceName(p.Service, p.Namespace)
		message.ParentRef = resource("Service", p.Namespace, p.Service, p.Port)
	}
	if p.Endpoint != nil {
		message.Endpoint = endpointMessage(*p.Endpoint, config)
	}
	return message
}

// updates are the messages that lead from what a client knows to now; known is
// nil for one that knows nothing. Additions come first, so that a client is
// never without an endpoint in between.
func updates(known *Endpoints, now Endpoints, config namer) []*pb.Update {
	if len(now.ByAddress) == 0 {
		if known != nil && len(known.ByAddress) == 0 && known.Exists == now.Exists {
			return nil
		}
		return []*pb.Update{{Update: &pb.Update_NoEndpoints{NoEndpoints: &pb.NoEndpoints{Exists: now.Exists}}}}
	}
	add := &pb.WeightedAddrSet{MetricLabels: labels("namespace", now.Namespace, "service", now.Service)}
	for _, address := range sorted(now.ByAddress) {
		if known == nil || known.ByAddress[address] != now.ByAddress[address] {
			add.Addrs = append(add.Addrs, endpointMessage(now.ByAddress[address], config))
		}
	}
	var all []*pb.Update
	if len(add.Addrs) > 0 {
		all = append(all, &pb.Update{Update: &pb.Update_Add{Add: add}})
	}
	if known != nil {
		gone := &pb.AddrSet{}
		for _, address := range sorted(known.ByAddress) {
			if _, still := now.ByAddress[address]; !still {
				gone.Addrs = append(gone.Addrs, addressMessage(address))
			}
		}
		if len(gone.Addrs) > 0 {
			all = append(all, &pb.Update{Update: &pb.Update_Remove{Remove: gone}})
		}
	}
	return all
}

func endpointMessage(e Endpoint, config namer) *pb.WeightedAddr {
	message := &pb.WeightedAddr{Addr: addressMessage(e.Address), Weight: weight}
	if e.Pod != "" {
		kind, name, _ := strings.Cut(e.Owner, "/")
		message.MetricLabels = labels("pod", e.Pod, "namespace", e.Namespace, "serviceaccount", e.ServiceAccount,
			kind, name, "pod_template_hash", e.TemplateHash, "zone", e.Zone)
		message.ResourceRef = resource("Pod", e.Namespace, e.Pod, e.Address.Port())
	} else {
		message.MetricLabels = labels("zone", e.Zone)
	}
	if e.Identity == "" {
		return message
	}
	message.MetricLabels["control_plane_ns"] = config.controlPlane()
	name := &pb.TlsIdentity_DnsLikeIdentity{Name: e.Identity}
	message.TlsIdentity = &pb.TlsIdentity{Strategy: &pb.TlsIdentity_DnsLikeIdentity_{DnsLikeIdentity: name}, ServerName: name}
	if e.Hint == NoHint {
		return message
	}
	message.ProtocolHint = &pb.ProtocolHint{OpaqueTransport: &pb.ProtocolHint_OpaqueTransport{InboundPort: uint32(e.InboundPort)}}
	if e.Hint == Opaque {
		message.ProtocolHint.Protocol = &pb.ProtocolHint_Opaque_{Opaque: &pb.ProtocolHint_Opaque{}}
	} else {
		message.ProtocolHint.Protocol = &pb.ProtocolHint_H2_{H2: &pb.ProtocolHint_H2{}}
	}
	return message
}

// namer is what messages need of the configuration.
type namer interface {
	serviceName(name, namespace string) string
	controlPlane() string
}

func (x *Index) serviceName(name, namespace string) string {
	return name + "." + namespace + ".svc." + x.config.ClusterDomain
}

func (x *Index) controlPlane() string { return x.config.ControlPlaneNamespace }

func resource(kind, namespace, name string, port uint16) *metapb.Metadata {
	return &metapb.Metadata{Kind: &metapb.Metadata_Resource{Resource: &metapb.Resource{
		Group: "core", Kind: kind, Namespace: namespace, Name: name, Port: uint32(port)}}}
}

// labels makes a map of the pairs whose name and value are not empty.
func labels(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != "" && pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}

func addressMessage(address netip.AddrPort) *netpb.TcpAddress {
	message := &netpb.TcpAddress{Port: uint32(address.Port())}
	if address.Addr().Is4() {
		bytes := address.Addr().As4()
		message.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: binary.BigEndian.Uint32(bytes[:])}}
		return message
	}
	bytes := address.Addr().As16()
	message.Ip = &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{
		First: binary.BigEndian.Uint64(bytes[:8]), Last: binary.BigEndian.Uint64(bytes[8:])}}}
	return message
}

func sorted(m map[netip.AddrPort]Endpoint) []netip.AddrPort {
	all := make([]netip.AddrPort, 0, len(m))
	for address := range m {
		all = append(all, address)
	}
	slices.SortFunc(all, func(a, b netip.AddrPort) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Port(), b.Port()))
	})
	return all
}
