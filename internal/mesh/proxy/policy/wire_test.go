package policy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy/policytest"
)

// asks tells the verdict for a request of a neighbour.
func asks(want Verdict, head text) func(*Port) bool {
	return func(p *Port) bool {
		if head.Method == "" {
			head.Method = "GET"
		}
		return p.Request(from("10.0.0.1"), head.head()).Verdict == want
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
		return p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/old", Host: "a.b"}.head()).Location == want
	}
}

// looks tell of each shape that is valid whether it became what it says.
func looks() map[string]func(*Port) bool {
	header := func(value string) text { return text{Path: "/", Fields: []string{"X-A", value}} }
	return map[string]func(*Port) bool{
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/detect": speaks(Detect),
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/opaque": speaks(Opaque),
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/tls":    speaks(TLS),
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/http1":  speaks(HTTP1),
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/http2":  speaks(HTTP2),
		"io.linkerd.proxy.inbound.ProxyProtocol.kind/grpc":   speaks(GRPC),
		"io.linkerd.proxy.meta.Metadata.kind/default":        func(p *Port) bool { return p.routes[0].Ref == Ref{Kind: "default", Name: "probe"} },
		"io.linkerd.proxy.meta.Metadata.kind/resource":       func(p *Port) bool { return p.routes[0].Ref == Ref{"g", "HTTPRoute", "r"} },
		"io.linkerd.proxy.meta.Metadata.kind/":               func(p *Port) bool { return p.routes[0].Ref == Ref{} },
		"io.linkerd.proxy.http_route.HostMatch.match/exact":  asks(Allow, text{Path: "/", Host: "A.B:80"}),
		"io.linkerd.proxy.http_route.HostMatch.match/suffix": asks(Allow, text{Path: "/", Host: "x.a.b"}),
		"io.linkerd.proxy.net.IPAddress.ip/ipv4":             asks(Allow, text{Path: "/"}),
		"io.linkerd.proxy.net.IPAddress.ip/ipv6": func(p *Port) bool {
			return p.Connection(from("fd00::1")) != nil && p.Connection(from("fd00::2")) == nil
		},
		"io.linkerd.proxy.inbound.Authn.permit/unauthenticated":                  asks(Allow, text{Path: "/"}),
		"io.linkerd.proxy.inbound.Authn.permit/meshTLS":                          identified("a.b"),
		"io.linkerd.proxy.inbound.Authn.PermitMeshTLS.clients/unauthenticated":   identified(""),
		"io.linkerd.proxy.inbound.Authn.PermitMeshTLS.clients/identities":        identified("any.name"),
		"io.linkerd.proxy.http_route.PathMatch.kind/exact":                       asks(NotFound, text{Path: "/a/b"}),
		"io.linkerd.proxy.http_route.PathMatch.kind/prefix":                      asks(Allow, text{Path: "/a/b"}),
		"io.linkerd.proxy.http_route.PathMatch.kind/regex":                       asks(Allow, text{Path: "/aaa"}),
		"io.linkerd.proxy.http_route.HeaderMatch.value/exact":                    asks(Allow, header("v")),
		"io.linkerd.proxy.http_route.HeaderMatch.value/regex":                    asks(Allow, header("vv")),
		"io.linkerd.proxy.http_route.QueryParamMatch.value/exact":                asks(Allow, text{Path: "/", RawQuery: "q=v"}),
		"io.linkerd.proxy.http_route.QueryParamMatch.value/regex":                asks(Allow, text{Path: "/", RawQuery: "q=vv"}),
		"io.linkerd.proxy.http_types.HttpMethod.type/registered":                 asks(Allow, text{Method: "PUT", Path: "/"}),
		"io.linkerd.proxy.http_types.HttpMethod.type/unregistered":               asks(Allow, text{Method: "BREW", Path: "/"}),
		"io.linkerd.proxy.inbound.HttpRoute.Filter.kind/failure_injector":        asks(Fault, text{Path: "/"}),
		"io.linkerd.proxy.inbound.HttpRoute.Filter.kind/request_header_modifier": asks(Allow, text{Path: "/"}),
		"io.linkerd.proxy.inbound.HttpRoute.Filter.kind/redirect":                asks(Redirect, text{Path: "/"}),
		"io.linkerd.proxy.inbound.GrpcRoute.Filter.kind/failure_injector":        asks(Fault, text{Method: "POST", Path: "/a/b"}),
		"io.linkerd.proxy.inbound.GrpcRoute.Filter.kind/request_header_modifier": asks(Allow, text{Method: "POST", Path: "/a/b"}),
		"io.linkerd.proxy.http_types.Scheme.type/registered":                     location("https://a.b/old"),
		"io.linkerd.proxy.http_types.Scheme.type/unregistered":                   location("gopher://a.b/old"),
		"io.linkerd.proxy.http_types.Scheme.type/":                               location("http://a.b/old"),
		"io.linkerd.proxy.http_route.PathModifier.replace/full":                  location("http://a.b/new"),
		"io.linkerd.proxy.http_route.PathModifier.replace/prefix":                asks(Fault, text{Path: "/old"}),
		"io.linkerd.proxy.http_route.PathModifier.replace/":                      location("http://a.b/old"),
		"W-16: old-style names":                                                  func(p *Port) bool { return p.Server == Ref{Kind: "default", Name: "deny"} },
		"W-17, H-18: no routes": func(p *Port) bool {
			d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/"}.head())
			return d.Verdict == Allow && d.Route == Ref{Kind: "default", Name: "default"}
		},
		"W-19: a limit": func(p *Port) bool {
			head := text{Method: "GET", Path: "/", Now: time.Unix(1, 0)}.head()
			first, second := p.Request(from("10.0.0.1"), head), p.Request(from("10.0.0.1"), head)
			return p.LimitRef() == Ref{"policy.linkerd.io", "HTTPLocalRateLimitPolicy", "l"} && first.Verdict == Allow && second.Verdict == Limited && second.LimitScope == "identity"
		},
		"W-21: a redirect without a status": func(p *Port) bool {
			want := map[Dialect]int{{}: 302, Linkerd: 301}[p.dialect]
			return p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/"}.head()).Status == want
		},
		"W-21: a redirect with status 200": func(p *Port) bool {
			d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/", Host: "a.b"}.head())
			return d.Status == 200 && d.Location == "http://a.b/"
		},
		"W-24: a gRPC match without rpc": asks(Allow, text{Method: "POST", Path: "/a/b"}),
		"W-24: a gRPC match of any rpc":  asks(Allow, text{Method: "POST", Path: "/a/b"}),
		"X-59: a route without rules":    asks(NotFound, text{Path: "/"}),
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
	rows, seen := policytest.Shapes(), looks()
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
		look := seen[name]
		if (look != nil) != row.Documented {
			t.Errorf("%s is valid, and nobody looks what became of it, or the other way round", name)
		}
		for dialect, valid := range map[Dialect]bool{{}: row.Documented, Linkerd: row.Linkerd} {
			p, err := Parse(row.Message, dialect, nil)
			switch {
			case valid != (err == nil) || err != nil && !errors.Is(err, ErrInvalid):
				t.Errorf("%s (linkerd: %v): %v", name, dialect == Linkerd, err)
			case valid && look != nil && !look(p):
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
	for name, row := range policytest.Shapes() {
		if !row.Documented {
			continue
		}
		for i := 0; ; i++ {
			msg := proto.CloneOf(row.Message)
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
			if d := p.Request(c, text{Method: "GET", Path: "/"}.head()); d.Verdict != Deny || d.Permit != nil {
				t.Errorf("request from %s: %+v", addr, d)
			}
			if permit := p.Connection(c); permit != nil {
				t.Errorf("connection from %s: %+v", addr, permit)
			}
		}
	}
}
