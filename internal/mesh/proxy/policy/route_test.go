package policy

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"github.com/linkerd/linkerd2-proxy-api/go/meta"
)

func exact(path string) *http_route.PathMatch {
	return &http_route.PathMatch{Kind: &http_route.PathMatch_Exact{Exact: path}}
}

func pathPrefixed(path string) *http_route.PathMatch {
	return &http_route.PathMatch{Kind: &http_route.PathMatch_Prefix{Prefix: path}}
}

func pathRegexp(expr string) *http_route.PathMatch {
	return &http_route.PathMatch{Kind: &http_route.PathMatch_Regex{Regex: expr}}
}

func method(m http_types.HttpMethod_Registered) *http_types.HttpMethod {
	return &http_types.HttpMethod{Type: &http_types.HttpMethod_Registered_{Registered: m}}
}

func route(kind, name string, matches ...*http_route.HttpRouteMatch) *pb.HttpRoute {
	r := &pb.HttpRoute{Rules: []*pb.HttpRoute_Rule{{Matches: matches}}}
	r.Metadata = &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Group: "policy.linkerd.io", Kind: kind, Name: name}}}
	if kind == "default" {
		r.Metadata = &meta.Metadata{Kind: &meta.Metadata_Default{Default: name}}
	}
	return r
}

// chosen is the name of the route a request gets, or "-".
func chosen(p *Port, head text) string {
	if head.Method == "" {
		head.Method = "GET"
	}
	d := p.Request(from("127.0.0.1"), head.head())
	switch d.Verdict {
	case Allow:
		return d.Route.Name
	case NotFound:
		return "-"
	}
	return d.Verdict.String()
}

// probeServer is what the controller serves for a default server with a probe (W-17).
func probeServer(serverAuthz ...*pb.Authz) *pb.Server {
	probe := route("default", "probe", &http_route.HttpRouteMatch{Path: exact("/healthz"), Method: method(http_types.HttpMethod_GET)})
	probe.Authorizations = []*pb.Authz{grant("probe", "10.0.0.0/8")}
	probe.Authorizations[0].Metadata = &meta.Metadata{Kind: &meta.Metadata_Default{Default: "probe"}}
	return detectServer([]*pb.HttpRoute{
		route("default", "default", &http_route.HttpRouteMatch{Path: pathPrefixed("/")}), probe,
	}, serverAuthz...)
}

func TestProbeRouteIsExactAndGetOnly(t *testing.T) {
	p := mustParse(t, probeServer(), Dialect{})
	for _, tt := range []struct {
		method, path, query string
		verdict             Verdict
		route               string
	}{
		{"GET", "/healthz", "", Allow, "probe"},
		{"GET", "/healthz", "x=1", Allow, "probe"},
		{"HEAD", "/healthz", "", Deny, "default"},
		{"POST", "/healthz", "", Deny, "default"},
		{"get", "/healthz", "", Deny, "default"},
		{"GET", "/healthz/", "", Deny, "default"},
		{"GET", "/healthz/x", "", Deny, "default"},
		{"GET", "/healthzz", "", Deny, "default"},
		{"GET", "//healthz", "", Deny, "default"},
		{"GET", "/x/../healthz", "", Deny, "default"},
		{"GET", "/%68ealthz", "", Deny, "default"},
		{"GET", "/", "", Deny, "default"},
	} {
		d := p.Request(from("10.0.0.1"), text{Method: tt.method, Path: tt.path, RawQuery: tt.query}.head())
		if d.Verdict != tt.verdict || d.Route.Name != tt.route {
			t.Errorf("%s %s: got %v on %v", tt.method, tt.path, d.Verdict, d.Route)
		}
	}
	// The route is chosen first: from elsewhere the probe route still is the one, and denies (P-13).
	if d := p.Request(from("11.0.0.1"), text{Method: "GET", Path: "/healthz"}.head()); d.Verdict != Deny || d.Route.Name != "probe" {
		t.Errorf("probe from outside: got %v on %v", d.Verdict, d.Route)
	}
	// A Server-level grant opens every route.
	open := mustParse(t, probeServer(grant("all", "0.0.0.0/0")), Dialect{})
	if d := open.Request(from("11.0.0.1"), text{Method: "GET", Path: "/healthz"}.head()); d.Verdict != Allow || d.Permit.Authz.Name != "all" {
		t.Errorf("probe from outside under a grant: got %+v", d)
	}
}

