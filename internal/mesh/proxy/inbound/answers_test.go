package inbound

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/proxy/policy"
)

// verdictRoutes has a path for each verdict, as HTTP routes and, where gRPC has
// such, as gRPC routes of the service of that name.
func verdictRoutes(t *testing.T) (http []*pb.HttpRoute, grpc []*pb.GrpcRoute) {
	for _, name := range []string{"allow", "deny", "redirect", "fault"} {
		r := httpRoute(name, []string{"/" + name})
		g := &pb.GrpcRoute{Metadata: resource("GRPCRoute", name), Rules: []*pb.GrpcRoute_Rule{{Matches: []*grpc_route.GrpcRouteMatch{{Rpc: &grpc_route.GrpcRpcMatch{Service: name}}}}}}
		if name != "deny" {
			r.Authorizations, g.Authorizations = []*pb.Authz{anyone(t, "all")}, []*pb.Authz{anyone(t, "all")}
		}
		switch name {
		case "redirect":
			r.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_Redirect{Redirect: &http_route.RequestRedirect{Host: "b.c", Status: 301}}}}
		case "fault":
			r.Rules[0].Filters = []*pb.HttpRoute_Filter{{Kind: &pb.HttpRoute_Filter_FailureInjector{FailureInjector: &http_route.HttpFailureInjector{Status: 418, Ratio: &http_route.Ratio{Numerator: 1, Denominator: 1}}}}}
			g.Rules[0].Filters = []*pb.GrpcRoute_Filter{{Kind: &pb.GrpcRoute_Filter_FailureInjector{FailureInjector: &grpc_route.GrpcFailureInjector{Code: 9}}}}
		}
		http, grpc = append(http, r), append(grpc, g)
	}
	return http, grpc
}

// N-01 to N-06, N-11, N-12, R-10, M-06, M-07, M-11: each verdict has its answer in
// each protocol, and its counter. An injected failure ends as 500, whatever it
// asks for.
func TestEveryVerdictHasItsAnswer(t *testing.T) {
	http, _ := verdictRoutes(t)
	type answer struct {
		path, status, grpc, location string
		// ends: the connection's end is announced.
		ends bool
		// counters grow by one; a name may have a label behind a slash.
		counters []string
	}
	const allowed, notFound, denied = "inbound_http_authz_allow_total", "inbound_http_route_not_found_total", "inbound_http_authz_deny_total"
	rows := map[policy.Verdict]answer{
		policy.Allow:     {"/allow/x", "200", "", "", false, []string{allowed, "request_total"}},
		policy.Deny:      {"/deny/x", "403", "7", "", false, []string{denied}},
		policy.NotFound:  {"/nowhere/x", "404", "5", "", false, []string{notFound}},
		policy.Ambiguous: {"/allow%2f/x", "400", "3", "", false, []string{notFound}},
		policy.Redirect:  {"/redirect/x", "301", "5", "http://b.c/redirect/x", false, []string{allowed}},
		policy.Fault:     {"/fault/x", "500", "13", "", true, []string{allowed, "inbound_http_errors_total"}},
		policy.Limited:   {"/allow/x", "429", "8", "", false, []string{allowed, "inbound_http_local_ratelimit_total"}},
	}
	for _, v := range policy.Verdicts {
		if _, ok := rows[v]; !ok {
			t.Errorf("no row for verdict %s", v)
		}
	}
	all := []string{allowed, denied, notFound, "request_total", "inbound_http_errors_total", "inbound_http_local_ratelimit_total"}
	for verdict, row := range rows {
		for _, form := range []struct{ name, content string }{{"HTTP", "text/plain"}, {"gRPC", "application/grpc"}} {
			for _, identified := range []bool{false, true} {
				t.Run(verdict.String()+"/"+form.name+map[bool]string{true: "/identified"}[identified], func(t *testing.T) {
					w := newWorld(t, application(t, whoami()), nil)
					limit := &pb.HttpLocalRateLimit{Metadata: resource("HTTPLocalRateLimitPolicy", "limit"), Identity: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1}}
					protocol := http2Protocol(http...)
					protocol.GetHttp2().LocalRateLimit = limit
					w.apply(server(protocol))
					conn, err := w.dial(client{from: neighbourIP, tls: identified, identity: map[bool]string{true: webName}[identified]})
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					h2 := newFrameClient(t, conn)
					ask := func() []string {
						got, _ := h2.answer(h2.request("POST", row.path, "content-type", form.content))
						return got
					}
					if verdict == policy.Limited {
						if got := ask(); !slices.Contains(got, ":status: 200") || slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "grpc-status") }) {
							t.Fatalf("the request before: %q", got)
						}
					}
					before := map[string]float64{}
					for _, name := range all {
						before[name] = w.counter(name, nil)
					}
					got := ask()
					var fields map[string]string
					for _, line := range got {
						name, value, _ := strings.Cut(line[1:], ": ")
						if fields == nil {
							fields = map[string]string{}
						}
						fields[line[:1]+name] = value
					}
					status, grpc := row.status, ""
					if form.name == "gRPC" && verdict != policy.Allow {
						status, grpc = "200", row.grpc
					}
					if fields[":status"] != status || fields["grpc-status"] != grpc {
						t.Errorf("answer %q, want status %s and grpc-status %q", got, status, grpc)
					}
					if location := fields["location"]; form.name == "HTTP" && location != row.location || form.name == "gRPC" && location != "" {
						t.Errorf("location %q", location)
					}
					if verdict != policy.Allow {
						if fields["content-length"] != "0" || (fields["content-type"] == "application/grpc") != (grpc != "") || fields["retry-after"] != "" {
							t.Errorf("answer %q", got)
						}
						if _, told := fields["l5d-proxy-error"]; told != identified {
							t.Errorf("told why: %v, identified: %v", told, identified)
						}
					}
					if row.ends && !h2.ends() || h2.away != row.ends {
						t.Errorf("end announced: %v", h2.away)
					}
					for _, name := range all {
						want := 0.0
						if slices.Contains(row.counters, name) {
							want = 1
						}
						if grew := w.counter(name, nil) - before[name]; grew != want {
							t.Errorf("%s grew by %v, want %v", name, grew, want)
						}
					}
				})
			}
		}
	}
}

