package policy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
	"github.com/linkerd/linkerd2-proxy-api/go/net"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// shape is one form that a message of section 13 may have.
type shape struct {
	msg *pb.Server
	// valid in each dialect.
	documented, linkerd bool
	// look, when set, looks at what became of a valid one.
	look func(*Port) bool
}

func good(msg *pb.Server, look func(*Port) bool) shape { return shape{msg, true, true, look} }
func bad(msg *pb.Server) shape                         { return shape{msg: msg} }

// Builders of a Server that has one thing in it.

func inProtocol(p *pb.ProxyProtocol) *pb.Server {
	return &pb.Server{Protocol: p, Authorizations: []*pb.Authz{grant("all", "0.0.0.0/0")}}
}

func inHTTPRoute(r *pb.HttpRoute) *pb.Server {
	return detectServer([]*pb.HttpRoute{r}, grant("all", "0.0.0.0/0"))
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
	return detectServer(nil, &pb.Authz{Authentication: unauthenticated(), Networks: []*pb.Network{{Net: &net.IPNetwork{Ip: ip, PrefixLen: bits}}}})
}

func inAuthn(a *pb.Authn) *pb.Server {
	g := grant("asked", "0.0.0.0/0")
	g.Authentication = a
	return detectServer(nil, g)
}

func inMeshTLS(m *pb.Authn_PermitMeshTLS) *pb.Server {
	return inAuthn(&pb.Authn{Permit: &pb.Authn_MeshTLS{MeshTLS: m}})
}

func inMetadata(m *meta.Metadata) *pb.Server {
	return inHTTPRoute(&pb.HttpRoute{Metadata: m, Rules: []*pb.HttpRoute_Rule{{}}})
}

// asks tells the verdict for a request of a neighbour.
func asks(want Verdict, head Head) func(*Port) bool {
	return func(p *Port) bool {
		if head.Method == "" {
			head.Method = "GET"
		}
		return p.Request(from("10.0.0.1"), &head).Verdict == want
	}
}

func speaks(want Protocol) func(*Port) bool { return func(p *Port) bool { return p.Protocol == want } }

// identified tells whether a client with this identity, or with a session and
// none, may connect, and one without TLS may not.
func identified(name string) func(*Port) bool {
	return func(p *Port) bool {
		c := from("10.0.0.1")
		c.TLS, c.Identity = Terminated, name
		return p.Connection(c) != nil && p.Connection(from("10.0.0.1")) == nil
	}
}

// location is where a request for http://a.b/old is sent.
func location(want string) func(*Port) bool {
	return func(p *Port) bool {
		return p.Request(from("10.0.0.1"), &Head{Method: "GET", Path: "/old", Host: "a.b"}).Location == want
	}
}