func TestPathsMatchWholeSegmentsAndWholeExpressions(t *testing.T) {
	for _, tt := range []struct {
		match *http_route.PathMatch
		yes   string
		no    string
	}{
		{exact("/a"), "/a", "/a/ /A /ab /a/b /"},
		{pathPrefixed("/a"), "/a /a/ /a/b", "/ab /A /"},
		{pathPrefixed("/a/"), "/a /a/ /a/b", "/ab"},
		{pathPrefixed("/"), "/ /x /x/y *", ""},
		{pathRegexp("/v[0-9]+/.*"), "/v1/ /v23/x/y", "/v/x /x/v1/ /v1"},
		{pathRegexp("/a|/b"), "/a /b", "/ab /bx /xa"},
	} {
		p := mustParse(t, detectServer([]*pb.HttpRoute{route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: tt.match})}), Dialect{})
		for path := range strings.FieldsSeq(tt.yes) {
			if got := chosen(p, text{Path: path}); got != "r" {
				t.Errorf("%v: %s got %s", tt.match, path, got)
			}
		}
		for path := range strings.FieldsSeq(tt.no) {
			if got := chosen(p, text{Path: path}); got != "-" {
				t.Errorf("%v: %s got %s", tt.match, path, got)
			}
		}
	}
}

func TestHeadersAndQueriesAreAllConsidered(t *testing.T) {
	header := &http_route.HeaderMatch{Name: "x-role", Value: &http_route.HeaderMatch_Exact{Exact: []byte("admin")}}
	query := &http_route.QueryParamMatch{Name: "v", Value: &http_route.QueryParamMatch_Exact{Exact: "1"}}
	p := mustParse(t, detectServer([]*pb.HttpRoute{
		route("HTTPRoute", "h", &http_route.HttpRouteMatch{Headers: []*http_route.HeaderMatch{header}}),
		route("HTTPRoute", "q", &http_route.HttpRouteMatch{QueryParams: []*http_route.QueryParamMatch{query}}),
	}), Dialect{})
	for _, tt := range []struct {
		headers []string
		query   string
		want    string
	}{
		{[]string{"admin"}, "", "h"}, {[]string{"admin", "admin"}, "", "h"},
		{[]string{"admin", "user"}, "", "-"}, {[]string{"user", "admin"}, "", "-"}, {[]string{"admin,user"}, "", "-"}, {nil, "", "-"},
		{nil, "v=1", "q"}, {nil, "v=1&v=2", "q"}, {nil, "v=2&v=1", "-"}, {nil, "v=%zz", "-"}, {nil, "a=1;v=1", "-"}, {nil, "x&v=1", "q"},
		{[]string{"admin"}, "v=1", "h"}, // more headers win over more queries (H-15)
	} {
		head := text{Path: "/", RawQuery: tt.query}
		for _, value := range tt.headers {
			head.Fields = append(head.Fields, "X-Role", value)
		}
		got := chosen(p, head)
		if got != tt.want {
			t.Errorf("%v ?%s: got %s, want %s", tt.headers, tt.query, got, tt.want)
		}
	}
}

