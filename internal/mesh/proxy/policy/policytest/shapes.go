// Package policytest is every form that a policy message may have, for the tests of
// whatever reads such messages.
//
// It knows the messages of io.linkerd.proxy.inbound and what section 13 says of
// them, and nothing of those who read them. Whether the forms are all that there
// are is for a test to find out from the messages' descriptors.
package policytest

import (
	"net/netip"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	"github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Shape is one form of a message, and whether it is valid in each dialect.
type Shape struct {
	Message             *pb.Server
	Documented, Linkerd bool
}

func good(msg *pb.Server) Shape { return Shape{msg, true, true} }
func bad(msg *pb.Server) Shape  { return Shape{Message: msg} }

// Builders of a Server that has one thing in it.

func inProtocol(p *pb.ProxyProtocol) *pb.Server {
	return &pb.Server{Protocol: p, Authorizations: []*pb.Authz{Grant("all", "0.0.0.0/0")}}
}

func inHTTPRoute(r *pb.HttpRoute) *pb.Server {
	return DetectServer([]*pb.HttpRoute{r}, Grant("all", "0.0.0.0/0"))
}

func inGRPCRoute(r *pb.GrpcRoute) *pb.Server {
	return inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{Routes: []*pb.GrpcRoute{r}}}})
}

func inMatch(m *http_route.HttpRouteMatch) *pb.Server {
	return inHTTPRoute(&pb.HttpRoute{Rules: []*pb.HttpRoute_Rule{{Matches: []*http_route.HttpRouteMatch{m}}}})
}

func inHost(h *http_route.HostMatch) *pb.Server {
	return inHTTPRoute(&pb.HttpRoute{Hosts: []*http_route.HostMatch{h}, Rules: []*pb.HttpRoute_Rule{{}}})
}

func inHTTPFilter(f *pb.HttpRoute_Filter) *pb.Server {
	return inHTTPRoute(&pb.HttpRoute{Rules: []*pb.HttpRoute_Rule{{Filters: []*pb.HttpRoute_Filter{f}}}})
}

func inRedirect(r *http_route.RequestRedirect) *pb.Server {
	return inHTTPFilter(&pb.HttpRoute_Filter{Kind: &pb.HttpRoute_Filter_Redirect{Redirect: r}})
}

func inGRPCFilter(f *pb.GrpcRoute_Filter) *pb.Server {
	return inGRPCRoute(&pb.GrpcRoute{Rules: []*pb.GrpcRoute_Rule{{Filters: []*pb.GrpcRoute_Filter{f}}}})
}

func inNetwork(ip *net.IPAddress, bits uint32) *pb.Server {
	return DetectServer(nil, &pb.Authz{Authentication: Unauthenticated(), Networks: []*pb.Network{{Net: &net.IPNetwork{Ip: ip, PrefixLen: bits}}}})
}

func inAuthn(a *pb.Authn) *pb.Server {
	g := Grant("asked", "0.0.0.0/0")
	g.Authentication = a
	return DetectServer(nil, g)
}

func inMeshTLS(m *pb.Authn_PermitMeshTLS) *pb.Server {
	return inAuthn(&pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: m}})
}

func inMetadata(m *meta.Metadata) *pb.Server {
	return inHTTPRoute(&pb.HttpRoute{Metadata: m, Rules: []*pb.HttpRoute_Rule{{}}})
}

