package index

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshproof/meshproof/internal/policy/api"
)

var gatewayMeta = metav1.TypeMeta{APIVersion: api.GatewayGroup + "/v1", Kind: api.HTTPRouteKind}

// mkRoute is an HTTPRoute of policy.linkerd.io for path /NAME that the Servers have
// accepted.
func mkRoute(name string, servers ...string) *api.HTTPRoute {
	r := &api.HTTPRoute{ObjectMeta: meta(name)}
	r.Spec.Rules = []api.HTTPRouteRule{{Matches: []api.HTTPRouteMatch{{Path: &api.HTTPPathMatch{Type: new(api.MatchExact), Value: new("/" + name)}}}}}
	for _, server := range servers {
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, parentServer(server))
		r.Status.Parents = append(r.Status.Parents, accept(parentServer(server), metav1.ConditionTrue))
	}
	return r
}

func mkGRPCRoute(name string, servers ...string) *api.GRPCRoute {
	r := &api.GRPCRoute{ObjectMeta: meta(name)}
	for _, server := range servers {
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, parentServer(server))
		r.Status.Parents = append(r.Status.Parents, accept(parentServer(server), metav1.ConditionTrue))
	}
	return r
}

// exactly is the route that mkRoute makes, as it is served.
func exactly(kind Kind, name string) HTTPRoute {
	return HTTPRoute{Reference: Reference{kind, name}, Rules: []HTTPRule{{Matches: []HTTPMatch{{Path: PathMatch{Exact, "/" + name}}}}}}
}

// routes names the routes of pod voting's port.
func (x *Index) routes(t *testing.T) (names []string) {
	t.Helper()
	server := x.at(t, "voting", 8080)
	for _, r := range server.HTTPRoutes {
		names = append(names, r.Reference.Name)
	}
	for _, r := range server.GRPCRoutes {
		names = append(names, r.Reference.Name)
	}
	return names
}

// C-27, S-05: spec and status must both name the Server.
func TestARouteCountsForServersThatItNamesAndThatAcceptedIt(t *testing.T) {
	for _, row := range []struct {
		name string
		edit func(*api.HTTPRoute)
		want string
	}{
		{"as it should be", func(r *api.HTTPRoute) {}, "r"},
		{"without status", func(r *api.HTTPRoute) { r.Status = api.RouteStatus{} }, "default"},
		{"not accepted", func(r *api.HTTPRoute) { r.Status.Parents[0].Conditions[0].Status = metav1.ConditionFalse }, "default"},
		{"another condition", func(r *api.HTTPRoute) { r.Status.Parents[0].Conditions[0].Type = "ResolvedRefs" }, "default"},
		{"accepted by another controller", func(r *api.HTTPRoute) { r.Status.Parents[0].ControllerName = "example.com/x" }, "default"},
		{"accepted by another controller too", func(r *api.HTTPRoute) {
			other := accept(parentServer("grpc"), metav1.ConditionFalse)
			other.ControllerName = "example.com/x"
			r.Status.Parents = append([]api.RouteParentStatus{other}, r.Status.Parents...)
		}, "r"},
		{"accepted by another Server", func(r *api.HTTPRoute) { r.Status.Parents[0].ParentRef.Name = "x" }, "default"},
		{"accepted for another namespace", func(r *api.HTTPRoute) { r.Status.Parents[0].ParentRef.Namespace = new("x") }, "default"},
		{"the status names the namespace", func(r *api.HTTPRoute) { r.Status.Parents[0].ParentRef.Namespace = new(ns) }, "r"},
		{"the parent names the namespace", func(r *api.HTTPRoute) { r.Spec.ParentRefs[0].Namespace = new(ns) }, "r"},
		{"no longer a parent", func(r *api.HTTPRoute) { r.Spec.ParentRefs = nil }, "default"},
		{"C-27 the kind left out", func(r *api.HTTPRoute) { r.Spec.ParentRefs[0].Kind = nil }, "default"},
		{"the group left out, which is the route's own", func(r *api.HTTPRoute) { r.Spec.ParentRefs[0].Group = nil }, "r"},
		{"the group left out in the Gateway API", func(r *api.HTTPRoute) { r.TypeMeta, r.Spec.ParentRefs[0].Group = gatewayMeta, nil }, "default"},
		{"a Service as parent too", func(r *api.HTTPRoute) {
			r.Spec.ParentRefs = append(r.Spec.ParentRefs, api.ParentReference{Group: new("core"), Kind: new("Service"), Name: "s", Namespace: new("x"), Port: new(int32(80))})
		}, "r"},
		{"X-52 a Server of another namespace too", func(r *api.HTTPRoute) {
			other := parentServer("grpc")
			other.Namespace = new("x")
			r.Spec.ParentRefs = append(r.Spec.ParentRefs, other)
		}, "default"},
		{"X-52 a port", func(r *api.HTTPRoute) { r.Spec.ParentRefs[0].Port = new(int32(80)) }, "default"},
		{"X-52 a section", func(r *api.HTTPRoute) { r.Spec.ParentRefs[0].SectionName = new("x") }, "default"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
				x := mkIndex(dialect, nil)
				route := mkRoute("r", "grpc")
				row.edit(route)
				x.apply(mkPod("voting"), grpcServer(), route)
				if got := x.routes(t); !slices.Equal(got, []string{row.want}) {
					t.Errorf("%s: got %v, want %s", dialect, got, row.want)
				}
			}
		})
	}
}

