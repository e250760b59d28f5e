package policy

import (
	"testing"
	"time"

	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
)

// P14: whatever a policy looks at, a decision allocates nothing once the Head has served before.
func TestADecisionAllocatesNothing(t *testing.T) {
	looks := &http_route.HttpRouteMatch{
		Path:        pathRegexp("/looks/.*"),
		Headers:     []*http_route.HeaderMatch{{Name: "X-Role", Value: &http_route.HeaderMatch_Regex{Regex: "adm.n"}}},
		QueryParams: []*http_route.QueryParamMatch{{Name: "v", Value: &http_route.QueryParamMatch_Exact{Exact: "1 2"}}},
		Method:      method(http_types.HttpMethod_GET),
	}
	hosts := route("HTTPRoute", "hosts", &http_route.HttpRouteMatch{Path: pathPrefixed("/hosts")})
	hosts.Hosts = []*http_route.HostMatch{{Match: &http_route.HostMatch_Suffix_{Suffix: &http_route.HostMatch_Suffix{ReverseLabels: []string{"example"}}}}}
	hosts.Authorizations = []*pb.Authz{grant("own", "10.0.0.0/8")}
	modified := route("HTTPRoute", "modified", &http_route.HttpRouteMatch{Path: exact("/modified")})
	modified.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &http_route.RequestHeaderModifier{Remove: []string{"x"}}}}}
	msg := detectServer([]*pb.HttpRoute{route("HTTPRoute", "looks", looks), hosts, modified}, grant("all", "11.0.0.0/8"))
	msg.Protocol.GetDetect().HttpLocalRateLimit = &pb.HttpLocalRateLimit{
		Total:    &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1 << 30},
		Identity: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1 << 30},
	}
	p := mustParse(t, msg, Dialect{})
	for _, tt := range []struct {
		name    string
		client  string
		head    text
		verdict Verdict
		route   string
	}{
		{"path, query and header", "11.0.0.1", text{Path: "/looks/%20x", RawQuery: "a=%41&v=1+2", Fields: []string{"x-role", "admin", "x", "y"}}, Allow, "looks"},
		{"host", "10.0.0.1", text{Path: "/hosts", Host: "A.Example:80"}, Allow, "hosts"},
		{"path with dots", "11.0.0.1", text{Path: "/a/..//modified"}, Allow, "modified"},
		{"denied", "12.0.0.1", text{Path: "/modified"}, Deny, "modified"},
		{"no route", "11.0.0.1", text{Path: "/other"}, NotFound, ""},
		{"ambiguous", "11.0.0.1", text{Path: "/a%2fb"}, Ambiguous, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.head.Method, tt.head.Now = "GET", time.Unix(1, 0)
			head, c := tt.head.head(), from(tt.client)
			c.TLS, c.Identity = Terminated, "web.ns.id"
			var d Decision
			allocs := testing.AllocsPerRun(200, func() { d = p.Request(c, head) })
			if d.Verdict != tt.verdict || d.Route.Name != tt.route {
				t.Fatalf("got %+v", d)
			}
			if allocs > 0 {
				t.Errorf("%.0f allocations", allocs)
			}
		})
	}
	if allocs := testing.AllocsPerRun(200, func() { p.Connection(from("11.0.0.1")) }); allocs > 0 {
		t.Errorf("a connection: %.0f allocations", allocs)
	}
}

// A path as long as a head may be must not stay with an idle connection.
func TestScratchOfLongPathsIsNotKept(t *testing.T) {
	p := mustParse(t, detectServer([]*pb.HttpRoute{route("HTTPRoute", "r", &http_route.HttpRouteMatch{Path: pathPrefixed("/a")})}), Dialect{})
	long := make([]byte, 2*maxScratch)
	for i := range long {
		long[i] = '/'
	}
	head := text{Method: "GET"}.head()
	head.Path = append(long, 'a')
	if d := p.Request(from("127.0.0.1"), head); d.Verdict != Allow || string(d.Path) != "/a" {
		t.Fatalf("got %+v", d)
	}
	head.Path = []byte("/a//b")
	if d := p.Request(from("127.0.0.1"), head); d.Verdict != Allow || string(d.Path) != "/a/b" || cap(head.Scratch) > maxScratch {
		t.Errorf("got %+v with %d bytes kept", d, cap(head.Scratch))
	}
}
