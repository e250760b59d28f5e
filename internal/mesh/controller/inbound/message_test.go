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
