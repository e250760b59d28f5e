package oracle_test

import (
	"net/netip"

	"github.com/meshproof/meshproof/internal/policy/oracle"
)

// open is the Server http with a grant for everybody, so that only routes matter.
var open = []string{server("http", "http"), saz("a", byName, anyone)}

func opened(more ...string) []string { return append(append([]string{}, open...), more...) }

// openGRPC is the same for gRPC.
func openGRPC(more ...string) []string {
	return append([]string{server("grpc", "grpc", "proxyProtocol: gRPC"), saz("a", "{name: grpc}", anyone)}, more...)
}

func paths(value string) string { return "rules: [{matches: [{path: {value: " + value + "}}]}]" }

// routeRows are sections 5.4 and 8.
var routeRows = []row{
	{rules: "X-53", claim: "without routes the default route has everything", objects: opened(), ask: "GET /any", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "X-53 H-16 N-03", claim: "with a route other requests have none", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /b", from: "unmeshed", want: oracle.NotFound},
	{rules: "X-51", claim: "the route of the Server", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /a", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "X-51", claim: "a route of another Server", objects: opened(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: other}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "X-51", claim: "a route of another namespace", objects: opened(in("elsewhere", httpRoute("r", paths("/a")))), ask: "GET /b", from: "unmeshed", want: oracle.Delivered},
	{rules: "C-27", claim: "a parent without kind is a Gateway", objects: opened(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{name: http}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "C-29 X-51", claim: "a route of the Gateway API needs the Server's group", objects: opened(object("gateway.networking.k8s.io/v1", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: http}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered},
	{rules: "C-29 X-51", claim: "and then it counts as well", objects: opened(gatewayRoute("r", paths("/a"))), ask: "GET /b", from: "unmeshed", want: oracle.NotFound},
	{rules: "X-52", claim: "a parent with a port spoils the route", objects: opened(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: http, port: 8080}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered},
	{rules: "X-52", claim: "so does a section of another parent", objects: opened(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: http}, {kind: Server, name: x, sectionName: y}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered},
	{rules: "X-52", claim: "and a namespace that is another", objects: opened(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: http, namespace: elsewhere}, {kind: Server, name: http}], "+paths("/a")+"}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered},
	{rules: "X-54", claim: "an HTTPRoute means nothing to gRPC", objects: openGRPC(object("policy.linkerd.io/v1beta3", "HTTPRoute", "r", "{parentRefs: [{kind: Server, name: grpc}], "+paths("/a")+"}")), port: "grpc", ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "X-54", claim: "a GRPCRoute means nothing to HTTP", objects: opened(object("gateway.networking.k8s.io/v1", "GRPCRoute", "r", "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}], rules: [{matches: [{method: {service: x.Y}}]}]}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "S-06", claim: "an HTTPRoute is not accepted beside a GRPCRoute", objects: opened(httpRoute("r", paths("/a")), object("gateway.networking.k8s.io/v1", "GRPCRoute", "g", "{parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}], rules: [{matches: [{method: {service: x.Y}}]}]}")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "X-55", claim: "a filter that does not work spoils the route", objects: opened(gatewayRoute("r", "rules: [{matches: [{path: {value: /a}}], filters: [{type: URLRewrite, urlRewrite: {hostname: x}}]}]")), ask: "GET /b", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "X-55", claim: "and leaves the others", objects: opened(gatewayRoute("r", "rules: [{matches: [{path: {value: /a}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: x, port: 80}}}]}]"), httpRoute("s", paths("/b"))), ask: "GET /a", from: "unmeshed", want: oracle.NotFound},
	{rules: "X-55", claim: "a modifier of headers does not", objects: opened(httpRoute("r", "rules: [{matches: [{path: {value: /a}}], filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}]}]")), ask: "GET /a", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "X-56 H-15", claim: "of two equal matches the older route has it", objects: opened(at(late, httpRoute("a", paths("/x"))), at(early, httpRoute("b", paths("/x")))), ask: "GET /x", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "X-56", claim: "of two as old the one whose name comes first", objects: opened(httpRoute("b", paths("/x")), httpRoute("a", paths("/x"))), ask: "GET /x", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/a"},
	{rules: "X-57", claim: "backends and time-outs of a Server's route have no effect", objects: opened(httpRoute("r", "rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: elsewhere, port: 80}], timeouts: {request: 1ms}}]")), ask: "GET /a", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "X-58 N-09", claim: "a match by headers alone works", in: onlyDocumented, objects: openGRPC(grpcRoute("r", "rules: [{matches: [{headers: [{name: a, value: b}]}]}]")), port: "grpc", ask: "grpc /x.Y/Z", headers: []string{"A: b"}, from: "unmeshed", want: oracle.Delivered},
	{rules: "X-58 N-09", claim: "a match by headers alone spoils the policy", in: onlyLinkerd, objects: openGRPC(grpcRoute("r", "rules: [{matches: [{headers: [{name: a, value: b}]}]}]")), port: "grpc", ask: "grpc /x.Y/Z", headers: []string{"A: b"}, from: "unmeshed", want: oracle.PermissionDenied},
	{rules: "X-58 N-09", claim: "even for localhost", in: onlyLinkerd, objects: openGRPC(grpcRoute("r", "rules: [{matches: [{headers: [{name: a, value: b}]}]}]")), port: "grpc", ask: "grpc /x.Y/Z", headers: []string{"A: b"}, from: "localhost", want: oracle.PermissionDenied},
	{rules: "X-59", claim: "a route without rules matches nothing", objects: opened(httpRoute("r", "rules: []")), ask: "GET /", from: "unmeshed", want: oracle.NotFound},
	{rules: "C-28", claim: "a rule without matches has every path", objects: opened(httpRoute("r", "rules: [{}]")), ask: "GET /any", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-12", claim: "a host", objects: opened(httpRoute("r", "hostnames: [a.example], "+paths("/"))), ask: "GET /", headers: []string{"Host: A.example.:8080"}, from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-12", claim: "another host", objects: opened(httpRoute("r", "hostnames: [a.example], "+paths("/"))), ask: "GET /", headers: []string{"Host: b.example"}, from: "unmeshed", want: oracle.NotFound},
	{rules: "H-12", claim: "a suffix of hosts", objects: opened(httpRoute("r", "hostnames: [\"*.example\"], "+paths("/"))), ask: "GET /", headers: []string{"Host: x.a.example"}, from: "unmeshed", want: oracle.Delivered},
	{rules: "H-12", claim: "wants one more label", objects: opened(httpRoute("r", "hostnames: [\"*.example\"], "+paths("/"))), ask: "GET /", headers: []string{"Host: example"}, from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13", claim: "a prefix has its own path", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /a", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-13", claim: "with a slash", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /a/", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-13", claim: "and what is below", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /a/b?c=d", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-13", claim: "not what only begins alike", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /ab", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13", claim: "the slash of a prefix is ignored", objects: opened(httpRoute("r", paths("/a/"))), ask: "GET /a", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-13", claim: "an exact path is the whole path", objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: Exact, value: /a}}]}]")), ask: "GET /a/", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13", claim: "without its query", objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: Exact, value: /a}}]}]")), ask: "GET /a?b", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-13", claim: "an expression matches all of it", objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: RegularExpression, value: \"/a[0-9]\"}}]}]")), ask: "GET /a12", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13", claim: "and then it matches", objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: RegularExpression, value: \"/a[0-9]+\"}}]}]")), ask: "GET /a12", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-14", claim: "a header", objects: opened(httpRoute("r", "rules: [{matches: [{headers: [{name: X-Who, value: me}]}]}]")), ask: "GET /", headers: []string{"x-who: me"}, from: "unmeshed", want: oracle.Delivered},
	{rules: "H-14", claim: "another value of it", objects: opened(httpRoute("r", "rules: [{matches: [{headers: [{name: X-Who, value: me}]}]}]")), ask: "GET /", headers: []string{"x-who: you"}, from: "unmeshed", want: oracle.NotFound},
	{rules: "H-14", claim: "an expression over a header", objects: opened(httpRoute("r", "rules: [{matches: [{headers: [{type: RegularExpression, name: x-who, value: \"m.\"}]}]}]")), ask: "GET /", headers: []string{"x-who: me"}, from: "unmeshed", want: oracle.Delivered},
	{rules: "H-14", claim: "a parameter", objects: opened(httpRoute("r", "rules: [{matches: [{queryParams: [{name: a, value: b}]}]}]")), ask: "GET /?a=b", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-14", claim: "a method", objects: opened(httpRoute("r", "rules: [{matches: [{method: POST}]}]")), ask: "GET /", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-14", claim: "all of a match must hold", objects: opened(httpRoute("r", "rules: [{matches: [{method: GET, headers: [{name: a, value: b}]}]}]")), ask: "GET /", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-14", claim: "one of a rule's matches is enough", objects: opened(httpRoute("r", "rules: [{matches: [{method: POST}, {method: GET}]}]")), ask: "GET /", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-15", claim: "a host beats a longer path", objects: opened(httpRoute("a", paths("/long/path")), httpRoute("b", "hostnames: [x.example], "+paths("/"))), ask: "GET /long/path", headers: []string{"Host: x.example"}, from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "H-15", claim: "an exact host beats a suffix", objects: opened(httpRoute("a", "hostnames: [\"*.very.long.example\"], "+paths("/")), httpRoute("b", "hostnames: [x.very.long.example], "+paths("/"))), ask: "GET /", headers: []string{"Host: x.very.long.example"}, from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "H-15", claim: "a longer path beats headers", objects: opened(httpRoute("a", "rules: [{matches: [{headers: [{name: a, value: b}]}]}]"), httpRoute("b", paths("/x"))), ask: "GET /x", headers: []string{"a: b"}, from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "H-15", claim: "exact and prefix of one length tie, and the older has it", objects: opened(at(early, httpRoute("z", paths("/x"))), at(late, httpRoute("a", "rules: [{matches: [{path: {type: Exact, value: /x}}]}]"))), ask: "GET /x", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/z"},
	{rules: "H-15", claim: "headers beat parameters", objects: opened(httpRoute("a", "rules: [{matches: [{queryParams: [{name: a, value: b}, {name: c, value: d}]}]}]"), httpRoute("b", "rules: [{matches: [{headers: [{name: a, value: b}]}]}]")), ask: "GET /?a=b&c=d", headers: []string{"a: b"}, from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "H-15", claim: "a method is the last to count", objects: opened(httpRoute("a", paths("/x")), httpRoute("b", "rules: [{matches: [{path: {value: /x}, method: GET}]}]")), ask: "GET /x", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/b"},
	{rules: "H-16 H-10", claim: "the chosen route is final, although the next one would admit the client", objects: []string{server("http", "http"), httpRoute("r", paths("/a")), httpRoute("s", paths("/a/b")), grant("p", toRoute)}, ask: "GET /a/b", from: "unmeshed", want: oracle.Forbidden, route: "HTTPRoute/s"},
	{rules: "H-17", claim: "a call by its service", objects: openGRPC(grpcRoute("r", "rules: [{matches: [{method: {service: x.Y}}]}]")), port: "grpc", ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.Delivered, route: "GRPCRoute/r"},
	{rules: "H-17 N-03", claim: "a call of another service", objects: openGRPC(grpcRoute("r", "rules: [{matches: [{method: {service: x.Y}}]}]")), port: "grpc", ask: "grpc /x.y/Z", from: "unmeshed", want: oracle.GRPCNotFound},
	{rules: "H-17", claim: "a call by its method", objects: openGRPC(grpcRoute("r", "rules: [{matches: [{method: {method: Z}}]}]")), port: "grpc", ask: "grpc /any.Thing/Z", from: "unmeshed", want: oracle.Delivered, route: "GRPCRoute/r"},
	{rules: "H-17", claim: "an empty match is every call", objects: openGRPC(grpcRoute("r", "rules: [{}]")), port: "grpc", ask: "grpc /any.Thing/Z", from: "unmeshed", want: oracle.Delivered, route: "GRPCRoute/r"},
	{rules: "H-17 P-08", claim: "GET is no call", objects: openGRPC(), port: "grpc", ask: "h2 GET /x.Y/Z", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-15 H-17", claim: "of two routes the one that names more has the call", objects: openGRPC(grpcRoute("a", "rules: [{matches: [{method: {service: x.Y}}]}]"), grpcRoute("b", "rules: [{matches: [{method: {service: x.Y, method: Z}}]}]")), port: "grpc", ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.Delivered, route: "GRPCRoute/b"},
	{rules: "H-13 19.1-paths", claim: "dots in a path are resolved", in: onlyDocumented, objects: []string{server("http", "http"), httpRoute("r", paths("/public")), httpRoute("s", paths("/private")), grant("p", toRoute)}, ask: "GET /public/../private", from: "unmeshed", want: oracle.Forbidden, route: "HTTPRoute/s"},
	{rules: "H-13 19.1-paths", claim: "dots in a path are raw", in: onlyLinkerd, objects: []string{server("http", "http"), httpRoute("r", paths("/public")), httpRoute("s", paths("/private")), grant("p", toRoute)}, ask: "GET /public/../private", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 19.1-paths", claim: "doubled slashes and needless escapes are resolved", in: onlyDocumented, objects: opened(httpRoute("r", paths("/a/b"))), ask: "GET //%61//b/./c", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 19.1-paths", claim: "an escaped slash could mean two things", in: onlyDocumented, objects: opened(httpRoute("r", paths("/a"))), ask: "GET /a%2Fb", from: "unmeshed", want: oracle.BadRequest},
	{rules: "H-13 19.1-paths", claim: "an escape that could be spared is the plain character", in: onlyDocumented, objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: Exact, value: \"/a,b\"}}]}]")), ask: "GET /a%2Cb", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 19.1-paths", claim: "in a route's own path too", in: onlyDocumented, objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: Exact, value: /x/../a%2cb%5b}}]}]")), ask: "GET /a,b[", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 19.1-paths", claim: "an escape is not the plain character", in: onlyLinkerd, objects: opened(httpRoute("r", "rules: [{matches: [{path: {type: Exact, value: \"/a,b\"}}]}]")), ask: "GET /a%2Cb", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13 19.1-paths", claim: "nothing is above the root", in: onlyDocumented, objects: opened(httpRoute("r", paths("/a"))), ask: "GET /../a", from: "unmeshed", want: oracle.BadRequest},
	{rules: "H-13 19.1-paths", claim: "dots above the root are raw", in: onlyLinkerd, objects: opened(httpRoute("r", paths("/.."))), ask: "GET /../a", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 19.1-paths", claim: "a route whose own path could mean two things matches nothing", in: onlyDocumented, objects: opened(httpRoute("r", paths("/a%2Fb"))), ask: "GET /a/b", from: "unmeshed", want: oracle.NotFound},
	{rules: "H-13 19.1-paths", claim: "where no route looks at paths, none is refused", objects: opened(httpRoute("r", "rules: [{matches: [{headers: [{name: a, value: b}]}, {path: {value: //}}]}]")), ask: "GET /a%2Fb;c/../..", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "X-53", claim: "the default route is for any path", objects: opened(), ask: "GET /a%2Fb;c/../..", from: "unmeshed", want: oracle.Delivered, route: "default/default"},
	{rules: "H-13 C-28", claim: "the prefix of the root is every path, and of one character", objects: opened(at(early, httpRoute("r", "rules: [{}]")), at(late, httpRoute("s", "rules: [{matches: [{path: {type: Exact, value: /}}]}]"))), ask: "GET /", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-13 H-15", claim: "the slash of a prefix is not counted either", objects: opened(at(early, httpRoute("r", paths("/a"))), at(late, httpRoute("s", paths("/a/")))), ask: "GET /a/b", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "H-14", claim: "all values of a header must fit", objects: opened(httpRoute("r", "rules: [{matches: [{headers: [{name: x-who, value: me}]}]}]")), ask: "GET /", headers: []string{"x-who: me", "X-Who: you"}, from: "unmeshed", want: oracle.NotFound},
	{rules: "H-17 19.1-paths", claim: "what could be written in another way names no call", in: onlyDocumented, objects: openGRPC(grpcRoute("r", "rules: [{matches: [{method: {service: x.Y}}]}]")), port: "grpc", ask: "grpc /x.Y/%5A", from: "unmeshed", want: oracle.GRPCNotFound},
	{rules: "H-17 19.1-paths", claim: "a call is named as it is written", in: onlyLinkerd, objects: openGRPC(grpcRoute("r", "rules: [{matches: [{method: {service: x.Y}}]}]")), port: "grpc", ask: "grpc /x.Y/%5A", from: "unmeshed", want: oracle.Delivered},
	{rules: "H-03 19.1-paths", claim: "where routes look at paths a tunnel has none", in: onlyDocumented, objects: opened(httpRoute("r", "rules: [{matches: [{method: CONNECT}, {path: {value: /a}}]}]")), ask: "CONNECT /", from: "unmeshed", want: oracle.BadRequest},
	{rules: "H-03", claim: "a route for tunnels", objects: opened(httpRoute("r", "rules: [{matches: [{method: CONNECT}]}]")), ask: "CONNECT /", from: "unmeshed", want: oracle.Delivered, route: "HTTPRoute/r"},
}

const (
	probes   = "readinessProbe: {httpGet: {path: \"/ready?full=1\", port: http}}, livenessProbe: {httpGet: {path: /live, port: 8080}}"
	onServer = "proxyProtocol: HTTP/1"
)

func denied(pod string) string { return withPolicy("deny", pod) }

// probeRows are section 6.
var probeRows = []row{
	{rules: "P-01 P-04 P-06 P-14 DOC-37", claim: "without a Server a probe is let in under deny", pod: denied(podProbed(probes)), ask: "GET /live", from: outside, want: oracle.Delivered, by: "default/probe", route: "default/probe"},
	{rules: "P-01", claim: "a startup probe too, of an initContainer too", pod: denied(`{apiVersion: v1, kind: Pod, metadata: {name: app, namespace: ns}, spec: {containers: [{name: app}], initContainers: [{name: side, restartPolicy: Always, ports: [{name: http, containerPort: 8080}], startupProbe: {httpGet: {path: /up, port: http}}}]}}`), ask: "GET /up", from: "unmeshed", want: oracle.Delivered},
	{rules: "P-01", claim: "a probe that is no HTTP request adds nothing", pod: denied(podProbed("readinessProbe: {tcpSocket: {port: 8080}}, livenessProbe: {exec: {command: [x]}}")), ask: "GET /", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-01 P-10 DOC-37", claim: "a gRPC probe is a call like others", pod: denied(podProbed("readinessProbe: {grpc: {port: 8081}}")), port: "grpc", ask: "grpc /grpc.health.v1.Health/Check", from: "unmeshed", want: oracle.PermissionDenied},
	{rules: "P-02", claim: "a port by name, ignoring case", pod: denied(podProbed("readinessProbe: {httpGet: {path: /r, port: HTTP}}")), ask: "GET /r", from: "unmeshed", want: oracle.Delivered},
	{rules: "P-02", claim: "a name of another container is nobody's", pod: denied(podProbed("readinessProbe: {httpGet: {path: /r, port: extra}}")), port: "8082", ask: "GET /r", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-02", claim: "a number of another container is its port", pod: denied(podProbed("readinessProbe: {httpGet: {path: /r, port: 8082}}")), port: "8082", ask: "GET /r", from: "unmeshed", want: oracle.Delivered},
	{rules: "P-03 U-02", claim: "a probe's query does not matter", pod: denied(podProbed(probes)), ask: "GET /ready?other=2", from: "unmeshed", want: oracle.Delivered},
	{rules: "P-03", claim: "a path that is none is not let in", pod: denied(podProbed("readinessProbe: {httpGet: {path: healthz, port: http}}")), ask: "GET /healthz", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-03 P-04", claim: "a probe is compared as it is sent", pod: denied(podProbed("readinessProbe: {httpGet: {path: /x/..//r%2Cs, port: http}}")), ask: "GET /x/..//r%2Cs", from: "unmeshed", want: oracle.Delivered, route: "default/probe"},
	{rules: "P-04", claim: "and what applications take for the same is none", pod: denied(podProbed("readinessProbe: {httpGet: {path: /x/..//r%2Cs, port: http}}")), ask: "GET /r,s", from: "unmeshed", want: oracle.Forbidden, route: "default/default"},
	{rules: "P-03", claim: "a probe's fragment is not sent", pod: denied(podProbed("readinessProbe: {httpGet: {path: \"/r#s\", port: http}}")), ask: "GET /r", from: "unmeshed", want: oracle.Delivered, route: "default/probe"},
	{rules: "P-03", claim: "what is no path of a URI is not let in", pod: denied(podProbed("readinessProbe: {httpGet: {path: /é, port: http}}")), ask: "GET /é", from: "unmeshed", want: oracle.Forbidden, route: "default/default"},
	{rules: "P-03", claim: "without a path it is the root", pod: denied(podProbed("readinessProbe: {httpGet: {port: http}}")), ask: "GET /", from: "unmeshed", want: oracle.Delivered, route: "default/probe"},
	{rules: "P-04", claim: "what is below is no probe", pod: denied(podProbed(probes)), ask: "GET /live/x", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-04 P-13", claim: "another method is no probe", pod: denied(podProbed(probes)), ask: "HEAD /live", from: "unmeshed", want: oracle.Forbidden, route: "default/default"},
	{rules: "P-05", claim: "probes come from the probe networks", pod: denied(podProbed(probes)), ask: "GET /live", from: outside, set: narrowProbes, want: oracle.Forbidden, route: "default/probe"},
	{rules: "P-05 D-05", claim: "without probe networks there are none", pod: denied(podProbed(probes)), ask: "GET /live", from: "unmeshed", set: func(s *oracle.Settings) { s.ProbeNetworks = nil }, want: oracle.Forbidden, route: "default/default"},
	{rules: "P-13", claim: "a client from elsewhere is judged by the default policy on the probe's route", pod: podProbed(probes), ask: "GET /live", from: outside, set: narrowProbes, want: oracle.Delivered, by: "default/all-unauthenticated", route: "default/probe"},
	{rules: "P-06 DOC-38", claim: "with a Server a probe needs an authorization", in: onlyDocumented, pod: podProbed(probes), objects: []string{server("http", "http", onServer)}, ask: "GET /live", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-06 X-11", claim: "with a Server a probe is let in as well", in: onlyLinkerd, pod: podProbed(probes), objects: []string{server("http", "http", onServer)}, ask: "GET /live", from: "unmeshed", want: oracle.Delivered, by: "default/probe"},
	{rules: "P-07", claim: "with a route a probe has none", pod: podProbed(probes), objects: []string{server("http", "http", onServer), httpRoute("r", paths("/a"))}, ask: "GET /live", from: "unmeshed", want: oracle.NotFound},
	{rules: "P-07", claim: "with a route that has its path it needs a grant", in: onlyLinkerd, pod: podProbed(probes), objects: []string{server("http", "http", onServer), httpRoute("r", paths("/live"))}, ask: "GET /live", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-08", claim: "on a gRPC Server a probe has no route", in: onlyLinkerd, pod: podProbed(probes), objects: []string{server("http", "http", "proxyProtocol: gRPC")}, ask: "h2 GET /live", from: "unmeshed", want: oracle.NotFound},
	{rules: "P-08 N-08", claim: "on an opaque Server it is closed", pod: podProbed(probes), objects: []string{server("http", "http", "proxyProtocol: opaque")}, ask: "GET /live", from: "unmeshed", want: oracle.Closed},
	{rules: "P-11", claim: "a probe by HTTPS is TLS that the proxy does not read", pod: denied(podProbed("readinessProbe: {httpGet: {path: /r, port: http, scheme: HTTPS}}")), ask: "GET /r", from: "foreign-tls", want: oracle.Closed},
	{rules: "P-12 U-03", claim: "where a probe is redirected to is no probe", pod: denied(podProbed(probes)), ask: "GET /live/", from: "unmeshed", want: oracle.Forbidden},
	{rules: "P-15", claim: "the proxy's own probes are let in under deny", pod: podWith(annotated("deny")), port: "4191", ask: "GET /ready", from: outside, want: oracle.Delivered, by: "default/probe"},
	{rules: "P-15 B-08", claim: "and nothing else of its port", pod: podWith(annotated("deny")), port: "4191", ask: "GET /metrics", from: "unmeshed", want: oracle.Forbidden},
}

func narrowProbes(s *oracle.Settings) {
	s.ProbeNetworks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
}