// N-11 for gRPC routes, which have filters of their own.
func TestAFailureInjectedIntoGRPCIsAnInternalError(t *testing.T) {
	_, grpc := verdictRoutes(t)
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(grpcProtocol(grpc...)))
	conn, err := w.dial(client{from: neighbourIP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h2 := newFrameClient(t, conn)
	if got, _ := h2.answer(h2.request("POST", "/fault/Call", "content-type", "application/grpc")); !slices.Contains(got, "grpc-status: 13") {
		t.Errorf("answer %q", got)
	}
}

// M-04, M-07: what rows are labelled with, and what they are not.
func TestRowsCarryTheLabelsOfTheirKind(t *testing.T) {
	http, _ := verdictRoutes(t)
	protocol := http1Protocol(http...)
	protocol.GetHttp1().LocalRateLimit = &pb.HttpLocalRateLimit{Metadata: resource("HTTPLocalRateLimitPolicy", "limit"), Total: &pb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1}}
	w := newWorld(t, application(t, whoami()), nil)
	w.apply(server(protocol))
	for _, path := range []string{"/allow", "/allow", "/deny", "/nowhere"} {
		get1(t, w, client{from: neighbourIP}, "GET "+path+" HTTP/1.1\r\nHost: app\r\n\r\n")
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	has := map[string][]string{}
	for _, family := range families {
		for _, label := range family.GetMetric()[0].GetLabel() {
			has[family.GetName()] = append(has[family.GetName()], label.GetName())
		}
	}
	srv, route, authz := []string{"srv_group", "srv_kind", "srv_name", "srv_port", "target_addr", "target_ip", "target_port", "tls", "client_id", "no_tls_reason", "sni"}, []string{"route_group", "route_kind", "route_name"}, []string{"authz_group", "authz_kind", "authz_name"}
	limit := []string{"ratelimit_group", "ratelimit_kind", "ratelimit_name", "ratelimit_scope"}
	for name, want := range map[string][]string{
		"inbound_http_authz_allow_total":     slices.Concat(srv, route, authz),
		"inbound_http_authz_deny_total":      slices.Concat(srv, route),
		"inbound_http_route_not_found_total": srv,
		"inbound_http_local_ratelimit_total": slices.Concat(srv, route, limit),
		"request_total":                      slices.Concat([]string{"direction"}, srv, route, authz),
	} {
		slices.Sort(want)
		if got := has[name]; !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
	for _, labels := range has {
		if slices.Contains(labels, "authority") { // M-13
			t.Error("the authority is a label")
		}
	}
	if got := w.counter("inbound_http_local_ratelimit_total", map[string]string{"ratelimit_group": "policy.linkerd.io", "ratelimit_kind": "HTTPLocalRateLimitPolicy", "ratelimit_name": "limit", "ratelimit_scope": "total"}); got != 1 {
		t.Errorf("limited: %v", got)
	}
}

// N-14: a use of the audit default is written down, a request's and a connection's.
func TestAuditedUsesAreLogged(t *testing.T) {
	var log lines
	w := newWorld(t, application(t, nil), func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	audit := anyone(t, "")
	audit.Metadata = nil
	audit.Labels = map[string]string{"group": "", "kind": "default", "name": "audit"}
	w.apply(server(detect(), audit))
	for message, say := range map[string]string{"Request allowed": "GET / HTTP/1.1\r\nHost: app\r\n\r\n", "Connection allowed": "\x00hello\n"} {
		conn, err := w.dial(client{from: neighbourIP})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte(say)); err != nil {
			t.Fatal(err)
		}
		eventually(t, message, func() bool { return log.find(message) != nil })
		if line := log.find(message); line["authz.name"] != "audit" || line["level"] != "INFO" || line["client.ip"] != neighbourIP || line["server.name"] != "srv" {
			t.Errorf("%s: %v", message, line)
		}
	}
}