// X-53, P-07, X-56: accepted routes, oldest first, instead of the built-in ones.
func TestAcceptedRoutesTakeThePlaceOfTheBuiltInOnes(t *testing.T) {
	x := mkIndex(api.Linkerd(), nil)
	x.apply(mkPod("voting", withProbe("/up", 8080)), grpcServer())
	builtIn := []HTTPRoute{defaultRoute, probeRoute("/up")}
	served := func(when string, want ...HTTPRoute) {
		t.Helper()
		if diff := cmp.Diff(want, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
			t.Errorf("%s: -want +got\n%s", when, diff)
		}
	}
	served("without routes", builtIn...)
	b, a, old := mkRoute("b", "grpc"), mkRoute("a", "grpc"), mkRoute("z", "grpc")
	old.CreationTimestamp = metav1.NewTime(epoch.Add(-time.Second))
	gateway := mkRoute("b", "grpc", "other")
	gateway.TypeMeta = gatewayMeta
	x.apply(b)
	served("with one", exactly(PolicyHTTPRoute, "b"))
	x.apply(a, old, gateway)
	served("with some", exactly(PolicyHTTPRoute, "z"), exactly(GatewayHTTPRoute, "b"), exactly(PolicyHTTPRoute, "a"), exactly(PolicyHTTPRoute, "b"))
	x.remove(a, b, gateway)
	served("with the oldest", exactly(PolicyHTTPRoute, "z"))
	x.remove(old)
	served("without routes again", builtIn...)
}

// each kind of route for its protocols, on others it changes nothing.
func TestRoutesCountOnServersOfTheirProtocolOnly(t *testing.T) {
	for _, protocol := range api.ProxyProtocols() {
		gateway := mkRoute("gateway", "grpc")
		gateway.TypeMeta = gatewayMeta
		x := mkIndex(api.Documented(), nil)
		x.apply(mkPod("voting"), grpcServer(speaking(protocol)), mkRoute("policy", "grpc"), gateway, mkGRPCRoute("rpc", "grpc"))
		var want []string
		switch protocol {
		case api.ProtocolUnknown, api.ProtocolHTTP1, api.ProtocolHTTP2:
			want = []string{"gateway", "policy"}
		case api.ProtocolGRPC:
			want = []string{"rpc"}
		}
		if got := x.routes(t); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", protocol, got, want)
		}
	}
}

