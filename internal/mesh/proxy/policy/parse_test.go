package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	"github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy/policytest"
)

var ipNet, unauthenticated, grant, detectServer = policytest.IPNetwork, policytest.Unauthenticated, policytest.Grant, policytest.DetectServer

func mustParse(t *testing.T, msg *pb.Server, d Dialect) *Port {
	t.Helper()
	p, err := Parse(msg, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func from(addr string) Client {
	return Client{Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 1234)}
}

func TestLocalhostIsAppendedToEveryList(t *testing.T) {
	p := mustParse(t, detectServer(nil), Dialect{})
	for addr, want := range map[string]bool{"127.0.0.1": true, "::1": true, "127.0.0.2": false, "10.0.0.1": false} {
		permit := p.Connection(from(addr))
		if (permit != nil) != want {
			t.Errorf("connection from %s: got %v, want %v", addr, permit, want)
		}
		d := p.Request(from(addr), text{Method: "GET", Path: "/"}.head())
		if (d.Verdict == Allow) != want {
			t.Errorf("request from %s: got %v, want %v", addr, d.Verdict, want)
		}
		if want && d.Permit.Authz != (Ref{Kind: "default", Name: "localhost"}) {
			t.Errorf("request from %s: credited to %v", addr, d.Permit.Authz)
		}
	}
}

func TestBothFamiliesOfNetworksAreRead(t *testing.T) {
	p := mustParse(t, detectServer(nil, grant("a", "10.1.2.3/32", "fd00:1::/32", "192.168.7.9/16")), Dialect{})
	for addr, want := range map[string]bool{
		"10.1.2.3": true, "10.1.2.4": false, "3.2.1.10": false, "fd00:1:ffff::1": true, "fd00:2::1": false, "192.168.0.1": true,
	} {
		if got := p.Connection(from(addr)) != nil; got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

// withUnknown adds a field that no version of the API has.
func withUnknown[M proto.Message](m M) M {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	return m
}

func TestMessagesThatAreNotUnderstoodInFullAreRefused(t *testing.T) {
	route := func(edit func(*pb.HttpRoute_Rule)) *pb.Server {
		rule := &pb.HttpRoute_Rule{}
		edit(rule)
		return detectServer([]*pb.HttpRoute{{Rules: []*pb.HttpRoute_Rule{rule}}})
	}
	bad := map[string]*pb.Server{
		"no protocol":          {},
		"protocol from future": {Protocol: withUnknown(&pb.ProxyProtocol{})},
		"unknown field":        withUnknown(detectServer(nil)),
		"unknown route field":  detectServer([]*pb.HttpRoute{withUnknown(&pb.HttpRoute{})}),
		"no detect time-out":   {Protocol: &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{}}}},
		"no networks":          detectServer(nil, &pb.Authz{Authentication: unauthenticated()}),
		"no authentication":    detectServer(nil, &pb.Authz{Networks: []*pb.Network{{Net: ipNet("0.0.0.0/0")}}}),
		"network without ip":   detectServer(nil, &pb.Authz{Authentication: unauthenticated(), Networks: []*pb.Network{{Net: &net.IPNetwork{}}}}),
		"prefix too long": detectServer(nil, &pb.Authz{Authentication: unauthenticated(), Networks: []*pb.Network{
			{Net: &net.IPNetwork{Ip: &net.IPAddress{Ip: &net.IPAddress_Ipv4{}}, PrefixLen: 33}},
		}}),
		"except too long": detectServer(nil, &pb.Authz{Authentication: unauthenticated(), Networks: []*pb.Network{
			{Net: ipNet("10.0.0.0/8"), Except: []*net.IPNetwork{{Ip: &net.IPAddress{Ip: &net.IPAddress_Ipv4{}}, PrefixLen: 99}}},
		}}),
		"mesh TLS without clients": detectServer(nil, &pb.Authz{Networks: []*pb.Network{{Net: ipNet("10.0.0.0/8")}},
			Authentication: &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{}}}}),
		"bad regex": route(func(r *pb.HttpRoute_Rule) {
			r.Matches = []*http_route.HttpRouteMatch{{Path: &http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: "("}}}}
		}),
		"path without kind": route(func(r *pb.HttpRoute_Rule) {
			r.Matches = []*http_route.HttpRouteMatch{{Path: &http_route.PathMatch{}}}
		}),
		"method of the future": route(func(r *pb.HttpRoute_Rule) {
			r.Matches = []*http_route.HttpRouteMatch{{Method: &http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: 77}}}}
		}),
		"filter without kind": route(func(r *pb.HttpRoute_Rule) { r.Filters = []*pb.HttpRoute_Filter{{}} }),
	}
	for name, msg := range bad {
		if p, err := Parse(msg, Dialect{}, nil); err == nil || p != nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v, %v", name, p, err)
		}
	}
}