func TestPrecedence(t *testing.T) {
	host := func(r *pb.HttpRoute, hosts ...string) *pb.HttpRoute {
		for _, h := range hosts {
			m := &http_route.HostMatch{Match: &http_route.HostMatch_Exact{Exact: h}}
			if suffix, ok := strings.CutPrefix(h, "*."); ok {
				labels := strings.Split(suffix, ".")
				for i, j := 0, len(labels)-1; i < j; i, j = i+1, j-1 {
					labels[i], labels[j] = labels[j], labels[i]
				}
				m.Match = &http_route.HostMatch_Suffix_{Suffix: &http_route.HostMatch_Suffix{ReverseLabels: labels}}
			}
			r.Hosts = append(r.Hosts, m)
		}
		return r
	}
	p := mustParse(t, detectServer([]*pb.HttpRoute{
		route("HTTPRoute", "root", &http_route.HttpRouteMatch{Path: pathPrefixed("/")}),
		route("HTTPRoute", "prefix", &http_route.HttpRouteMatch{Path: pathPrefixed("/abc")}),
		route("HTTPRoute", "exact", &http_route.HttpRouteMatch{Path: exact("/abc")}),
		route("HTTPRoute", "regex", &http_route.HttpRouteMatch{Path: pathRegexp("/abc/.*")}),
		route("HTTPRoute", "post", &http_route.HttpRouteMatch{Path: exact("/abc"), Method: method(http_types.HttpMethod_POST)}),
		host(route("HTTPRoute", "wild", &http_route.HttpRouteMatch{}), "*.example.com"),
		host(route("HTTPRoute", "wilder", &http_route.HttpRouteMatch{}), "*.a.example.com"),
		host(route("HTTPRoute", "host", &http_route.HttpRouteMatch{}), "b.a.example.com"),
	}), Dialect{})
	for _, tt := range []struct{ method, host, path, want string }{
		{"GET", "x", "/", "root"},
		{"GET", "x", "/abc", "prefix"}, // ties with exact: the first in the list (H-15)
		{"POST", "x", "/abc", "post"},
		{"GET", "x", "/abc/d", "regex"}, // a regex counts the whole path
		{"GET", "x.example.com", "/abc", "wild"},
		{"GET", "x.a.example.com", "/abc", "wilder"},
		{"GET", "B.A.Example.Com.:8080", "/abc", "host"},
		{"GET", "example.com", "/", "root"},
		{"GET", "xexample.com", "/", "root"},
	} {
		if got := chosen(p, text{Method: tt.method, Host: tt.host, Path: tt.path}); got != tt.want {
			t.Errorf("%s %s%s: got %s, want %s", tt.method, tt.host, tt.path, got, tt.want)
		}
	}
}

// The prefix / is as long as it is written: it ties with what matches / alone (H-15).
func TestTheShortestPrefixIsOneCharacterLong(t *testing.T) {
	get := &http_route.HttpRouteMatch{Path: pathPrefixed("/"), Method: method(http_types.HttpMethod_GET)}
	for _, other := range []*http_route.PathMatch{exact("/"), pathRegexp("/")} {
		p := mustParse(t, detectServer([]*pb.HttpRoute{
			route("HTTPRoute", "other", &http_route.HttpRouteMatch{Path: other}),
			route("HTTPRoute", "get", get),
			route("HTTPRoute", "none", &http_route.HttpRouteMatch{}),
		}), Dialect{})
		for method, want := range map[string]string{"GET": "get", "POST": "other"} {
			if got := chosen(p, text{Method: method, Path: "/"}); got != want {
				t.Errorf("%s / beside %v: got %s, want %s", method, other, got, want)
			}
		}
		p = mustParse(t, detectServer([]*pb.HttpRoute{
			route("HTTPRoute", "none", &http_route.HttpRouteMatch{}),
			route("HTTPRoute", "prefix", &http_route.HttpRouteMatch{Path: pathPrefixed("/")}),
			route("HTTPRoute", "other", &http_route.HttpRouteMatch{Path: other}),
		}), Dialect{})
		if got := chosen(p, text{Path: "/"}); got != "prefix" {
			t.Errorf("/ beside %v: got %s, not the first of those that tie", other, got)
		}
	}
}

// A probe is sent as it is written, and judged so beside the default route alone.
func TestProbePathsAreComparedAsTheyAreWritten(t *testing.T) { // P-03
	for _, path := range []string{"/a%2Cb", "//live", "/x/../live", "/live;v=1", "/l%69ve"} {
		msg := probeServer()
		msg.GetProtocol().GetDetect().GetHttpRoutes()[1].Rules[0].Matches[0].Path = exact(path)
		p := mustParse(t, msg, Dialect{})
		if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: path}.head()); d.Verdict != Allow || d.Path != nil {
			t.Errorf("%s: got %+v", path, d)
		}
		if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/live"}.head()); d.Verdict != Deny {
			t.Errorf("/live beside a probe of %s: got %+v", path, d)
		}
	}
}

func TestChosenRouteIsFinal(t *testing.T) {
	narrow := route("HTTPRoute", "narrow", &http_route.HttpRouteMatch{Path: exact("/secret")})
	wide := route("HTTPRoute", "wide", &http_route.HttpRouteMatch{Path: pathPrefixed("/")})
	wide.Authorizations = []*pb.Authz{grant("wide", "0.0.0.0/0")}
	p := mustParse(t, detectServer([]*pb.HttpRoute{narrow, wide}), Dialect{})
	if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/secret"}.head()); d.Verdict != Deny {
		t.Errorf("/secret: got %+v", d)
	}
	if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/other"}.head()); d.Verdict != Allow {
		t.Errorf("/other: got %+v", d)
	}
}

