package index

import (
	"net/http"
	"net/netip"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// everywhere is every address of both families.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// builtin is what one of the six policies grants.
type builtin struct {
	grants        bool
	clusterOnly   bool
	authenticated bool
	// twin is the policy that a port on which identity is required has instead
	// (D-18); empty when it keeps its own.
	twin api.PolicyName
}

// builtins has a row for each of api.PolicyNames.
var builtins = map[api.PolicyName]builtin{
	api.AllUnauthenticated:     {grants: true, twin: api.AllAuthenticated},
	api.AllAuthenticated:       {grants: true, authenticated: true},
	api.ClusterUnauthenticated: {grants: true, clusterOnly: true, twin: api.ClusterAuthenticated},
	api.ClusterAuthenticated:   {grants: true, clusterOnly: true, authenticated: true},
	api.Audit:                  {grants: true},
	api.Deny:                   {},
}

// requiringIdentity is the policy that p becomes where identity is required.
func requiringIdentity(p api.PolicyName) api.PolicyName {
	if twin := builtins[p].twin; twin != "" {
		return twin
	}
	return p
}

// builtinAuthorizations is what policy p grants: nothing or one authorization
// named after it.
func (c Config) builtinAuthorizations(p api.PolicyName) []Authorization {
	row := builtins[p]
	networks := everywhere
	if row.clusterOnly {
		networks = c.ClusterNetworks
	}
	if !row.grants || len(networks) == 0 {
		return nil
	}
	authentication := Authentication{Kind: Unauthenticated}
	if row.authenticated {
		authentication = Authentication{Kind: Identified, Suffixes: [][]string{{}}}
	}
	return []Authorization{{Reference: Reference{Default, string(p)}, Networks: whole(networks), Authentication: authentication}}
}

// whole makes networks without exceptions.
func whole(prefixes []netip.Prefix) []Network {
	networks := make([]Network, len(prefixes))
	for i, p := range prefixes {
		networks[i] = Network{Prefix: p}
	}
	return networks
}

// httpRoutes are the built-in routes of a port with these probe paths: the
// default one, and one that grants the probes unless there is nothing to grant
// (P-04, P-05).
func (c Config) httpRoutes(probePaths []string) []HTTPRoute {
	everything := HTTPMatch{Path: PathMatch{Prefix, "/"}}
	routes := []HTTPRoute{{Reference: Reference{Default, DefaultRoute}, Rules: []HTTPRule{{Matches: []HTTPMatch{everything}}}}}
	if len(probePaths) == 0 || len(c.ProbeNetworks) == 0 {
		return routes
	}
	var rule HTTPRule
	for _, path := range probePaths {
		rule.Matches = append(rule.Matches, HTTPMatch{Path: PathMatch{Exact, path}, Method: http.MethodGet})
	}
	return append(routes, HTTPRoute{
		Reference: Reference{Default, ProbeRoute},
		Authorizations: []Authorization{{
			Reference: Reference{Default, ProbeRoute}, Networks: whole(c.ProbeNetworks), Authentication: Authentication{Kind: Unauthenticated},
		}},
		Rules: []HTTPRule{rule},
	})
}

// grpcRoutes are the built-in ones: a match that holds an rpc matches every
// call, one without would make proxies refuse the message (W-24).
func grpcRoutes() []GRPCRoute {
	everything := GRPCMatch{RPC: &RPCMatch{}}
	return []GRPCRoute{{Reference: Reference{Default, DefaultRoute}, Rules: []GRPCRule{{Matches: []GRPCMatch{everything}}}}}
}