// H-12 to H-15 need all of this, too.
func TestARouteIsServedAsItIsWritten(t *testing.T) {
	route := mkRoute("r", "grpc")
	route.Spec.Hostnames = []api.Hostname{"A.example", "*.b.example"}
	route.Spec.Rules = []api.HTTPRouteRule{
		{}, {
			Matches: []api.HTTPRouteMatch{{}, {
				Path:    &api.HTTPPathMatch{Type: new(api.MatchRegularExpression), Value: new("/a.*")},
				Headers: []api.HTTPValueMatch{{Name: "x", Value: "1"}, {Type: new(api.MatchRegularExpression), Name: "y", Value: "2+"}}, Method: new(api.HTTPMethod("POST")),
				QueryParams: []api.HTTPValueMatch{{Name: "q", Value: "3"}},
			}},
			Filters: []api.HTTPRouteFilter{
				{Type: api.FilterRequestHeaderModifier, RequestHeaderModifier: &api.HeaderModifier{
					Set: []api.HTTPHeader{{Name: "s", Value: "1"}}, Add: []api.HTTPHeader{{Name: "a", Value: "2"}}, Remove: []string{"r"}}},
				{Type: api.FilterResponseHeaderModifier, ResponseHeaderModifier: &api.HeaderModifier{Remove: []string{"r"}}},
				{Type: api.FilterRequestRedirect, RequestRedirect: &api.RequestRedirect{
					Scheme: new("https"), Hostname: new("h"), Port: new(int32(8443)), StatusCode: new(301), Path: &api.HTTPPathModifier{Type: "ReplacePrefixMatch", ReplacePrefixMatch: new("/n")}}},
			},
			BackendRefs: []api.HTTPBackendReference{{BackendReference: api.BackendReference{Name: "elsewhere"}}},
			Timeouts:    &api.HTTPRouteTimeouts{Request: new("1s")},
		},
	}
	all := PathMatch{Prefix, "/"}
	want := HTTPRoute{
		Reference: Reference{PolicyHTTPRoute, "r"}, Hosts: []HostMatch{{"a.example", false}, {"b.example", true}},
		Rules: []HTTPRule{{Matches: []HTTPMatch{{Path: all}}}, {
			Matches: []HTTPMatch{{Path: all}, {
				Path: PathMatch{Regex, "/a.*"}, Headers: []ValueMatch{{"x", "1", false}, {"y", "2+", true}}, QueryParams: []ValueMatch{{"q", "3", false}}, Method: "POST"}},
			Filters: []Filter{
				{Headers: &HeaderModifier{Set: []Header{{"s", "1"}}, Add: []Header{{"a", "2"}}, Remove: []string{"r"}}},
				{Redirect: &Redirect{Scheme: "https", Host: "h", Port: 8443, Status: 301, Path: new("/n"), PrefixOnly: true}},
			},
		}},
	}
	empty := mkRoute("s", "grpc")
	empty.Spec.Rules = nil
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(), route, empty)
	if diff := cmp.Diff([]HTTPRoute{want, {Reference: Reference{PolicyHTTPRoute, "s"}}}, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// X-58, W-21: where Linkerd tells proxies something that was not meant.
func TestQuirksOfRoutesAreThoseOfLinkerdsDialect(t *testing.T) {
	headerOnly := mkGRPCRoute("r", "grpc")
	headerOnly.Spec.Rules = []api.GRPCRouteRule{{}, {Matches: []api.GRPCRouteMatch{
		{Headers: []api.HTTPValueMatch{{Name: "x", Value: "1"}}}, {Method: &api.GRPCMethodMatch{Method: new("Vote")}}, {Method: &api.GRPCMethodMatch{Service: new("s"), Method: new("m")}},
	}}}
	redirect := mkRoute("r", "grpc")
	redirect.Spec.Rules[0].Filters = []api.HTTPRouteFilter{{Type: api.FilterRequestRedirect, RequestRedirect: &api.RequestRedirect{Path: &api.HTTPPathModifier{Type: "ReplaceFullPath", ReplaceFullPath: new("/x")}}}}
	for dialect, want := range map[api.Dialect]struct {
		rpc    *RPCMatch
		status uint32
	}{api.Documented(): {&RPCMatch{}, 302}, api.Linkerd(): {nil, 200}} {
		x := mkIndex(dialect, nil)
		x.apply(mkPod("voting"), grpcServer(speaking(api.ProtocolGRPC)), headerOnly)
		rules := []GRPCRule{
			{Matches: []GRPCMatch{{RPC: &RPCMatch{}}}},
			{Matches: []GRPCMatch{{RPC: want.rpc, Headers: []ValueMatch{{"x", "1", false}}}, {RPC: &RPCMatch{Method: "Vote"}}, {RPC: &RPCMatch{"s", "m"}}}},
		}
		if diff := cmp.Diff(rules, x.at(t, "voting", 8080).GRPCRoutes[0].Rules, equateValues); diff != "" {
			t.Errorf("%s: -want +got\n%s", dialect, diff)
		}
		x = mkIndex(dialect, nil)
		x.apply(mkPod("voting"), grpcServer(), redirect)
		filters := []Filter{{Redirect: &Redirect{Path: new("/x"), Status: want.status}}}
		if diff := cmp.Diff(filters, x.at(t, "voting", 8080).HTTPRoutes[0].Rules[0].Filters, equateValues); diff != "" {
			t.Errorf("%s: -want +got\n%s", dialect, diff)
		}
	}
}

// some filters have the whole route left out, as if it did not exist; in
// Linkerd's dialect the version before stays.
func TestARouteWithAnUnsupportedFilterIsLeftOut(t *testing.T) {
	for _, kind := range []api.FilterType{api.FilterRequestMirror, api.FilterURLRewrite, api.FilterExtensionRef} {
		for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
			x := mkIndex(dialect, nil)
			bad, other := mkRoute("r", "grpc"), mkRoute("other", "grpc")
			bad.Spec.Rules[0].Filters = []api.HTTPRouteFilter{{Type: kind}}
			x.apply(mkPod("voting"), grpcServer(), bad, other)
			told := func(when string, want ...string) {
				t.Helper()
				if got := x.routes(t); !slices.Equal(got, want) {
					t.Errorf("%s, %s, %s: got %v, want %v", kind, dialect, when, got, want)
				}
			}
			told("beside another", "other")
			x.remove(other)
			told("alone", "default")
			x.apply(mkRoute("r", "grpc"))
			told("valid", "r")
			x.apply(bad)
			if dialect.InvalidRevokes {
				told("after an update", "default")
			} else {
				told("after an update", "r")
			}
			if kind == api.FilterURLRewrite {
				continue
			}
			rpc := mkGRPCRoute("rpc", "grpc")
			rpc.Spec.Rules = []api.GRPCRouteRule{{Filters: []api.GRPCRouteFilter{{Type: kind}}}}
			x.apply(grpcServer(speaking(api.ProtocolGRPC)), rpc)
			told("GRPCRoute", "default")
		}
	}
}