// Shapes has a row for each case of each oneof that a Server can hold, named
// ONEOF/CASE, one ONEOF/ for none of them, and rows named after the rule that they
// are about (W-06 to W-24). The messages are new with each call.
func Shapes() map[string]Shape {
	pathOf := func(m *http_route.PathMatch) *pb.Server { return inMatch(&http_route.HttpRouteMatch{Path: m}) }
	headerOf := func(m *http_route.HeaderMatch) *pb.Server {
		m.Name = "x-a"
		return inMatch(&http_route.HttpRouteMatch{Headers: []*http_route.HeaderMatch{m}})
	}
	queryOf := func(m *http_route.QueryParamMatch) *pb.Server {
		m.Name = "q"
		return inMatch(&http_route.HttpRouteMatch{QueryParams: []*http_route.QueryParamMatch{m}})
	}
	methodOf := func(m *http_types.HttpMethod) *pb.Server { return inMatch(&http_route.HttpRouteMatch{Method: m}) }
	modifier := &http_route.RequestHeaderModifier{Add: &http_types.Headers{Headers: []*http_types.Headers_Header{{Name: "x-b", Value: []byte("1")}}}}
	const (
		protocol   = "io.linkerd.proxy.inbound.ProxyProtocol.kind/"
		metadata   = "io.linkerd.proxy.meta.Metadata.kind/"
		host       = "io.linkerd.proxy.http_route.HostMatch.match/"
		address    = "io.linkerd.proxy.net.IPAddress.ip/"
		authn      = "io.linkerd.proxy.inbound.Authn.permit/"
		clients    = "io.linkerd.proxy.inbound.Authn.PermitMeshTLS.clients/"
		path       = "io.linkerd.proxy.http_route.PathMatch.kind/"
		headers    = "io.linkerd.proxy.http_route.HeaderMatch.value/"
		query      = "io.linkerd.proxy.http_route.QueryParamMatch.value/"
		method     = "io.linkerd.proxy.http_types.HttpMethod.type/"
		httpFilter = "io.linkerd.proxy.inbound.HttpRoute.Filter.kind/"
		grpcFilter = "io.linkerd.proxy.inbound.GrpcRoute.Filter.kind/"
		scheme     = "io.linkerd.proxy.http_types.Scheme.type/"
		replace    = "io.linkerd.proxy.http_route.PathModifier.replace/"
	)
	return map[string]Shape{
		protocol + "detect":       good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{Timeout: durationpb.New(time.Second)}}})),
		protocol + "opaque":       good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Opaque_{Opaque: &pb.ProxyProtocol_Opaque{}}})),
		protocol + "tls":          good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Tls_{Tls: &pb.ProxyProtocol_Tls{}}})),
		protocol + "http1":        good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{}}})),
		protocol + "http2":        good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{}}})),
		protocol + "grpc":         good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{}}})),
		protocol:                  bad(inProtocol(&pb.ProxyProtocol{})),
		metadata + "default":      good(inMetadata(&meta.Metadata{Kind: &meta.Metadata_Default{Default: "probe"}})),
		metadata + "resource":     good(inMetadata(&meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "g", Kind: "HTTPRoute", Name: "r", Namespace: "n", Section: "s", Port: 1}}})),
		metadata:                  good(inMetadata(&meta.Metadata{})),
		host + "exact":            good(inHost(&http_route.HostMatch{Match: &http_route.HostMatch_Exact{Exact: "a.b"}})),
		host + "suffix":           good(inHost(&http_route.HostMatch{Match: &http_route.HostMatch_Suffix_{Suffix: &http_route.HostMatch_Suffix{ReverseLabels: []string{"b", "a"}}}})),
		host:                      bad(inHost(&http_route.HostMatch{})),
		address + "ipv4":          good(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv4{Ipv4: 0x0A000001}}, 32)),
		address + "ipv6":          good(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv6{Ipv6: &net.IPv6{First: 0xfd00000000000000, Last: 1}}}, 128)),
		address:                   bad(inNetwork(&net.IPAddress{}, 0)),
		authn + "unauthenticated": good(inAuthn(Unauthenticated())),
		authn + "meshTLS": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{
			Identities: []*pb.Identity{{Name: "a.b"}}}}})),
		authn:                       bad(inAuthn(&pb.Authn{})),
		clients + "unauthenticated": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}})),
		clients + "identities": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{
			Suffixes: []*pb.IdentitySuffix{{Parts: []string{"a", "b"}}, {}}}}})),
		clients:                                bad(inMeshTLS(&pb.Authn_PermitMeshTLS{})),
		path + "exact":                         good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Exact{Exact: "/a"}})),
		path + "prefix":                        good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Prefix{Prefix: "/a"}})),
		path + "regex":                         good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: "/a+"}})),
		path:                                   bad(pathOf(&http_route.PathMatch{})),
		headers + "exact":                      good(headerOf(&http_route.HeaderMatch{Value: &http_route.HeaderMatch_Exact{Exact: []byte("v")}})),
		headers + "regex":                      good(headerOf(&http_route.HeaderMatch{Value: &http_route.HeaderMatch_Regex{Regex: "v+"}})),
		headers:                                bad(headerOf(&http_route.HeaderMatch{})),
		query + "exact":                        good(queryOf(&http_route.QueryParamMatch{Value: &http_route.QueryParamMatch_Exact{Exact: "v"}})),
		query + "regex":                        good(queryOf(&http_route.QueryParamMatch{Value: &http_route.QueryParamMatch_Regex{Regex: "v+"}})),
		query:                                  bad(queryOf(&http_route.QueryParamMatch{})),
		method + "registered":                  good(methodOf(&http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: http_types.HttpMethod_PUT}})),
		method + "unregistered":                good(methodOf(&http_types.HttpMethod{Type: &http_types.HttpMethod_Unregistered{Unregistered: "BREW"}})),
		method:                                 bad(methodOf(&http_types.HttpMethod{})),
		httpFilter + "failure_injector":        good(inHTTPFilter(&pb.HttpRoute_Filter{Kind: &pb.HttpRoute_Filter_FailureInjector{FailureInjector: &http_route.HttpFailureInjector{}}})),
		httpFilter + "request_header_modifier": good(inHTTPFilter(&pb.HttpRoute_Filter{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: modifier}})),
		httpFilter + "redirect":                good(inRedirect(&http_route.RequestRedirect{Host: "c"})),
		httpFilter:                             bad(inHTTPFilter(&pb.HttpRoute_Filter{})),
		grpcFilter + "failure_injector":        good(inGRPCFilter(&pb.GrpcRoute_Filter{Kind: &pb.GrpcRoute_Filter_FailureInjector{FailureInjector: &grpc_route.GrpcFailureInjector{}}})),
		grpcFilter + "request_header_modifier": good(inGRPCFilter(&pb.GrpcRoute_Filter{Kind: &pb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: modifier}})),
		grpcFilter:                             bad(inGRPCFilter(&pb.GrpcRoute_Filter{})),
		scheme + "registered":                  good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{Type: &http_types.Scheme_Registered_{Registered: http_types.Scheme_HTTPS}}})),
		scheme + "unregistered":                good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{Type: &http_types.Scheme_Unregistered{Unregistered: "gopher"}}})),
		scheme:                                 good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{}})),
		replace + "full":                       good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{Replace: &http_route.PathModifier_Full{Full: "/new"}}})),
		replace + "prefix":                     good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{Replace: &http_route.PathModifier_Prefix{Prefix: "/new"}}})),
		replace:                                good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{}})),
		"W-08: detection without a time-out":   bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{}}})),
		"W-10: no networks":                    bad(DetectServer(nil, &pb.Authz{Authentication: Unauthenticated()})),
		"W-10: no networks on a route":         bad(inHTTPRoute(&pb.HttpRoute{Authorizations: []*pb.Authz{{Authentication: Unauthenticated()}}})),
		"W-11: a prefix too long":              bad(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv4{}}, 33)),
		"W-12: no authentication":              bad(DetectServer(nil, &pb.Authz{Networks: Grant("", "10.0.0.0/8").Networks})),
		"W-16: old-style names":                good(&pb.Server{Protocol: inMetadata(nil).Protocol, Labels: map[string]string{"name": "default:deny"}}),
		"W-17, H-18: no routes":                good(DetectServer(nil, Grant("all", "0.0.0.0/0"))),
		"W-19: a limit": good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{LocalRateLimit: &pb.HttpLocalRateLimit{
			Metadata: &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: "HTTPLocalRateLimitPolicy", Name: "l"}}},
			Total:    &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 2}, Identity: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1},
			Overrides: []*pb.HttpLocalRateLimit_Override{{Limit: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1},
				Clients: &pb.HttpLocalRateLimit_Override_ClientIdentities{Identities: []*pb.Identity{{Name: "a.b"}}}}},
		}}}})),
		"W-19: a limit of zero": bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{LocalRateLimit: &pb.HttpLocalRateLimit{Total: &pb.HttpLocalRateLimit_Limit{}}}}})),
		"W-19: an override without a limit": bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{
			LocalRateLimit: &pb.HttpLocalRateLimit{Overrides: []*pb.HttpLocalRateLimit_Override{{}}}}}})),
		"W-21: a redirect without a status": good(inRedirect(&http_route.RequestRedirect{})),
		"W-21: a redirect with status 200":  good(inRedirect(&http_route.RequestRedirect{Status: 200})),
		"W-24: a gRPC match without rpc":    {inGRPCRoute(&pb.GrpcRoute{Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{}}}}}), true, false},
		"W-24: a gRPC match of any rpc":     good(inGRPCRoute(&pb.GrpcRoute{Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{Rpc: &grpc_route.GrpcRpcMatch{}}}}}})),
		"X-59: a route without rules":       good(inHTTPRoute(&pb.HttpRoute{})),
		"a regular expression that is none": bad(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: "("}})),
		"a redirect to no status":           bad(inRedirect(&http_route.RequestRedirect{Status: 99})),
	}
}