func TestPathsAreJudgedByTheirOneMeaning(t *testing.T) {
	secret := route("HTTPRoute", "secret", &http_route.HttpRouteMatch{Path: pathPrefixed("/admin")})
	rest := route("HTTPRoute", "rest", &http_route.HttpRouteMatch{Path: pathPrefixed("/")})
	msg := detectServer([]*pb.HttpRoute{secret, rest})
	documented, raw := mustParse(t, msg, Dialect{}), mustParse(t, msg, Linkerd)
	for path, want := range map[string]string{
		"/admin": "secret", "//admin": "secret", "/./admin": "secret", "/x/../admin": "secret", "/admin/.": "secret",
		"/%61dmin": "secret", "/%2e%2e/admin": "ambiguous", "/x/%2E%2e/admin": "secret", "/ADMIN": "rest", "/adm": "rest",
		"/%2561dmin": "rest", "/a%20b": "rest", "/a%c3%a9": "rest",
		"/x%2fadmin": "ambiguous", "/x%5cadmin": "ambiguous", `/x\admin`: "ambiguous", "/admin;x=1": "ambiguous", "/..;/admin": "ambiguous",
		"/%c0%ae": "ambiguous", "/%00": "ambiguous", "/a%": "ambiguous", "/a%g0": "ambiguous", "/\x80": "ambiguous", "/a#b": "ambiguous",
		"/../admin": "ambiguous", "admin": "ambiguous", "*": "rest",
	} {
		if got := chosen(documented, text{Path: path}); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := chosen(raw, text{Path: "//admin"}); got != "rest" {
		t.Errorf("dialect linkerd: got %s", got)
	}
	if d := documented.Request(from("127.0.0.1"), text{Path: "/x/..//%61dmin"}.head()); string(d.Path) != "/admin" {
		t.Errorf("forwarded path: %q", d.Path)
	}
	if d := documented.Request(from("127.0.0.1"), text{Path: "/admin/%20"}.head()); d.Path != nil {
		t.Errorf("a path that is normal is forwarded as %q", d.Path)
	}
	if d := mustParse(t, probeServer(), Dialect{}).Request(from("127.0.0.1"), text{Path: "//x"}.head()); d.Path != nil {
		t.Error("a port without path routes must leave paths alone")
	}
}

// A server that decodes a path sees the same whether a comma was escaped or not: so
// does a route, however it is written. The application gets the escapes as sent.
func TestEscapesOfWhatMayStandPlainlyChangeNoVerdict(t *testing.T) {
	for _, tt := range []struct{ route, yes, no string }{
		{"/a,b", "/a,b /a%2cb /a%2Cb /%61,b", "/a%252Cb /a/b /ab"},
		{"/a%2Cb", "/a,b /a%2cb", "/a%252Cb"},
		{"/user/a@b:1", "/user/a%40b%3A1 /user/%61@b%3a1", "/user/a%40b"},
		{"/a%5Bb%5D", "/a[b] /a%5bb]", "/ab"},
		{"/a+b", "/a+b /a%2Bb", "/a%20b"},
		{"/a%20b", "/a%20b", "/a+b"},
	} {
		for _, match := range []*http_route.PathMatch{exact(tt.route), pathPrefixed(tt.route)} {
			p := mustParse(t, detectServer([]*pb.HttpRoute{route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: match})}), Dialect{})
			for path := range strings.FieldsSeq(tt.yes) {
				if got := chosen(p, text{Path: path}); got != "r" {
					t.Errorf("%v: %s got %s", match, path, got)
				}
			}
			for path := range strings.FieldsSeq(tt.no) {
				if got := chosen(p, text{Path: path}); got != "-" {
					t.Errorf("%v: %s got %s", match, path, got)
				}
			}
		}
	}
	p := mustParse(t, detectServer([]*pb.HttpRoute{route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: pathPrefixed("/a,b")})}), Dialect{})
	for sent, want := range map[string]string{"/a%2Cb/%40": "", "/a%2cb": "/a%2Cb", "/%61%2Cb/[": "/a%2Cb/["} {
		if d := p.Request(from("127.0.0.1"), text{Path: sent}.head()); d.Verdict != Allow || string(d.Path) != want {
			t.Errorf("%s is forwarded as %q: %+v", sent, d.Path, d)
		}
	}
}