func TestAnAuthenticationOfUnknownKindGrantsNothingAndSpoilsNothing(t *testing.T) {
	future := grant("future", "0.0.0.0/0")
	future.Authentication = withUnknown(&pb.Authn{})
	futureTLS := grant("future-tls", "0.0.0.0/0")
	futureTLS.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: withUnknown(&pb.Authn_PermitMeshTLS{})}}
	narrowed := grant("narrowed", "0.0.0.0/0")
	narrowed.Authentication = withUnknown(unauthenticated())
	p := mustParse(t, detectServer(nil, future, futureTLS, narrowed, grant("known", "10.0.0.0/8")), Dialect{})
	if permit := p.Connection(from("10.0.0.1")); permit == nil || permit.Authz.Name != "known" {
		t.Errorf("known authorization: got %+v", permit)
	}
	if permit := p.Connection(from("11.0.0.1")); permit != nil {
		t.Errorf("unknown authentication granted: %+v", permit)
	}
}

func TestIdentitiesOfAMessage(t *testing.T) {
	a := grant("ids", "0.0.0.0/0")
	a.Authentication = &pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: &pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{
		Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{
			Identities: []*pb.Identity{{Name: "web.ns.id"}, {Name: ""}},
			Suffixes:   []*pb.IdentitySuffix{{Parts: []string{"good", "id"}}},
		},
	}}}}
	p := mustParse(t, detectServer(nil, a), Dialect{})
	for id, want := range map[string]bool{
		"web.ns.id": true, "x.good.id": true, "x.evilgood.id": false, "evilgood.id": false, "good.id": false, "": false, "x.web.ns.id": false, "ns.id": false,
	} {
		c := from("10.0.0.1")
		c.TLS, c.Identity = Terminated, id
		if got := p.Connection(c) != nil; got != want {
			t.Errorf("%q: got %v, want %v", id, got, want)
		}
	}
}

func TestEveryProtocolHasConnectionsOrRequestsOrBoth(t *testing.T) {
	kinds := map[Protocol]*pb.ProxyProtocol{
		Detect: detectServer(nil).Protocol,
		Opaque: {Kind: &pb.ProxyProtocol_Opaque_{}},
		TLS:    {Kind: &pb.ProxyProtocol_Tls_{}},
		HTTP1:  {Kind: &pb.ProxyProtocol_Http1_{}},
		HTTP2:  {Kind: &pb.ProxyProtocol_Http2_{}},
		GRPC:   {Kind: &pb.ProxyProtocol_Grpc_{}},
	}
	connections := map[Protocol]bool{Detect: true, Opaque: true, TLS: true}
	requests := map[Protocol]bool{Detect: true, HTTP1: true, HTTP2: true, GRPC: true}
	for _, protocol := range Protocols {
		kind, ok := kinds[protocol]
		if !ok {
			t.Errorf("%v has no row", protocol)
			continue
		}
		p := mustParse(t, &pb.Server{Protocol: kind, Authorizations: []*pb.Authz{grant("all", "0.0.0.0/0")}}, Dialect{})
		if p.Protocol != protocol {
			t.Errorf("%v: read as %v", protocol, p.Protocol)
		}
		if got := p.Connection(from("10.0.0.1")) != nil; got != connections[protocol] {
			t.Errorf("%v: connection permitted: %v", protocol, got)
		}
		want := NotFound
		if requests[protocol] {
			want = Allow
		}
		if got := p.Request(from("10.0.0.1"), text{Method: "POST", Path: "/a.B/C"}.head()); got.Verdict != want {
			t.Errorf("%v: request: got %v, want %v", protocol, got.Verdict, want)
		}
	}
}

func TestLabelsInEitherStyle(t *testing.T) {
	for _, tt := range []struct {
		labels map[string]string
		want   Ref
	}{
		{map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "web"}, Ref{"policy.linkerd.io", "server", "web"}},
		{map[string]string{"kind": "default", "name": "deny"}, Ref{"", "default", "deny"}},
		{map[string]string{"name": "default:all-authenticated"}, Ref{"", "default", "all-authenticated"}},
	} {
		if got := labelRef(tt.labels); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.labels, got, tt.want)
		}
	}
}