// IPNetwork is a network as messages have it.
func IPNetwork(text string) *net.IPNetwork {
	p := netip.MustParsePrefix(text)
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return &net.IPNetwork{PrefixLen: uint32(p.Bits()), Ip: &net.IPAddress{Ip: &net.IPAddress_Ipv4{
			Ipv4: uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3]),
		}}}
	}
	a := p.Addr().As16()
	half := func(b []byte) (n uint64) {
		for _, c := range b {
			n = n<<8 | uint64(c)
		}
		return n
	}
	return &net.IPNetwork{PrefixLen: uint32(p.Bits()), Ip: &net.IPAddress{Ip: &net.IPAddress_Ipv6{
		Ipv6: &net.IPv6{First: half(a[:8]), Last: half(a[8:])},
	}}}
}

// Unauthenticated permits everybody.
func Unauthenticated() *pb.Authn {
	return &pb.Authn{Permit: &pb.Authn_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}}
}

// Grant admits everybody from the networks.
func Grant(name string, nets ...string) *pb.Authz {
	a := &pb.Authz{Authentication: Unauthenticated(), Metadata: &meta.Metadata{Kind: &meta.Metadata_Resource{
		Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: "serverauthorization", Name: name},
	}}}
	for _, n := range nets {
		a.Networks = append(a.Networks, &pb.Network{Net: IPNetwork(n)})
	}
	return a
}

// DetectServer is the policy of a port with detection.
func DetectServer(routes []*pb.HttpRoute, authzs ...*pb.Authz) *pb.Server {
	return &pb.Server{
		Protocol: &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{
			Timeout: durationpb.New(time.Second), HttpRoutes: routes,
		}}},
		Authorizations: authzs,
		Labels:         map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "web"},
	}
}