func TestNormalPathIsStable(t *testing.T) {
	for _, path := range []string{"/", "/a/b/", "/%61//./b/../c", "/%7e/%20/%C3%a9", "/a/.", "/a/..", "*"} {
		once, ok := NormalPath([]byte(path), nil)
		if !ok {
			t.Errorf("%s: ambiguous", path)
			continue
		}
		if twice, ok := NormalPath(once, nil); !ok || string(twice) != string(once) {
			t.Errorf("%s: once %q, twice %q", path, once, twice)
		}
	}
}

func TestGRPCRoutesMatchServiceAndMethod(t *testing.T) {
	r := func(name, service, method string) *pb.GrpcRoute {
		return &pb.GrpcRoute{
			Metadata: &meta.Metadata{Kind: &meta.Metadata_Resource{Resource: &meta.Resource{Kind: "GRPCRoute", Name: name}}},
			Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{
				Rpc: &grpc_route.GrpcRpcMatch{Service: service, Method: method},
			}}}},
		}
	}
	msg := &pb.Server{Protocol: &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{Routes: []*pb.GrpcRoute{
		r("service", "a.B", ""), r("both", "a.B", "C"), r("method", "", "Only"),
	}}}}}
	p := mustParse(t, msg, Dialect{})
	for _, tt := range []struct{ method, path, want string }{
		{"POST", "/a.B/C", "both"}, {"POST", "/a.B/D", "service"}, {"POST", "/x.Y/Only", "method"},
		{"POST", "/a.b/C", "-"}, {"GET", "/a.B/C", "-"}, {"POST", "/a.B", "-"}, {"POST", "/a.B/C/D", "-"}, {"POST", "//C", "-"}, {"POST", "/x/y", "-"},
	} {
		if got := chosen(p, text{Method: tt.method, Path: tt.path}); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
	// An application may read C in any of these (Go's own server decodes them).
	for _, path := range []string{"/a.B/%43", "/a%2EB/C", "/a.B/C;x", "/a.B/./C", "/x/../a.B/C", "/a.B/C?", "/a.B/C%00", "/a.B/\\C", "/a.B/%2e"} {
		if got := chosen(p, text{Method: "POST", Path: path}); got != "-" {
			t.Errorf("%s: got %s", path, got)
		}
	}
	if got := chosen(mustParse(t, msg, Linkerd), text{Method: "POST", Path: "/a.B/%43"}); got != "service" {
		t.Errorf("dialect linkerd: got %s", got)
	}
	open := &pb.Server{Protocol: &pb.ProxyProtocol{Kind: &pb.ProxyProtocol_Grpc_{Grpc: &pb.ProxyProtocol_Grpc{Routes: []*pb.GrpcRoute{
		{Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{}}}}},
	}}}}}
	if _, err := Parse(open, Linkerd, nil); err == nil {
		t.Error("a match without rpc is valid in dialect linkerd")
	}
	if got := chosen(mustParse(t, open, Dialect{}), text{Method: "POST", Path: "/any/Thing"}); got == "-" {
		t.Error("a match without rpc does not match any rpc")
	}
}

