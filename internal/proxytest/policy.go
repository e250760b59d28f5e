package proxytest

import (
	"net/netip"
	"strings"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	pbnet "github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/types/known/durationpb"
)

// DetectWithin is the detect time-out of policies that say no other.
const DetectWithin = 10 * time.Second

// Everybody permits every client everything, with detection.
func Everybody() *pb.Server { return Server(Detect(DetectWithin), Anyone("everybody")) }

// Server is the policy of a port.
func Server(protocol *pb.ProxyProtocol, authzs ...*pb.Authz) *pb.Server {
	return &pb.Server{
		Protocol: protocol, Authorizations: authzs,
		Labels: map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "app"},
	}
}

// Detect is a protocol that is found out.
func Detect(within time.Duration, routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{Timeout: durationpb.New(within), HttpRoutes: routes}}}
}

// HTTP1, HTTP2, GRPC, Opaque and TLS are declared protocols.
func HTTP1(routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{Routes: routes}}}
}

// HTTP2 is declared HTTP/2.
func HTTP2(routes ...*pb.HttpRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{Routes: routes}}}
}

// GRPC is declared gRPC.
func GRPC(routes ...*pb.GrpcRoute) *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{Routes: routes}}}
}

// Opaque is declared opaque.
func Opaque() *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Opaque_{Opaque: &pb.ProxyProtocol_Opaque{}}}
}

// TLS is declared TLS of the application's own.
func TLS() *pb.ProxyProtocol {
	return &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Tls_{Tls: &pb.ProxyProtocol_Tls{}}}
}

// Anyone permits every client from the networks; none means everywhere.
func Anyone(name string, networks ...string) *pb.Authz {
	a := &pb.Authz{
		Metadata:       resource("serverauthorization", name),
		Authentication: &pb.Authn{Permit: &pb.Authn_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}},
	}
	if len(networks) == 0 {
		networks = []string{"0.0.0.0/0", "::/0"}
	}
	for _, n := range networks {
		a.Networks = append(a.Networks, Network(n))
	}
	return a
}

// Network is a network with exceptions, as prefixes.
func Network(text string, except ...string) *pb.Network {
	n := &pb.Network{Net: prefixOf(text)}
	for _, e := range except {
		n.Except = append(n.Except, prefixOf(e))
	}
	return n
}

// Identities permits meshed clients of these names; *.suffix is a suffix, * any.
func Identities(name string, ids ...string) *pb.Authz {
	a := Anyone(name)
	permit := &pb.Authn_PermitMeshTLS_PermitClientIdentities{}
	for _, id := range ids {
		suffix, ok := strings.CutPrefix(id, "*")
		switch {
		case !ok:
			permit.Identities = append(permit.Identities, &pb.Identity{Name: id})
		case suffix == "":
			permit.Suffixes = append(permit.Suffixes, &pb.IdentitySuffix{})
		default:
			permit.Suffixes = append(permit.Suffixes, &pb.IdentitySuffix{Parts: strings.Split(suffix[1:], ".")})
		}
	}
	a.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{
		Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: permit},
	}}}
	return a
}

// Route is a named route of paths: "=/exact", "/prefix", "~regex".
func Route(name string, paths []string, authzs ...*pb.Authz) *pb.HttpRoute {
	rule := &pb.HttpRoute_Rule{}
	for _, path := range paths {
		rule.Matches = append(rule.Matches, &http_route.HttpRouteMatch{Path: Path(path)})
	}
	return &pb.HttpRoute{Metadata: resource("HTTPRoute", name), Rules: []*pb.HttpRoute_Rule{rule}, Authorizations: authzs}
}

// Path is a match: "=/exact", "/prefix", "~regex".
func Path(path string) *http_route.PathMatch {
	switch path[0] {
	case '=':
		return &http_route.PathMatch{Kind: &http_route.PathMatch_Exact{Exact: path[1:]}}
	case '~':
		return &http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: path[1:]}}
	}
	return &http_route.PathMatch{Kind: &http_route.PathMatch_Prefix{Prefix: path}}
}

func resource(kind, name string) *meta.Metadata {
	return &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: kind, Name: name}}}
}

func prefixOf(text string) *pbnet.IPNetwork {
	p := netip.MustParsePrefix(text)
	n := &pbnet.IPNetwork{PrefixLen: uint32(p.Bits())}
	if p.Addr().Is4() {
		a := p.Addr().As4()
		n.Ip = &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv4{Ipv4: uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])}}
		return n
	}
	half := func(b []byte) (v uint64) {
		for _, c := range b {
			v = v<<8 | uint64(c)
		}
		return v
	}
	a := p.Addr().As16()
	n.Ip = &pbnet.IPAddress{Ip: &pbnet.IPAddress_Ipv6{Ipv6: &pbnet.IPv6{First: half(a[:8]), Last: half(a[8:])}}}
	return n
}