// shapes has a row for each case of each oneof that a Server can hold, named
// ONEOF/CASE, and one ONEOF/ for none of them (W-06 to W-15, W-22).
func shapes() map[string]shape {
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
	header := func(value string) Head { return Head{Path: "/", Header: map[string][]string{"X-A": {value}}} }
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
	return map[string]shape{
		protocol + "detect": good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{Timeout: durationpb.New(time.Second)}}}), speaks(Detect)),
		protocol + "opaque": good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Opaque_{Opaque: &pb.ProxyProtocol_Opaque{}}}), speaks(Opaque)),
		protocol + "tls":    good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Tls_{Tls: &pb.ProxyProtocol_Tls{}}}), speaks(TLS)),
		protocol + "http1":  good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{}}}), speaks(HTTP1)),
		protocol + "http2":  good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{}}}), speaks(HTTP2)),
		protocol + "grpc":   good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{}}}), speaks(GRPC)),
		protocol:            bad(inProtocol(&pb.ProxyProtocol{})),

		metadata + "default": good(inMetadata(&meta.Metadata{Kind: &meta.Metadata_Default{Default: "probe"}}), func(p *Port) bool { return p.routes[0].Ref == Ref{Kind: "default", Name: "probe"} }),
		metadata + "resource": good(inMetadata(&meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "g", Kind: "HTTPRoute", Name: "r", Namespace: "n", Section: "s", Port: 1}}}),
			func(p *Port) bool { return p.routes[0].Ref == Ref{"g", "HTTPRoute", "r"} }),
		metadata: good(inMetadata(&meta.Metadata{}), func(p *Port) bool { return p.routes[0].Ref == Ref{} }), // a name is no condition

		host + "exact": good(inHost(&http_route.HostMatch{Match: &http_route.HostMatch_Exact{Exact: "a.b"}}), asks(Allow, Head{Path: "/", Host: "A.B:80"})),
		host + "suffix": good(inHost(&http_route.HostMatch{Match: &http_route.HostMatch_Suffix_{Suffix: &http_route.HostMatch_Suffix{ReverseLabels: []string{"b", "a"}}}}),
			asks(Allow, Head{Path: "/", Host: "x.a.b"})),
		host: bad(inHost(&http_route.HostMatch{})),

		address + "ipv4": good(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv4{Ipv4: 0x0A000001}}, 32), asks(Allow, Head{Path: "/"})),
		address + "ipv6": good(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv6{Ipv6: &net.IPv6{First: 0xfd00000000000000, Last: 1}}}, 128),
			func(p *Port) bool {
				return p.Connection(from("fd00::1")) != nil && p.Connection(from("fd00::2")) == nil
			}),
		address: bad(inNetwork(&net.IPAddress{}, 0)),

		authn + "unauthenticated": good(inAuthn(unauthenticated()), asks(Allow, Head{Path: "/"})),
		authn + "meshTLS": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{
			Identities: []*pb.Identity{{Name: "a.b"}}}}}), identified("a.b")),
		authn: bad(inAuthn(&pb.Authn{})),

		clients + "unauthenticated": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Unauthenticated{Unauthenticated: &pb.Authn_PermitUnauthenticated{}}}), identified("")),
		clients + "identities": good(inMeshTLS(&pb.Authn_PermitMeshTLS{Clients: &pb.Authn_PermitMeshTLS_Identities{Identities: &pb.Authn_PermitMeshTLS_PermitClientIdentities{
			Suffixes: []*pb.IdentitySuffix{{Parts: []string{"a", "b"}}, {}}}}}), identified("any.name")),
		clients: bad(inMeshTLS(&pb.Authn_PermitMeshTLS{})),

		path + "exact":  good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Exact{Exact: "/a"}}), asks(NotFound, Head{Path: "/a/b"})),
		path + "prefix": good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Prefix{Prefix: "/a"}}), asks(Allow, Head{Path: "/a/b"})),
		path + "regex":  good(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: "/a+"}}), asks(Allow, Head{Path: "/aaa"})),
		path:            bad(pathOf(&http_route.PathMatch{})),

		headers + "exact": good(headerOf(&http_route.HeaderMatch{Value: &http_route.HeaderMatch_Exact{Exact: []byte("v")}}), asks(Allow, header("v"))),
		headers + "regex": good(headerOf(&http_route.HeaderMatch{Value: &http_route.HeaderMatch_Regex{Regex: "v+"}}), asks(Allow, header("vv"))),
		headers:           bad(headerOf(&http_route.HeaderMatch{})),

		query + "exact": good(queryOf(&http_route.QueryParamMatch{Value: &http_route.QueryParamMatch_Exact{Exact: "v"}}), asks(Allow, Head{Path: "/", RawQuery: "q=v"})),
		query + "regex": good(queryOf(&http_route.QueryParamMatch{Value: &http_route.QueryParamMatch_Regex{Regex: "v+"}}), asks(Allow, Head{Path: "/", RawQuery: "q=vv"})),
		query:           bad(queryOf(&http_route.QueryParamMatch{})),

		method + "registered":   good(methodOf(&http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: http_types.HttpMethod_PUT}}), asks(Allow, Head{Method: "PUT", Path: "/"})),
		method + "unregistered": good(methodOf(&http_types.HttpMethod{Type: &http_types.HttpMethod_Unregistered{Unregistered: "BREW"}}), asks(Allow, Head{Method: "BREW", Path: "/"})),
		method:                  bad(methodOf(&http_types.HttpMethod{})),

		httpFilter + "failure_injector":        good(inHTTPFilter(&pb.HttpRoute_Filter{Kind: &pb.HttpRoute_Filter_FailureInjector{FailureInjector: &http_route.HttpFailureInjector{}}}), asks(Fault, Head{Path: "/"})),
		httpFilter + "request_header_modifier": good(inHTTPFilter(&pb.HttpRoute_Filter{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: modifier}}), asks(Allow, Head{Path: "/"})),
		httpFilter + "redirect":                good(inRedirect(&http_route.RequestRedirect{Host: "c"}), asks(Redirect, Head{Path: "/"})),
		httpFilter:                             bad(inHTTPFilter(&pb.HttpRoute_Filter{})),

		grpcFilter + "failure_injector":        good(inGRPCFilter(&pb.GrpcRoute_Filter{Kind: &pb.GrpcRoute_Filter_FailureInjector{FailureInjector: &grpc_route.GrpcFailureInjector{}}}), asks(Fault, Head{Method: "POST", Path: "/a/b"})),
		grpcFilter + "request_header_modifier": good(inGRPCFilter(&pb.GrpcRoute_Filter{Kind: &pb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: modifier}}), asks(Allow, Head{Method: "POST", Path: "/a/b"})),
		grpcFilter:                             bad(inGRPCFilter(&pb.GrpcRoute_Filter{})),

		scheme + "registered":   good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{Type: &http_types.Scheme_Registered_{Registered: http_types.Scheme_HTTPS}}}), location("https://a.b/old")),
		scheme + "unregistered": good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{Type: &http_types.Scheme_Unregistered{Unregistered: "gopher"}}}), location("gopher://a.b/old")),
		scheme:                  good(inRedirect(&http_route.RequestRedirect{Scheme: &http_types.Scheme{}}), location("http://a.b/old")), // says as much as no scheme

		replace + "full":   good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{Replace: &http_route.PathModifier_Full{Full: "/new"}}}), location("http://a.b/new")),
		replace + "prefix": good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{Replace: &http_route.PathModifier_Prefix{Prefix: "/new"}}}), asks(Fault, Head{Path: "/old"})), // its rule matches no prefix
		replace:            good(inRedirect(&http_route.RequestRedirect{Path: &http_route.PathModifier{}}), location("http://a.b/old")),

		// Not about a oneof.
		"W-08: detection without a time-out": bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Detect_{Detect: &pb.ProxyProtocol_Detect{}}})),
		"W-10: no networks":                  bad(detectServer(nil, &pb.Authz{Authentication: unauthenticated()})),
		"W-10: no networks on a route":       bad(inHTTPRoute(&pb.HttpRoute{Authorizations: []*pb.Authz{{Authentication: unauthenticated()}}})),
		"W-11: a prefix too long":            bad(inNetwork(&net.IPAddress{Ip: &net.IPAddress_Ipv4{}}, 33)),
		"W-12: no authentication":            bad(detectServer(nil, &pb.Authz{Networks: grant("", "10.0.0.0/8").Networks})),
		"W-16: old-style names":              good(&pb.Server{Protocol: inMetadata(nil).Protocol, Labels: map[string]string{"name": "default:deny"}}, func(p *Port) bool { return p.Server == Ref{Kind: "default", Name: "deny"} }),
		"W-17, H-18: no routes": good(detectServer(nil, grant("all", "0.0.0.0/0")), func(p *Port) bool {
			d := p.Request(from("10.0.0.1"), &Head{Method: "GET", Path: "/"})
			return d.Verdict == Allow && d.Route == Ref{Kind: "default", Name: "default"}
		}),
		"W-19: a limit": good(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{LocalRateLimit: &pb.HttpLocalRateLimit{
			Metadata: &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: "HTTPLocalRateLimitPolicy", Name: "l"}}},
			Total:    &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 2}, Identity: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1},
			Overrides: []*pb.HttpLocalRateLimit_Override{{Limit: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1},
				Clients: &pb.HttpLocalRateLimit_Override_ClientIdentities{Identities: []*pb.Identity{{Name: "a.b"}}}}},
		}}}}), func(p *Port) bool {
			head := &Head{Method: "GET", Path: "/", Now: time.Unix(1, 0)}
			first, second := p.Request(from("10.0.0.1"), head), p.Request(from("10.0.0.1"), head)
			return p.LimitRef() == Ref{"policy.linkerd.io", "HTTPLocalRateLimitPolicy", "l"} && first.Verdict == Allow && second.Verdict == Limited && second.LimitScope == "identity"
		}),
		"W-19: a limit of zero": bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http1_{Http1: &pb.ProxyProtocol_Http1{LocalRateLimit: &pb.HttpLocalRateLimit{Total: &pb.HttpLocalRateLimit_Limit{}}}}})),
		"W-19: an override without a limit": bad(inProtocol(&pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Http2_{Http2: &pb.ProxyProtocol_Http2{
			LocalRateLimit: &pb.HttpLocalRateLimit{Overrides: []*pb.HttpLocalRateLimit_Override{{}}}}}})),
		"W-21: a redirect without a status": good(inRedirect(&http_route.RequestRedirect{}), func(p *Port) bool {
			want := map[Dialect]int{{}: 302, Linkerd: 301}[p.dialect]
			return p.Request(from("10.0.0.1"), &Head{Method: "GET", Path: "/"}).Status == want
		}),
		"W-21: a redirect with status 200": good(inRedirect(&http_route.RequestRedirect{Status: 200}), func(p *Port) bool {
			d := p.Request(from("10.0.0.1"), &Head{Method: "GET", Path: "/", Host: "a.b"})
			return d.Status == 200 && d.Location == "http://a.b/"
		}),
		"W-24: a gRPC match without rpc": {
			msg:        inGRPCRoute(&pb.GrpcRoute{Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{}}}}}),
			documented: true, look: asks(Allow, Head{Method: "POST", Path: "/a/b"}),
		},
		"W-24: a gRPC match of any rpc": good(inGRPCRoute(&pb.GrpcRoute{Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{Rpc: &grpc_route.GrpcRpcMatch{}}}}}}),
			asks(Allow, Head{Method: "POST", Path: "/a/b"})),
		"X-59: a route without rules":       good(inHTTPRoute(&pb.HttpRoute{}), asks(NotFound, Head{Path: "/"})),
		"a regular expression that is none": bad(pathOf(&http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: "("}})),
		"a redirect to no status":           bad(inRedirect(&http_route.RequestRedirect{Status: 99})),
	}
}