// A route that got past the webhook and cannot be understood must not bring back
// the built-in one, which would open what the route had closed.
func TestARouteThatCannotBeUnderstoodOpensNothing(t *testing.T) {
	path := func(kind api.MatchType, value string) func(*api.HTTPRoute) {
		return func(r *api.HTTPRoute) {
			r.Spec.Rules[0].Matches[0].Path = &api.HTTPPathMatch{Type: &kind, Value: &value}
		}
	}
	filter := func(f api.HTTPRouteFilter) func(*api.HTTPRoute) {
		return func(r *api.HTTPRoute) { r.Spec.Rules[0].Filters = []api.HTTPRouteFilter{f} }
	}
	redirect := func(f api.RequestRedirect) func(*api.HTTPRoute) {
		return filter(api.HTTPRouteFilter{Type: api.FilterRequestRedirect, RequestRedirect: &f})
	}
	modifier := func(f api.HeaderModifier) func(*api.HTTPRoute) {
		return filter(api.HTTPRouteFilter{Type: api.FilterRequestHeaderModifier, RequestHeaderModifier: &f})
	}
	headers := func(m api.HTTPValueMatch) func(*api.HTTPRoute) {
		return func(r *api.HTTPRoute) { r.Spec.Rules[0].Matches[0].Headers = []api.HTTPValueMatch{m} }
	}
	for name, edit := range map[string]func(*api.HTTPRoute){
		"an exact path without slash":   path(api.MatchExact, "a"),
		"a prefix without slash":        path(api.MatchPathPrefix, "a"),
		"a regex that does not compile": path(api.MatchRegularExpression, "("),
		"an unknown sort of path":       path("Glob", "/*"),
		"an unknown sort of header":     headers(api.HTTPValueMatch{Type: new(api.MatchPathPrefix), Name: "x", Value: "y"}),
		"a header's regex":              headers(api.HTTPValueMatch{Type: new(api.MatchRegularExpression), Name: "x", Value: "["}),
		"a header's name":               headers(api.HTTPValueMatch{Name: "x y", Value: "["}),
		"a header without name":         headers(api.HTTPValueMatch{Value: "["}),
		"a parameter's regex": func(r *api.HTTPRoute) {
			r.Spec.Rules[0].Matches[0].QueryParams = []api.HTTPValueMatch{{Type: new(api.MatchRegularExpression), Name: "x", Value: "["}}
		},
		"an unknown filter":           filter(api.HTTPRouteFilter{Type: "Teapot"}),
		"a filter without its body":   filter(api.HTTPRouteFilter{Type: api.FilterRequestRedirect}),
		"a modifier without its body": filter(api.HTTPRouteFilter{Type: api.FilterRequestHeaderModifier}),
		"a modifier's name":           modifier(api.HeaderModifier{Set: []api.HTTPHeader{{Name: "a b"}}}),
		"a modifier's value":          modifier(api.HeaderModifier{Add: []api.HTTPHeader{{Name: "a", Value: "\n"}}}),
		"a name to remove":            modifier(api.HeaderModifier{Remove: []string{":path"}}),
		"a redirect that is none":     redirect(api.RequestRedirect{StatusCode: new(200)}),
		"a redirect's port":           redirect(api.RequestRedirect{Port: new(int32(0))}),
		"a redirect's path":           redirect(api.RequestRedirect{Path: &api.HTTPPathModifier{Type: "ReplaceFullPath", ReplaceFullPath: new("x")}}),
		"a redirect without path":     redirect(api.RequestRedirect{Path: &api.HTTPPathModifier{Type: "ReplacePrefixMatch"}}),
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := mkRoute("r", "grpc"), mkRoute("r", "grpc")
			edit(bad)
			grant := mkPolicy("p", api.LocalTargetReference{Group: api.Group, Kind: api.HTTPRouteKind, Name: "r"})
			for _, dialect := range []api.Dialect{api.Documented(), api.Linkerd()} {
				x := mkIndex(dialect, nil)
				x.apply(mkPod("voting"), grpcServer(), bad, grant)
				want := []HTTPRoute{{Reference: Reference{PolicyHTTPRoute, "r"}}}
				if !dialect.InvalidRevokes {
					want = []HTTPRoute{defaultRoute}
				}
				if diff := cmp.Diff(want, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
					t.Errorf("%s, never valid: -want +got\n%s", dialect, diff)
				}
				x.apply(good)
				before := x.at(t, "voting", 8080).HTTPRoutes
				if len(before) != 1 || len(before[0].Rules) != 1 || len(before[0].Authorizations) != 1 {
					t.Errorf("%s: valid, there is %v", dialect, before)
				}
				x.apply(bad)
				if !dialect.InvalidRevokes {
					want = before
				}
				if diff := cmp.Diff(want, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
					t.Errorf("%s, after an update: -want +got\n%s", dialect, diff)
				}
			}
		})
	}
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(), mkRoute("r", "grpc"))
	x.Update(func(tx *Tx) {
		tx.SetRoute(PolicyHTTPRoute, ns, "r", NewUnreadableRouteSpec("uid-r", epoch, fmt.Errorf("a number")))
	})
	if diff := cmp.Diff([]HTTPRoute{{Reference: Reference{PolicyHTTPRoute, "r"}}}, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
		t.Errorf("with fields of other types: -want +got\n%s", diff)
	}
}

// A Server that cannot be understood admits nobody by way of its routes either.
func TestAClosedServersRoutesGrantNothing(t *testing.T) {
	x := mkIndex(api.Documented(), nil)
	x.apply(mkPod("voting"), grpcServer(), mkRoute("r", "grpc"), mkPolicy("p", api.LocalTargetReference{Group: api.Group, Kind: api.HTTPRouteKind, Name: "r"}))
	if len(x.at(t, "voting", 8080).HTTPRoutes[0].Authorizations) != 1 {
		t.Fatal("the route grants nothing to begin with")
	}
	x.apply(grpcServer(speaking("http")))
	if diff := cmp.Diff([]HTTPRoute{exactly(PolicyHTTPRoute, "r")}, x.at(t, "voting", 8080).HTTPRoutes, equateValues); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