func TestDefaultPortIsTheSameWordAsTheControllers(t *testing.T) {
	nets := prefixes("10.0.0.0/8")
	meshed := Client{TLS: Terminated, Identity: "a.b"}
	rows := map[string]struct{ inside, insideMeshed, outside, outsideMeshed bool }{
		"all-unauthenticated":     {true, true, true, true},
		"all-authenticated":       {false, true, false, true},
		"cluster-unauthenticated": {true, true, false, false},
		"cluster-authenticated":   {false, true, false, false},
		"deny":                    {},
		"audit":                   {true, true, true, true},
	}
	for _, name := range Defaults {
		row, ok := rows[name]
		if !ok {
			t.Errorf("%s has no row", name)
			continue
		}
		for _, opaque := range []bool{false, true} {
			p, err := DefaultPort(name, nets, opaque, time.Second, Linkerd)
			if err != nil {
				t.Fatal(err)
			}
			check := func(addr string, c Client, want bool) {
				c.Addr = from(addr).Addr
				if got := p.Connection(c) != nil; got != want {
					t.Errorf("%s from %s %+v: got %v, want %v", name, addr, c, got, want)
				}
			}
			check("10.0.0.1", Client{}, row.inside)
			check("10.0.0.1", meshed, row.insideMeshed)
			check("11.0.0.1", Client{}, row.outside)
			check("11.0.0.1", meshed, row.outsideMeshed)
		}
	}
	if _, err := DefaultPort("audit", nil, false, time.Second, Linkerd); err == nil {
		t.Error("audit without networks: accepted in dialect linkerd (D-14)")
	}
	if _, err := DefaultPort("audit", nil, false, time.Second, Dialect{}); err != nil {
		t.Errorf("audit without networks: %v", err)
	}
	if _, err := DefaultPort("Deny", nets, false, time.Second, Dialect{}); err == nil || !strings.Contains(err.Error(), "Deny") {
		t.Errorf("unknown default: %v", err)
	}
}

// N-14: only a grant by the audit default is to be logged, and it is told from a
// resource that is called so.
func TestGrantsByTheAuditDefaultAreMarked(t *testing.T) {
	audit := grant("audit", "10.0.0.0/8")
	audit.Metadata = &meta.Metadata{Kind: &meta.Metadata_Default{Default: "audit"}}
	p := mustParse(t, detectServer(nil, audit, grant("audit", "11.0.0.0/8")), Dialect{})
	for addr, want := range map[string]bool{"10.0.0.1": true, "11.0.0.1": false, "127.0.0.1": false} {
		if permit := p.Connection(from(addr)); permit == nil || permit.Audit != want {
			t.Errorf("connection from %s: %+v", addr, permit)
		}
		if d := p.Request(from(addr), text{Method: "GET", Path: "/"}.head()); d.Permit == nil || d.Permit.Audit != want {
			t.Errorf("request from %s: %+v", addr, d)
		}
	}
}

// X-48, H-20: a route's own authorizations count before the Server's, and those before localhost.
func TestARequestIsCreditedToTheFirstThatPermitsIt(t *testing.T) {
	r := route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: pathPrefixed("/")})
	r.Authorizations = []*pb.Authz{grant("own", "10.1.0.0/16"), grant("own wider", "10.0.0.0/8")}
	p := mustParse(t, detectServer([]*pb.HttpRoute{r}, grant("server", "10.0.0.0/8", "12.0.0.0/8"), grant("server wider", "0.0.0.0/0")), Dialect{})
	for addr, want := range map[string]string{
		"10.1.0.1": "own", "10.2.0.1": "own wider", "12.0.0.1": "server", "13.0.0.1": "server wider", "127.0.0.1": "server wider", "::1": "localhost",
	} {
		if d := p.Request(from(addr), text{Method: "GET", Path: "/"}.head()); d.Permit == nil || d.Permit.Authz.Name != want || d.Permit.Route.Name != "r" {
			t.Errorf("request from %s: %+v", addr, d.Permit)
		}
	}
	for addr, want := range map[string]string{"10.1.0.1": "server", "13.0.0.1": "server wider"} {
		if permit := p.Connection(from(addr)); permit == nil || permit.Authz.Name != want || permit.Route != (Ref{}) {
			t.Errorf("connection from %s: %+v", addr, permit)
		}
	}
}

// what is granted on a route is granted on no other, and on no connection.
func TestGrantsOnARouteStayThere(t *testing.T) {
	routes := make([]*pb.HttpRoute, 3)
	for i, path := range []string{"/a", "/b", "/c"} {
		routes[i] = route("HTTPRoute", path, &http_route.HttpRouteMatch{Path: pathPrefixed(path)})
	}
	routes[1].Authorizations = []*pb.Authz{grant("b", "10.0.0.0/8")}
	p := mustParse(t, detectServer(routes), Dialect{})
	for path, want := range map[string]Verdict{"/a": Deny, "/b": Allow, "/c": Deny} {
		if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: path}.head()); d.Verdict != want {
			t.Errorf("%s: %+v", path, d)
		}
	}
	if permit := p.Connection(from("10.0.0.1")); permit != nil {
		t.Errorf("connection: %+v", permit)
	}
}