// cases lists every case of every oneof below a message, and for each oneof none of them.
func cases(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) []string {
	if seen[m.FullName()] {
		return nil
	}
	seen[m.FullName()] = true
	var all []string
	for i := range m.Oneofs().Len() {
		oneof := m.Oneofs().Get(i)
		all = append(all, string(oneof.FullName())+"/")
		for j := range oneof.Fields().Len() {
			all = append(all, string(oneof.FullName())+"/"+string(oneof.Fields().Get(j).Name()))
		}
	}
	for i := range m.Fields().Len() {
		if field := m.Fields().Get(i); field.Message() != nil && !field.IsMap() {
			all = append(all, cases(field.Message(), seen)...)
		}
	}
	return all
}

// W-06 to W-17, W-19, W-21, W-22, W-24: a message is understood in full or refused.
func TestEveryShapeOfAMessageIsUnderstoodOrRefused(t *testing.T) {
	rows := shapes()
	want := cases((&pb.Server{}).ProtoReflect().Descriptor(), map[protoreflect.FullName]bool{})
	for _, name := range want {
		if _, ok := rows[name]; !ok {
			t.Errorf("no row for %s", name)
		}
	}
	for name := range rows {
		if strings.Contains(name, "/") && !slices.Contains(want, name) {
			t.Errorf("the row %s is for a case that no message has", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		row := rows[name]
		for dialect, valid := range map[Dialect]bool{{}: row.documented, Linkerd: row.linkerd} {
			p, err := Parse(row.msg, dialect, nil)
			switch {
			case valid != (err == nil) || err != nil && !errors.Is(err, ErrInvalid):
				t.Errorf("%s (linkerd: %v): %v", name, dialect == Linkerd, err)
			case valid && row.look != nil && !row.look(p):
				t.Errorf("%s (linkerd: %v): is not what it says", name, dialect == Linkerd)
			}
		}
	}
}

// W-22: what a newer controller says beyond this program's knowledge invalidates
// the message, wherever it is; only an authentication of an unknown kind grants
// nothing by itself, and leaves the rest in force (section 19.1).
func TestWhatIsUnknownInAMessageIsNeverPassedOver(t *testing.T) {
	touched := map[protoreflect.FullName]bool{}
	for name, row := range shapes() {
		if !row.documented {
			continue
		}
		for i := 0; ; i++ {
			msg := proto.CloneOf(row.msg)
			n := i
			what := spoil(msg.ProtoReflect(), &n)
			if what == "" {
				break
			}
			touched[protoreflect.FullName(what)] = true
			p, err := Parse(msg, Dialect{}, nil)
			if authnMessages[protoreflect.FullName(what)] {
				if err != nil || p.Connection(from("10.0.0.1")) != nil {
					t.Errorf("%s with an unknown field in %s: %v", name, what, err)
				}
				continue
			}
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s with an unknown field in %s is taken for valid", name, what)
			}
		}
	}
	seen := map[protoreflect.FullName]bool{}
	cases((&pb.Server{}).ProtoReflect().Descriptor(), seen)
	for message := range seen {
		if !touched[message] && !unsent[message] {
			t.Errorf("no shape has a %s in it", message)
		}
	}
}

// unsent are messages that no row needs: they carry nothing that is decided by.
var unsent = map[protoreflect.FullName]bool{
	"io.linkerd.proxy.http_route.Ratio": true,
}

// spoil adds an unknown field to the n-th message below m and returns its name,
// or "" when there are fewer.
func spoil(m protoreflect.Message, n *int) (name string) {
	if *n == 0 {
		withUnknown(m.Interface())
		return string(m.Descriptor().FullName())
	}
	*n--
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := 0; i < value.List().Len() && name == ""; i++ {
				name = spoil(value.List().Get(i).Message(), n)
			}
		default:
			name = spoil(value.Message(), n)
		}
		return name == ""
	})
	return name
}

// N-09: in dialect linkerd an invalid message denies everybody everything, on
// this machine too, whatever was in force before.
func TestAnInvalidPolicyDeniesEverybody(t *testing.T) {
	p, err := InvalidPort(detectServer(nil, &pb.Authz{}), time.Second, Linkerd)
	if err != nil {
		t.Fatal(err)
	}
	if p.Server.Name != "invalid" || p.Protocol != Detect {
		t.Errorf("policy %v of protocol %v", p.Server, p.Protocol)
	}
	for _, addr := range []string{"127.0.0.1", "::1", "10.0.0.1"} {
		for _, state := range TLSStates {
			c := from(addr)
			c.TLS, c.Identity = state, "a.b"
			if d := p.Request(c, &Head{Method: "GET", Path: "/"}); d.Verdict != Deny || d.Permit != nil {
				t.Errorf("request from %s: %+v", addr, d)
			}
			if permit := p.Connection(c); permit != nil {
				t.Errorf("connection from %s: %+v", addr, permit)
			}
		}
	}
}
