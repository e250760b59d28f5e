package served

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// message is a policy as controllers tell it, in protojson.
const (
	anywhere = `"networks": [{"net": {"ip": {"ipv4": 0}}}, {"net": {"ip": {"ipv6": {}}}}]`
	audit    = `{` + anywhere + `, "authentication": {"unauthenticated": {}}, "labels": {"kind": "default", "name": "audit"}}`
	web      = `{"networks": [{"net": {"ip": {"ipv4": 167772160}, "prefixLen": 8}, "except": [{"ip": {"ipv4": 167837696}, "prefixLen": 16}, {"ip": {"ipv4": 167772161}, "prefixLen": 32}]}, {"net": {"ip": {"ipv6": {"first": "18230571291595767808"}}, "prefixLen": 8}}],
  "authentication": {"meshTLS": {"identities": {"identities": [{"name": "web.emojivoto.x"}], "suffixes": [{"parts": ["shop", "x"]}, {}]}}},
  "labels": {"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "web"}}`
	tls = `{` + anywhere + `, "authentication": {"meshTLS": {"unauthenticated": {}}}, "labels": {"group": "policy.linkerd.io", "kind": "authorizationpolicy", "name": "tls"}}`
)

func TestAnAnswerReadsAsText(t *testing.T) {
	for name, row := range map[string]struct {
		answer Answer
		server string
		want   string
	}{
		"a default server that is enforced": {
			Answer{Pod: "a/web-0", Port: 8080, Hash: "0123456789abcdef", Enforced: true, Proxy: Proxy{Hash: "0123456789abcdef"}, Controllers: []Controller{{Pod: "linkerd-destination-1", Hash: "0123456789abcdef"}}},
			`{"protocol": {"detect": {"timeout": "10s", "httpRoutes": [
  {"metadata": {"default": "default"}, "rules": [{"matches": [{"path": {"prefix": "/"}}]}]},
  {"metadata": {"default": "probe"}, "rules": [{"matches": [{"path": {"exact": "/live"}, "method": {"registered": "GET"}}]}], "authorizations": [` + audit + `]}]}},
 "authorizations": [` + audit + `], "labels": {"group": "", "kind": "default", "name": "audit"}}`,
			`
pod        a/web-0, port 8080
server     default/audit
protocol   detected, within 10s
enforced   yes, policy 0123456789 is in force in the pod's proxy
served by  linkerd-destination-1

authorizations of the server, which open every route
  default/audit  anybody  from anywhere

routes, in their order; what none of them matches is not found
  default/default
    matches  /...
  default/probe
    matches        GET /live
    default/audit  anybody  from anywhere
`},
		"routes with everything": {
			Answer{Pod: "a/web-0", Port: 80, Hash: "aa", Proxy: Proxy{Hash: "bb", Server: "default/deny"}, Controllers: []Controller{{Pod: "one", Hash: "cc"}, {Pod: "two", Hash: "aa"}}},
			`{"protocol": {"http1": {"routes": [{"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "api"}},
  "hosts": [{"exact": "a.b"}, {"suffix": {"reverseLabels": ["test", "example"]}}],
  "rules": [{"matches": [{"path": {"regex": "/a|/b"}, "headers": [{"name": "x", "exact": "eQ=="}], "queryParams": [{"name": "q", "exact": "1"}, {"name": "r", "regex": ".*"}]}],
    "filters": [{"redirect": {"host": "c.d", "path": {"full": "/e"}, "port": 81, "status": 302}}]}]},
  {"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "empty"}}}],
  "localRateLimit": {"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "HTTPLocalRateLimitPolicy", "name": "l"}}, "total": {"requestsPerSecond": 70}, "identity": {"requestsPerSecond": 5},
   "overrides": [{"limit": {"requestsPerSecond": 10}, "clients": {"identities": [{"name": "a"}, {"name": "b"}]}}]}}},
 "authorizations": [` + web + `, ` + tls + `], "labels": {"group": "policy.linkerd.io", "kind": "server", "name": "http"}}`,
			`
pod        a/web-0, port 80
server     server/http of policy.linkerd.io
protocol   HTTP/1
enforced   no, policy bb (default/deny) is in force in the pod's proxy, and policy aa is served
served by  one, which serves policy cc instead
           two

authorizations of the server, which open every route
  serverauthorization/web  web.emojivoto.x, *.shop.x, any identity  from 10.0.0.0/8 without 10.1.0.0/16 and 10.0.0.1/32, fd00::/8
  authorizationpolicy/tls  anybody over mesh TLS                    from anywhere

routes, in their order; what none of them matches is not found
  HTTPRoute/api of policy.linkerd.io
    hosts    a.b, *.example.test
    matches  path ~ /a|/b with x: y with ?q=1 with ?r ~ .*, then redirected with 302 to c.d/e port 81
  HTTPRoute/empty of policy.linkerd.io
    matches  nothing

rate limit HTTPLocalRateLimitPolicy/l of policy.linkerd.io
  all requests   70 per second
  each identity  5 per second
  a, b together  10 per second
`},
		"gRPC": {
			Answer{Pod: "a/b", Port: 1, Hash: "aa", Proxy: Proxy{Error: "it is gone"}, Controllers: []Controller{{Pod: "one", Hash: "aa"}}},
			`{"protocol": {"grpc": {"routes": [{"metadata": {"resource": {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "say"}},
  "rules": [{"matches": [{"rpc": {"service": "s.S"}}, {"rpc": {}, "headers": [{"name": "x", "regex": "y"}]}, {}], "filters": [{"requestHeaderModifier": {"set": {"headers": [{"name": "x", "value": "eQ=="}]}, "remove": ["z"]}}]}]}]}},
 "labels": {"group": "policy.linkerd.io", "kind": "server", "name": "grpc"}}`,
			`
pod        a/b, port 1
server     server/grpc of policy.linkerd.io
protocol   gRPC
enforced   unknown, the pod's proxy could not be asked: it is gone
served by  one

authorizations of the server, which open every route
  none: only localhost is admitted

routes, in their order; what none of them matches is not found
  GRPCRoute/say of gateway.networking.k8s.io
    matches  /s.S/*, then header x set to y, header z removed
    matches  /*/* with x ~ y, then header x set to y, header z removed
    matches  none: proxies refuse such a policy, then header x set to y, header z removed
`},
		"opaque, and a proxy that was told nothing": {
			Answer{Pod: "a/b", Port: 1, Hash: "aa", Controllers: []Controller{{Pod: "one", Hash: "aa"}}},
			`{"protocol": {"opaque": {}}, "labels": {"kind": "default", "name": "deny"}}`,
			`
pod        a/b, port 1
server     default/deny
protocol   opaque: nothing is looked into
enforced   no, the pod's proxy has been told no policy yet; policy aa is served
served by  one

authorizations of the server, which open every route
  none: only localhost is admitted
`},
	} {
		t.Run(name, func(t *testing.T) {
			row.answer.Server = []byte(row.server)
			var out strings.Builder
			if err := row.answer.Write(&out); err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for text := range strings.Lines("\n" + out.String()) {
				got.WriteString(strings.TrimRight(text, " \n") + "\n")
			}
			if diff := cmp.Diff(row.want, got.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestControllersAgreeWhenTheyServeTheSame(t *testing.T) {
	a := Answer{Hash: "aa", Controllers: []Controller{{Hash: "aa"}, {Hash: "aa"}}}
	if !a.Agree() {
		t.Error("equal hashes disagree")
	}
	a.Controllers[0].Hash = "bb"
	if a.Agree() {
		t.Error("different hashes agree")
	}
}

func TestAnAnswerThatIsNoPolicyIsAnError(t *testing.T) {
	if err := (Answer{Pod: "a/b", Port: 1, Server: []byte(`{"protocol": 1}`)}).Write(&strings.Builder{}); err == nil || !strings.Contains(err.Error(), "a/b port 1") {
		t.Errorf("got %v", err)
	}
}
