package oracle_test

import (
	"strings"

	"github.com/meshproof/meshproof/internal/policy/objects"
	"github.com/meshproof/meshproof/internal/policy/oracle"
)

func withPolicy(policy, pod string) string {
	return strings.Replace(pod, "metadata: {", "metadata: {annotations: "+annotated(policy)+", ", 1)
}

const (
	allows = "accessPolicy: all-unauthenticated"
	authed = "accessPolicy: all-authenticated"
	opaque = "proxyProtocol: opaque"
)

// connectionRows are section 7.
var connectionRows = []row{
	{rules: "T-10", claim: "an opaque port lets anyone in whom nothing asks for an identity", objects: []string{server("http", "http", opaque, allows)}, ask: "tcp", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-10", claim: "an opaque port cannot see an identity on the redirected path", objects: []string{server("http", "http", opaque, authed)}, ask: "tcp", from: "alice-direct", want: oracle.Closed},
	{rules: "T-10 T-33 T-36", claim: "but through the transport header it can", objects: []string{server("http", "http", opaque, authed)}, ask: "GET /", from: "ns/alice", want: oracle.Delivered},
	{rules: "T-10", claim: "mesh TLS to an opaque port is passed on", objects: []string{server("http", "http", opaque, "accessPolicy: deny"), saz("a", byName, "{meshTLS: {unauthenticatedTLS: true}}")}, ask: "tcp", from: "tls-no-identity", want: oracle.Closed},
	{rules: "T-12", claim: "a silent client is opaque after the time-out", in: onlyDocumented, ask: "silent", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-12", claim: "a silent client is closed", in: onlyLinkerd, ask: "silent", from: "unmeshed", want: oracle.Closed},
	{rules: "T-12", claim: "a silent client of an opaque port is let in", objects: []string{server("http", "http", opaque, allows)}, ask: "silent", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-12", claim: "a silent client of an HTTP/1 port is closed", objects: []string{server("http", "http", onServer, allows)}, ask: "silent", from: "unmeshed", want: oracle.Closed},
	{rules: "T-17", claim: "a silent client with mesh TLS is judged as TCP", objects: []string{server("http", "http", authed)}, ask: "silent", from: "alice-direct", want: oracle.Delivered},
	{rules: "T-13", claim: "TLS for the application is passed on to whom nothing asks for more", objects: []string{server("http", "http", allows)}, ask: "GET /", from: "foreign-tls", want: oracle.Delivered},
	{rules: "T-13", claim: "and is no mesh TLS", objects: []string{server("http", "http"), saz("a", byName, "{meshTLS: {unauthenticatedTLS: true}}")}, ask: "tcp", from: "foreign-tls", want: oracle.Closed},
	{rules: "T-14", claim: "a TLS port takes what is TLS", objects: []string{server("http", "http", "proxyProtocol: TLS", allows)}, ask: "tcp", from: "foreign-tls", want: oracle.Delivered},
	{rules: "T-14 N-08", claim: "and denies as TCP", objects: []string{server("http", "http", "proxyProtocol: TLS")}, ask: "GET /", from: "unmeshed", want: oracle.Closed},
	{rules: "T-15", claim: "HTTP is detected, and each request authorized", objects: []string{server("http", "http")}, ask: "h2 GET /", from: "unmeshed", want: oracle.Forbidden},
	{rules: "T-16", claim: "what is not HTTP is let in by the Server's list", objects: []string{server("http", "http", allows)}, ask: "tcp", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-16", claim: "whatever the routes are", objects: []string{server("http", "http", allows), httpRoute("r", paths("/a"))}, ask: "tcp", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-16 X-48", claim: "and not by a route's", objects: []string{server("http", "http"), httpRoute("r", paths("/")), grant("p", toRoute)}, ask: "tcp", from: "unmeshed", want: oracle.Closed},
	{rules: "T-18", claim: "an HTTP/1 port and a plaintext client of HTTP/2", objects: []string{server("http", "http", onServer, allows)}, ask: "h2 GET /", from: "unmeshed", want: oracle.ProtocolError},
	{rules: "T-18 U-12", claim: "an HTTP/1 port and an application's TLS", objects: []string{server("http", "http", onServer, allows)}, ask: "GET /", from: "foreign-tls", want: oracle.Closed},
	{rules: "T-18", claim: "an HTTP/1 port and meshed HTTP/2", objects: []string{server("http", "http", onServer, allows)}, ask: "h2 GET /", from: "alice-direct", want: oracle.Delivered},
	{rules: "T-18", claim: "an HTTP/1 port and meshed TCP", objects: []string{server("http", "http", onServer, allows)}, ask: "tcp", from: "alice-direct", want: oracle.Closed},
	{rules: "T-19 E-13", claim: "a gRPC port and a client of HTTP/1", objects: []string{server("grpc", "grpc", "proxyProtocol: gRPC")}, port: "grpc", ask: "GET /", from: "unmeshed", want: oracle.ProtocolError},
	{rules: "T-19", claim: "an HTTP/2 port and a client of HTTP/1", objects: []string{server("http", "http", "proxyProtocol: HTTP/2", allows)}, ask: "GET /", from: "unmeshed", want: oracle.ProtocolError},
	{rules: "T-21", claim: "bytes are gathered until HTTP is seen", in: onlyDocumented, objects: opened(httpRoute("r", paths("/a"))), ask: "dribbled", from: "unmeshed", want: oracle.NotFound},
	{rules: "T-21", claim: "the first segment decides, and routes are evaded", in: onlyLinkerd, objects: opened(httpRoute("r", paths("/a"))), ask: "dribbled", from: "unmeshed", want: oracle.Delivered},
	{rules: "T-33 U-10", claim: "a port that is opaque to clients and HTTP/1 to the proxy refuses whom it grants", pod: podWith("{config.linkerd.io/opaque-ports: \"8080\"}"), objects: []string{server("http", "http", onServer, "accessPolicy: audit")}, ask: "GET /", from: "ns/alice", want: oracle.Closed},
	{rules: "T-31 T-34", claim: "whoever has an identity is heard on the proxy's own port", objects: []string{server("http", "http", authed)}, ask: "announced http", from: "alice-direct", want: oracle.Delivered},
	{rules: "T-33", claim: "and refused on an HTTP/1 port unless the header says what is spoken", objects: []string{server("http", "http", onServer, allows)}, ask: "announced nothing", from: "alice-direct", want: oracle.Closed},
	{rules: "T-31", claim: "whoever has no identity is not", objects: []string{server("http", "http", allows)}, ask: "announced http", from: "tls-no-identity", want: oracle.Closed},
	{rules: "T-31 I-02", claim: "a certificate of another root fails there whatever the port is", objects: []string{server("http", "http", opaque, allows)}, ask: "announced http", from: "foreign-root", want: oracle.HandshakeFailed},
	{rules: "T-33", claim: "TCP of a meshed client to an HTTP/1 port", objects: []string{server("http", "http", onServer, allows)}, ask: "tcp", from: "ns/alice", want: oracle.Closed},
	{rules: "D-17 T-36", claim: "an annotation hints at meshed clients whatever the Server says", pod: podWith("{config.linkerd.io/opaque-ports: \"8080\"}"), objects: []string{server("http", "http", authed), httpRoute("r", paths("/a"))}, ask: "GET /b", from: "ns/alice", want: oracle.Delivered},
	{rules: "T-34 U-11", claim: "HTTP of a meshed client to a TLS port has no route", objects: []string{server("http", "http", "proxyProtocol: TLS", allows)}, ask: "GET /", from: "ns/alice", want: oracle.NotFound},
	{rules: "H-01", claim: "HTTP/1 of a meshed client is judged as it was asked", objects: []string{server("http", "http", "proxyProtocol: HTTP/2", allows), httpRoute("r", paths("/a"))}, ask: "GET /a", from: "ns/alice", want: oracle.Delivered, route: "HTTPRoute/r"},
	{rules: "T-30", claim: "with the header or without, the same client is authorized alike", objects: []string{server("http", "http", authed)}, from: "alice-direct", want: oracle.Delivered},
	{rules: "I-02", claim: "a certificate of another root fails", from: "foreign-root", want: oracle.HandshakeFailed},
	{rules: "I-02 T-10", claim: "where there is a handshake", objects: []string{server("http", "http", opaque, allows)}, ask: "tcp", from: "foreign-root", want: oracle.Delivered},
	{rules: "I-03", claim: "mesh TLS without a certificate is no identity", objects: []string{server("http", "http", authed)}, from: "tls-no-identity", want: oracle.Forbidden},
}

var redirectRoute = httpRoute("r", "rules: [{matches: [{path: {value: /}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]}]")

// unsetStatus undoes what the schema fills in.
func unsetStatus(set *objects.Set) {
	set.World.HTTPRoutes[0].Spec.Rules[0].Filters[0].RequestRedirect.StatusCode = nil
}

// answerRows are section 9.
var answerRows = []row{
	{rules: "N-01 DOC-20", claim: "HTTP/1 gets 403", objects: []string{server("http", "http")}, ask: "GET /", from: "unmeshed", want: oracle.Forbidden, status: 403},
	{rules: "N-01", claim: "HTTP/2 gets 403", objects: []string{server("http", "http")}, ask: "h2 GET /", from: "unmeshed", want: oracle.Forbidden, status: 403},
	{rules: "N-02 DOC-20 DOC-31", claim: "gRPC gets status 7 in HTTP 200", objects: []string{server("http", "http")}, ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.PermissionDenied, status: 200},
	{rules: "N-02", claim: "by its content type, whatever the Server's protocol is", objects: []string{server("http", "http", "proxyProtocol: HTTP/2")}, ask: "h2 POST /x", headers: []string{"Content-Type: application/grpc+proto"}, from: "unmeshed", want: oracle.PermissionDenied},
	{rules: "N-02 N-01", claim: "HTTP/1 that looks like gRPC gets 403", objects: []string{server("http", "http")}, ask: "POST /x", headers: []string{"Content-Type: application/grpc"}, from: "unmeshed", want: oracle.Forbidden},
	{rules: "N-02 N-01", claim: "HTTP/2 that does not gets 403 from a gRPC Server", objects: []string{server("grpc", "grpc", "proxyProtocol: gRPC")}, port: "grpc", ask: "h2 POST /x.Y/Z", from: "unmeshed", want: oracle.Forbidden},
	{rules: "N-03", claim: "no route is 404", objects: opened(httpRoute("r", paths("/a"))), ask: "GET /b", from: "unmeshed", want: oracle.NotFound, status: 404},
	{rules: "N-03", claim: "and status 5 for a call", objects: opened(httpRoute("r", paths("/a"))), ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.GRPCNotFound, status: 200},
	{rules: "N-03 H-10", claim: "for whoever is not authorized too", objects: []string{server("http", "http"), httpRoute("r", paths("/a"))}, ask: "GET /b", from: "unmeshed", want: oracle.NotFound},
	{rules: "N-05", claim: "a redirect", objects: opened(httpRoute("r", "rules: [{matches: [{path: {value: /a}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /b}}}]}]")), ask: "GET /a", from: "unmeshed", want: oracle.Redirected, status: 301},
	{rules: "N-05", claim: "a redirect of a call", objects: opened(httpRoute("r", "rules: [{matches: [{path: {value: /}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}]")), ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.GRPCNotFound},
	{rules: "N-05 H-10", claim: "nobody is redirected who is not authorized", objects: []string{server("http", "http"), httpRoute("r", "rules: [{matches: [{path: {value: /}}], filters: [{type: RequestRedirect, requestRedirect: {statusCode: 301}}]}]")}, ask: "GET /", from: "unmeshed", want: oracle.Forbidden},
	{rules: "C-28", claim: "a redirect is 302 by the schema", objects: opened(httpRoute("r", "rules: [{matches: [{path: {value: /}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: x.example}}]}]")), from: "unmeshed", want: oracle.Redirected, status: 302},
	{rules: "W-21", claim: "a status that was never set is 302", in: onlyDocumented, objects: opened(redirectRoute), edit: unsetStatus, from: "unmeshed", want: oracle.Redirected, status: 302},
	{rules: "W-21", claim: "a status that was never set is 200", in: onlyLinkerd, objects: opened(redirectRoute), edit: unsetStatus, from: "unmeshed", want: oracle.Redirected, status: 200},
	{rules: "N-08 DOC-21", claim: "TCP is closed without a byte", objects: []string{server("tcp", "tcp")}, port: "tcp", ask: "tcp", from: "unmeshed", want: oracle.Closed},
	{rules: "N-14", claim: "what audit decides is logged", objects: []string{server("http", "http", "accessPolicy: audit")}, from: "unmeshed", want: oracle.Delivered, by: "default/audit", logged: true},
	{rules: "N-14", claim: "a connection too", objects: []string{server("http", "http", "accessPolicy: audit")}, ask: "tcp", from: "unmeshed", want: oracle.Delivered, by: "default/audit", logged: true},
	{rules: "N-14", claim: "what a grant decides is not", objects: []string{server("http", "http", "accessPolicy: audit"), saz("a", byName, anyone)}, from: "unmeshed", want: oracle.Delivered, by: "serverauthorization/a"},
}

// limitRows are section 10, as far as it is no matter of time.
var limitRows = []row{
	{rules: "R-05", claim: "the total and the identity's", objects: opened(limit("l", "total: {requestsPerSecond: 70}, identity: {requestsPerSecond: 5}")), from: "ns/alice", want: oracle.Delivered, limits: "l total 70, l identity 5, ."},
	{rules: "R-05 R-11", claim: "an override instead of the identity's", objects: opened(limit("l", "total: {requestsPerSecond: 70}, identity: {requestsPerSecond: 5}, overrides: [{requestsPerSecond: 10, clientRefs: [{kind: ServiceAccount, name: alice}]}]")), from: "ns/alice", want: oracle.Delivered, limits: "l total 70, l override 10, ."},
	{rules: "R-07 N-04", claim: "an override holds for each that it names", objects: opened(limit("l", "identity: {requestsPerSecond: 5}, overrides: [{requestsPerSecond: 10, clientRefs: [{kind: ServiceAccount, name: alice}, {kind: ServiceAccount, name: bob}]}]")), from: "ns/bob", want: oracle.Delivered, limits: "l override 10, ."},
	{rules: "R-06", claim: "clients without identity have the identity's limit", objects: opened(limit("l", "identity: {requestsPerSecond: 5}, overrides: [{requestsPerSecond: 10, clientRefs: [{kind: ServiceAccount, name: alice}]}]")), from: "unmeshed", want: oracle.Delivered, limits: "l identity 5, ."},
	{rules: "R-01", claim: "an HTTP port has limits", objects: opened(limit("l", "total: {requestsPerSecond: 7}")), from: "unmeshed", want: oracle.Delivered, limits: "l total 7, ."},
	{rules: "R-01", claim: "a gRPC port has none", objects: []string{server("http", "http", "proxyProtocol: gRPC", allows), limit("l", "total: {requestsPerSecond: 7}")}, ask: "grpc /x.Y/Z", from: "unmeshed", want: oracle.Delivered, limits: "."},
	{rules: "R-02 S-09", claim: "of two policies the older holds", objects: opened(at(late, limit("a", "total: {requestsPerSecond: 1}")), at(early, limit("b", "total: {requestsPerSecond: 2}"))), from: "unmeshed", want: oracle.Delivered, limits: "b total 2, ."},
	{rules: "R-02 S-09", claim: "of two as old the one whose name comes first", objects: opened(limit("b", "total: {requestsPerSecond: 2}"), limit("a", "total: {requestsPerSecond: 1}")), from: "unmeshed", want: oracle.Delivered, limits: "a total 1, ."},
	{rules: "R-10", claim: "a denied request counts against none", objects: []string{server("http", "http"), limit("l", "total: {requestsPerSecond: 7}")}, from: "unmeshed", want: oracle.Forbidden, limits: "."},
}

// localRows are section 12.
var localRows = []row{
	{rules: "B-01 H-20", claim: "localhost is let in under deny", pod: podWith(annotated("deny")), from: "localhost", want: oracle.Delivered, by: "default/localhost"},
	{rules: "B-01 H-20", claim: "and to a Server without a grant", objects: []string{server("http", "http")}, from: "localhost", want: oracle.Delivered, by: "default/localhost"},
	{rules: "B-01 H-20", claim: "and to a route without a grant", objects: []string{server("http", "http"), httpRoute("r", paths("/a"))}, ask: "GET /a", from: "localhost", want: oracle.Delivered, by: "default/localhost"},
	{rules: "B-01 H-20", claim: "and as TCP", objects: []string{server("http", "http", opaque)}, ask: "tcp", from: "localhost", want: oracle.Delivered, by: "default/localhost"},
	{rules: "B-02 U-14", claim: "a pod that calls itself has no identity", objects: []string{server("http", "http", authed)}, from: "self", want: oracle.Forbidden},
	{rules: "B-02", claim: "and is let in where none is asked for", objects: []string{server("http", "http", "accessPolicy: cluster-unauthenticated")}, from: "self", want: oracle.Delivered},
	{rules: "B-04", claim: "the admin port is policed", objects: []string{server("admin", "4191")}, port: "4191", ask: "GET /metrics", from: "unmeshed", want: oracle.Forbidden},
	{rules: "B-04 T-30", claim: "meshed clients come to it without the header", objects: []string{server("admin", "4191", "proxyProtocol: HTTP/1", authed)}, port: "4191", ask: "GET /metrics", from: "ns/alice", want: oracle.Delivered},
	{rules: "B-05", claim: "it closes what is not HTTP", port: "4191", ask: "tcp", from: "unmeshed", want: oracle.Closed},
	{rules: "B-06", claim: "it shuts down for its own pod alone", port: "4191", ask: "POST /shutdown", from: "ns/alice", want: oracle.Forbidden, by: "default/all-unauthenticated"},
	{rules: "B-06", claim: "which may", port: "4191", ask: "POST /shutdown", from: "localhost", want: oracle.Delivered},
	{rules: "D-19 B-04", claim: "no annotation takes the admin port out of policy", pod: podWith("{config.linkerd.io/skip-inbound-ports: \"4190-4191\", config.linkerd.io/default-inbound-policy: deny}"), port: "4191", ask: "GET /metrics", from: "unmeshed", want: oracle.Forbidden},
}
