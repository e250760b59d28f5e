package inbound

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

var everybody = index.Authorization{
	Reference:      index.Reference{Kind: index.Default, Name: "all-unauthenticated"},
	Networks:       []index.Network{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}},
	Authentication: index.Authentication{Kind: index.Unauthenticated},
}

const everybodyJSON = `{
	"networks": [{"net": {"ip": {"ipv4": 0}}}, {"net": {"ip": {"ipv6": {}}}}],
	"authentication": {"unauthenticated": {}},
	"labels": {"group": "", "kind": "default", "name": "all-unauthenticated"},
	"metadata": {"default": "all-unauthenticated"}}`

// W-06 to W-12, W-15 to W-17.
func TestMessagesAreAsTheWireHasThem(t *testing.T) {
	defaultRoute := index.HTTPRoute{Reference: index.Reference{Kind: index.Default, Name: "default"}, Rules: []index.HTTPRule{{Matches: []index.HTTPMatch{{Path: index.PathMatch{Kind: index.Prefix, Value: "/"}}}}}}
	probeRoute := index.HTTPRoute{
		Reference: index.Reference{Kind: index.Default, Name: "probe"}, Authorizations: []index.Authorization{everybody},
		Rules: []index.HTTPRule{{Matches: []index.HTTPMatch{
			{Path: index.PathMatch{Kind: index.Exact, Value: "/live"}, Method: "GET"}, {Path: index.PathMatch{Kind: index.Exact, Value: "/ready"}, Method: "GET"},
		}}},
	}
	const defaultRouteJSON = `{"metadata": {"default": "default"}, "rules": [{"matches": [{"path": {"prefix": "/"}}]}]}`
	server := index.Reference{Kind: index.Server, Name: "web"}
	const serverLabels = `"labels": {"group": "policy.linkerd.io", "kind": "server", "name": "web"}`
	for _, row := range []struct {
		name   string
		server index.InboundServer
		want   string
	}{
		{"a default server with its probes", index.InboundServer{
			Reference: index.Reference{Kind: index.Default, Name: "all-unauthenticated"},
			Protocol:  index.Protocol{Kind: index.Detect, DetectTimeout: 10 * time.Second}, Authorizations: []index.Authorization{everybody},
			HTTPRoutes: []index.HTTPRoute{defaultRoute, probeRoute},
		}, `{"protocol": {"detect": {"timeout": "10s", "httpRoutes": [` + defaultRouteJSON + `,
			{"metadata": {"default": "probe"}, "authorizations": [` + everybodyJSON + `], "rules": [{"matches": [
				{"path": {"exact": "/live"}, "method": {"registered": "GET"}}, {"path": {"exact": "/ready"}, "method": {"registered": "GET"}}]}]}]}},
			"authorizations": [` + everybodyJSON + `], "labels": {"group": "", "kind": "default", "name": "all-unauthenticated"}}`},
		{"HTTP/1", index.InboundServer{Reference: server, Protocol: index.Protocol{Kind: index.HTTP1}, HTTPRoutes: []index.HTTPRoute{defaultRoute}},
			`{"protocol": {"http1": {"routes": [` + defaultRouteJSON + `]}}, ` + serverLabels + `}`},
		{"HTTP/2", index.InboundServer{Reference: server, Protocol: index.Protocol{Kind: index.HTTP2}, HTTPRoutes: []index.HTTPRoute{defaultRoute}},
			`{"protocol": {"http2": {"routes": [` + defaultRouteJSON + `]}}, ` + serverLabels + `}`},
		{"gRPC", index.InboundServer{Reference: server, Protocol: index.Protocol{Kind: index.GRPC}, GRPCRoutes: []index.GRPCRoute{{
			Reference: defaultRoute.Reference, Rules: []index.GRPCRule{{Matches: []index.GRPCMatch{{RPC: &index.RPCMatch{}}}}},
		}}},
			`{"protocol": {"grpc": {"routes": [{"metadata": {"default": "default"}, "rules": [{"matches": [{"rpc": {}}]}]}]}}, ` + serverLabels + `}`},
		{"TLS", index.InboundServer{Reference: server, Protocol: index.Protocol{Kind: index.TLS}}, `{"protocol": {"tls": {}}, ` + serverLabels + `}`},
		{"opaque, with each kind of client", index.InboundServer{Reference: server, Protocol: index.Protocol{Kind: index.Opaque}, Authorizations: []index.Authorization{
			{
				Reference: index.Reference{Kind: index.ServerAuthorization, Name: "a"},
				Networks: []index.Network{{
					Prefix: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.1.0.0/16")},
				}, {Prefix: netip.MustParsePrefix("fd00::1:2/128")}},
				Authentication: index.Authentication{Kind: index.Identified, Identities: []string{"web.x"}, Suffixes: [][]string{{}, {"b", "c"}}},
			},
			{
				Reference: index.Reference{Kind: index.ServerAuthorization, Name: "b"}, Networks: everybody.Networks[:1],
				Authentication: index.Authentication{Kind: index.TLSUnauthenticated},
			},
		}}, `{"protocol": {"opaque": {}}, ` + serverLabels + `, "authorizations": [
			{"networks": [
				{"net": {"ip": {"ipv4": 167772160}, "prefixLen": 8}, "except": [{"ip": {"ipv4": 167772161}, "prefixLen": 32}, {"ip": {"ipv4": 167837696}, "prefixLen": 16}]},
				{"net": {"ip": {"ipv6": {"first": "18230571291595767808", "last": "65538"}}, "prefixLen": 128}}],
			 "authentication": {"meshTLS": {"identities": {"identities": [{"name": "web.x"}], "suffixes": [{}, {"parts": ["b", "c"]}]}}},
			 "labels": {"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "a"},
			 "metadata": {"resource": {"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "a"}}},
			{"networks": [{"net": {"ip": {"ipv4": 0}}}],
			 "authentication": {"meshTLS": {"unauthenticated": {}}},
			 "labels": {"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "b"},
			 "metadata": {"resource": {"group": "policy.linkerd.io", "kind": "serverauthorization", "name": "b"}}}]}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			var want inboundpb.Server
			if err := protojson.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&want, toProto(&row.server), protocmp.Transform()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// W-13, W-14, W-18, W-19, M-03, and the quirks X-58 (W-24) and W-21, which are in
// the value already: routes in their order, each with its own authorizations only.
func TestRoutesAndLimitsAreAsTheWireHasThem(t *testing.T) {
	path := func(kind index.MatchKind, value string) index.PathMatch {
		return index.PathMatch{Kind: kind, Value: value}
	}
	policy := index.Authorization{
		Reference: index.Reference{Kind: index.AuthorizationPolicy, Name: "p"}, Networks: everybody.Networks[:1], Authentication: everybody.Authentication,
	}
	const policyJSON = `{"networks": [{"net": {"ip": {"ipv4": 0}}}], "authentication": {"unauthenticated": {}},
		"labels": {"group": "policy.linkerd.io", "kind": "authorizationpolicy", "name": "p"},
		"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "authorizationpolicy", "name": "p"}}}`
	routes := []index.HTTPRoute{
		{
			Reference: index.Reference{Kind: index.GatewayHTTPRoute, Name: "a"}, Authorizations: []index.Authorization{policy},
			Hosts: []index.HostMatch{{Name: "a.example"}, {Name: "b.example", Suffix: true}},
			Rules: []index.HTTPRule{{
				Matches: []index.HTTPMatch{
					{Path: path(index.Exact, "/a"), Method: "POST"}, {Path: path(index.Prefix, "/b"), Method: "BREW"},
					{Path: path(index.Regex, "/c+"), Headers: []index.ValueMatch{{Name: "x", Value: "1"}, {Name: "y", Value: "2+", Regex: true}},
						QueryParams: []index.ValueMatch{{Name: "q", Value: "3"}, {Name: "r", Value: "4+", Regex: true}}},
				},
				Filters: []index.Filter{
					{Headers: &index.HeaderModifier{Add: []index.Header{{Name: "a", Value: "1"}}, Set: []index.Header{{Name: "s", Value: "2"}}, Remove: []string{"r"}}},
					{Headers: &index.HeaderModifier{Remove: []string{"r"}}},
					{Redirect: &index.Redirect{Scheme: "https", Host: "h", Port: 8443, Status: 302, Path: new("/full")}},
					{Redirect: &index.Redirect{Scheme: "gopher", Status: 200, Path: new("/part"), PrefixOnly: true}},
				},
			}},
		},
		{Reference: index.Reference{Kind: index.PolicyHTTPRoute, Name: "b"}},
	}
	const routesJSON = `[
		{"metadata": {"resource": {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "a"}}, "authorizations": [` + policyJSON + `],
		 "hosts": [{"exact": "a.example"}, {"suffix": {"reverseLabels": ["example", "b"]}}],
		 "rules": [{
			"matches": [
				{"path": {"exact": "/a"}, "method": {"registered": "POST"}}, {"path": {"prefix": "/b"}, "method": {"unregistered": "BREW"}},
				{"path": {"regex": "/c+"}, "headers": [{"name": "x", "exact": "MQ=="}, {"name": "y", "regex": "2+"}],
				 "queryParams": [{"name": "q", "exact": "3"}, {"name": "r", "regex": "4+"}]}],
			"filters": [
				{"requestHeaderModifier": {"add": {"headers": [{"name": "a", "value": "MQ=="}]}, "set": {"headers": [{"name": "s", "value": "Mg=="}]}, "remove": ["r"]}},
				{"requestHeaderModifier": {"remove": ["r"]}},
				{"redirect": {"scheme": {"registered": "HTTPS"}, "host": "h", "port": 8443, "status": 302, "path": {"full": "/full"}}},
				{"redirect": {"scheme": {"unregistered": "gopher"}, "status": 200, "path": {"prefix": "/part"}}}]}]},
		{"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "HTTPRoute", "name": "b"}}}]`
	limit := &index.RateLimit{
		Reference: index.Reference{Kind: index.RateLimitPolicy, Name: "l"}, Total: 9,
		Overrides: []index.RateOverride{{Limit: 4, Identities: []string{"x", "y"}}},
	}
	const limitJSON = `{"metadata": {"resource": {"group": "policy.linkerd.io", "kind": "HTTPLocalRateLimitPolicy", "name": "l"}}, "total": {"requestsPerSecond": 9},
		"overrides": [{"limit": {"requestsPerSecond": 4}, "clients": {"identities": [{"name": "x"}, {"name": "y"}]}}]}`
	rpc := []index.GRPCRoute{{
		Reference: index.Reference{Kind: index.GatewayGRPCRoute, Name: "g"}, Authorizations: []index.Authorization{policy}, Hosts: []index.HostMatch{{Name: "h"}},
		Rules: []index.GRPCRule{{
			Matches: []index.GRPCMatch{{RPC: &index.RPCMatch{Service: "s", Method: "m"}}, {Headers: []index.ValueMatch{{Name: "x", Value: "1"}}}},
			Filters: []index.Filter{{Headers: &index.HeaderModifier{Remove: []string{"r"}}}},
		}},
	}}
	const rpcJSON = `[{"metadata": {"resource": {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "g"}}, "authorizations": [` + policyJSON + `], "hosts": [{"exact": "h"}],
		"rules": [{"matches": [{"rpc": {"service": "s", "method": "m"}}, {"headers": [{"name": "x", "exact": "MQ=="}]}], "filters": [{"requestHeaderModifier": {"remove": ["r"]}}]}]}]`
	for kind, want := range map[index.ProtocolKind]string{
		index.Detect: `{"detect": {"timeout": "10s", "httpRoutes": ` + routesJSON + `, "httpLocalRateLimit": ` + limitJSON + `}}`,
		index.HTTP1:  `{"http1": {"routes": ` + routesJSON + `, "localRateLimit": ` + limitJSON + `}}`,
		index.HTTP2:  `{"http2": {"routes": ` + routesJSON + `, "localRateLimit": ` + limitJSON + `}}`,
		index.GRPC:   `{"grpc": {"routes": ` + rpcJSON + `}}`,
	} {
		t.Run(string(kind), func(t *testing.T) {
			server := index.InboundServer{Protocol: index.Protocol{Kind: kind}, HTTPRoutes: routes, RateLimit: limit}
			switch kind {
			case index.Detect:
				server.Protocol.DetectTimeout = index.DetectTimeout
			case index.GRPC:
				server.HTTPRoutes, server.RateLimit, server.GRPCRoutes = nil, nil, rpc
			}
			var proxyProtocol inboundpb.ProxyProtocol
			if err := protojson.Unmarshal([]byte(want), &proxyProtocol); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&proxyProtocol, toProto(&server).Protocol, protocmp.Transform()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// A protocol without a row would be sent without a protocol.
func TestEveryProtocolHasAMessage(t *testing.T) {
	for _, kind := range []index.ProtocolKind{index.Detect, index.HTTP1, index.HTTP2, index.GRPC, index.Opaque, index.TLS} {
		if protocol(&index.InboundServer{Protocol: index.Protocol{Kind: kind}}).GetKind() == nil {
			t.Errorf("%s has none", kind)
		}
	}
}

func TestTheHashIsThatOfTheDeterministicEncoding(t *testing.T) {
	snapshot := &index.Snapshot{Server: index.InboundServer{
		Reference: index.Reference{Kind: index.Server, Name: "web"}, Protocol: index.Protocol{Kind: index.TLS}, Authorizations: []index.Authorization{everybody},
	}}
	message := MessageOf(snapshot)
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(message.Server)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(encoded)
	if want := hex.EncodeToString(sum[:]); message.Hash != want {
		t.Errorf("got %s, want %s", message.Hash, want)
	}
	if MessageOf(snapshot) != message {
		t.Error("encoded twice")
	}
}