func TestFilters(t *testing.T) {
	r := route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: pathPrefixed("/old")})
	r.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_Redirect{Redirect: &http_route.RequestRedirect{
		Host: "new.example", Path: &http_route.PathModifier{Replace: &http_route.PathModifier_Prefix{Prefix: "/new"}},
	}}}}
	p := mustParse(t, detectServer([]*pb.HttpRoute{r}), Dialect{})
	d := p.Request(from("127.0.0.1"), text{Method: "GET", Path: "/old/x", RawQuery: "q=1", Host: "old.example:80"}.head())
	if d.Verdict != Redirect || d.Status != 302 || d.Location != "http://new.example/new/x?q=1" || d.Permit == nil {
		t.Errorf("redirect: got %+v", d)
	}
	if d := p.Request(from("10.0.0.1"), text{Method: "GET", Path: "/old/x"}.head()); d.Verdict != Deny {
		t.Errorf("redirect before authorization: got %+v", d)
	}

	r.Rules[0].Matches[0].Path = pathPrefixed("/")
	p = mustParse(t, detectServer([]*pb.HttpRoute{r}), Dialect{})
	if d := p.Request(from("127.0.0.1"), text{Method: "OPTIONS", Path: "*"}.head()); d.Location != "http://new.example/new" {
		t.Errorf("redirect of OPTIONS *: got %+v", d)
	}
	r.Rules[0].Matches[0].Path = pathPrefixed("/old")

	r.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &http_route.RequestHeaderModifier{
		Add:    &http_types.Headers{Headers: []*http_types.Headers_Header{{Name: "x-a", Value: []byte("2")}}},
		Set:    &http_types.Headers{Headers: []*http_types.Headers_Header{{Name: "x-b", Value: []byte("new")}}},
		Remove: []string{"X-C"},
	}}}}
	p = mustParse(t, detectServer([]*pb.HttpRoute{r}), Dialect{})
	d = p.Request(from("127.0.0.1"), text{Method: "GET", Path: "/old"}.head())
	if d.Verdict != Allow || d.Edits == nil {
		t.Fatalf("modifier: got %+v", d)
	}
	want := &Edits{Remove: []string{"x-c"}, Set: []Header{{Name: "x-b", Value: "new"}}, Append: []Header{{Name: "x-a", Value: "2"}}}
	if diff := cmp.Diff(want, d.Edits); diff != "" {
		t.Errorf("edits (-want +got):\n%s", diff)
	}

	r.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_FailureInjector{FailureInjector: &http_route.HttpFailureInjector{Status: 418}}}}
	p = mustParse(t, detectServer([]*pb.HttpRoute{r}), Dialect{})
	if d := p.Request(from("127.0.0.1"), text{Method: "GET", Path: "/old"}.head()); d.Verdict != Fault {
		t.Errorf("failure injector: got %+v", d)
	}
}

func TestRateLimits(t *testing.T) {
	limited := func(total, identity uint32, overrides ...*pb.HttpLocalRateLimit_Override) *pb.Server {
		msg := detectServer(nil, grant("all", "0.0.0.0/0"))
		limit := &pb.HttpLocalRateLimit{Overrides: overrides}
		if total > 0 {
			limit.Total = &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: total}
		}
		if identity > 0 {
			limit.Identity = &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: identity}
		}
		msg.Protocol.GetDetect().HttpLocalRateLimit = limit
		return msg
	}
	start := time.Unix(1000, 0)
	// allowed counts how many of n requests at once pass.
	allowed := func(p *Port, identity string, n int, at time.Time) int {
		c := from("10.0.0.1")
		if identity != "" {
			c.TLS, c.Identity = Terminated, identity
		}
		count := 0
		for range n {
			if d := p.Request(c, text{Method: "GET", Path: "/", Now: at}.head()); d.Verdict == Allow {
				count++
			} else if d.Verdict != Limited {
				t.Fatalf("got %+v", d)
			}
		}
		return count
	}
	p := mustParse(t, limited(5, 0), Dialect{})
	if got := allowed(p, "", 20, start); got != 5 {
		t.Errorf("burst: %d of 20", got)
	}
	if got := allowed(p, "", 20, start.Add(200*time.Millisecond)); got != 1 {
		t.Errorf("after a fifth of a second: %d", got)
	}
	if got := allowed(p, "", 20, start.Add(time.Hour)); got != 5 {
		t.Errorf("after a long time: %d", got)
	}
	p = mustParse(t, limited(0, 2, &pb.HttpLocalRateLimit_Override{
		Limit:   &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 4},
		Clients: &pb.HttpLocalRateLimit_Override_ClientIdentities{Identities: []*pb.Identity{{Name: "a"}, {Name: "b"}}},
	}), Dialect{})
	if a, b, c, d, none := allowed(p, "a", 3, start), allowed(p, "b", 3, start), allowed(p, "c", 3, start), allowed(p, "d", 3, start), allowed(p, "", 3, start); a != 3 || b != 1 || c != 2 || d != 2 || none != 2 {
		t.Errorf("overrides share a bucket, others have their own: %d %d %d %d %d", a, b, c, d, none)
	}

	// An unrelated update keeps the buckets, in dialect linkerd it does not.
	for _, dialect := range []Dialect{{}, Linkerd} {
		msg := limited(5, 0)
		old := mustParse(t, msg, dialect)
		allowed(old, "", 5, start)
		msg.Authorizations = append(msg.Authorizations, grant("more", "1.0.0.0/8"))
		next, err := Parse(msg, dialect, old)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if dialect.ResetRateLimits {
			want = 5
		}
		if got := allowed(next, "", 20, start); got != want {
			t.Errorf("after an update, reset %v: %d", dialect.ResetRateLimits, got)
		}
	}
}
