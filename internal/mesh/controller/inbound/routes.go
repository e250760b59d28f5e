package inbound

import (
	"slices"
	"strings"

	grpcroutepb "github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	httproutepb "github.com/linkerd/linkerd2-proxy-api/go/http_route"
	httptypespb "github.com/linkerd/linkerd2-proxy-api/go/http_types"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"

	"github.com/meshproof/meshproof/internal/mesh/controller/index"
)

func httpRoutes(routes []index.HTTPRoute) []*inboundpb.HttpRoute {
	out := make([]*inboundpb.HttpRoute, len(routes))
	for i, route := range routes {
		out[i] = &inboundpb.HttpRoute{
			Metadata: metadata(route.Reference), Hosts: hosts(route.Hosts), Authorizations: authorizations(route.Authorizations),
		}
		for _, rule := range route.Rules {
			told := &inboundpb.HttpRoute_Rule{}
			for _, match := range rule.Matches {
				told.Matches = append(told.Matches, httpMatch(match))
			}
			for _, filter := range rule.Filters {
				told.Filters = append(told.Filters, httpFilter(filter))
			}
			out[i].Rules = append(out[i].Rules, told)
		}
	}
	return out
}

func grpcRoutes(routes []index.GRPCRoute) []*inboundpb.GrpcRoute {
	out := make([]*inboundpb.GrpcRoute, len(routes))
	for i, route := range routes {
		out[i] = &inboundpb.GrpcRoute{
			Metadata: metadata(route.Reference), Hosts: hosts(route.Hosts), Authorizations: authorizations(route.Authorizations),
		}
		for _, rule := range route.Rules {
			told := &inboundpb.GrpcRoute_Rule{}
			for _, match := range rule.Matches {
				told.Matches = append(told.Matches, grpcMatch(match))
			}
			for _, filter := range rule.Filters {
				if filter.Headers != nil {
					told.Filters = append(told.Filters, &inboundpb.GrpcRoute_Filter{
						Kind: &inboundpb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: headerModifier(filter.Headers)},
					})
				}
			}
			out[i].Rules = append(out[i].Rules, told)
		}
	}
	return out
}

// hosts writes suffixes as their labels from the last to the first.
func hosts(list []index.HostMatch) []*httproutepb.HostMatch {
	var out []*httproutepb.HostMatch
	for _, host := range list {
		if !host.Suffix {
			out = append(out, &httproutepb.HostMatch{Match: &httproutepb.HostMatch_Exact{Exact: host.Name}})
			continue
		}
		parts := strings.Split(host.Name, ".")
		slices.Reverse(parts)
		out = append(out, &httproutepb.HostMatch{Match: &httproutepb.HostMatch_Suffix_{Suffix: &httproutepb.HostMatch_Suffix{ReverseLabels: parts}}})
	}
	return out
}

func httpMatch(match index.HTTPMatch) *httproutepb.HttpRouteMatch {
	out := &httproutepb.HttpRouteMatch{Path: pathMatch(match.Path), Headers: headerMatches(match.Headers)}
	for _, m := range match.QueryParams {
		told := &httproutepb.QueryParamMatch{Name: m.Name, Value: &httproutepb.QueryParamMatch_Exact{Exact: m.Value}}
		if m.Regex {
			told.Value = &httproutepb.QueryParamMatch_Regex{Regex: m.Value}
		}
		out.QueryParams = append(out.QueryParams, told)
	}
	if match.Method != "" {
		out.Method = method(match.Method)
	}
	return out
}

func pathMatch(path index.PathMatch) *httproutepb.PathMatch {
	switch path.Kind {
	case index.Exact:
		return &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Exact{Exact: path.Value}}
	case index.Regex:
		return &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Regex{Regex: path.Value}}
	default:
		return &httproutepb.PathMatch{Kind: &httproutepb.PathMatch_Prefix{Prefix: path.Value}}
	}
}

func headerMatches(list []index.ValueMatch) []*httproutepb.HeaderMatch {
	var out []*httproutepb.HeaderMatch
	for _, m := range list {
		told := &httproutepb.HeaderMatch{Name: m.Name, Value: &httproutepb.HeaderMatch_Exact{Exact: []byte(m.Value)}}
		if m.Regex {
			told.Value = &httproutepb.HeaderMatch_Regex{Regex: m.Value}
		}
		out = append(out, told)
	}
	return out
}

// method uses the number that a method is registered under, where it is.
func method(name string) *httptypespb.HttpMethod {
	if number, registered := httptypespb.HttpMethod_Registered_value[name]; registered {
		return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Registered_{Registered: httptypespb.HttpMethod_Registered(number)}}
	}
	return &httptypespb.HttpMethod{Type: &httptypespb.HttpMethod_Unregistered{Unregistered: name}}
}

func grpcMatch(match index.GRPCMatch) *grpcroutepb.GrpcRouteMatch {
	out := &grpcroutepb.GrpcRouteMatch{Headers: headerMatches(match.Headers)}
	if match.RPC != nil {
		out.Rpc = &grpcroutepb.GrpcRpcMatch{Service: match.RPC.Service, Method: match.RPC.Method}
	}
	return out
}

func httpFilter(filter index.Filter) *inboundpb.HttpRoute_Filter {
	if filter.Headers != nil {
		return &inboundpb.HttpRoute_Filter{Kind: &inboundpb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: headerModifier(filter.Headers)}}
	}
	return &inboundpb.HttpRoute_Filter{Kind: &inboundpb.HttpRoute_Filter_Redirect{Redirect: redirect(filter.Redirect)}}
}

func headerModifier(m *index.HeaderModifier) *httproutepb.RequestHeaderModifier {
	headers := func(list []index.Header) *httptypespb.Headers {
		if len(list) == 0 {
			return nil
		}
		out := &httptypespb.Headers{}
		for _, header := range list {
			out.Headers = append(out.Headers, &httptypespb.Headers_Header{Name: header.Name, Value: []byte(header.Value)})
		}
		return out
	}
	return &httproutepb.RequestHeaderModifier{Add: headers(m.Add), Set: headers(m.Set), Remove: m.Remove}
}

func redirect(r *index.Redirect) *httproutepb.RequestRedirect {
	out := &httproutepb.RequestRedirect{Host: r.Host, Port: uint32(r.Port), Status: r.Status}
	if r.Scheme != "" {
		out.Scheme = scheme(r.Scheme)
	}
	switch {
	case r.Path == nil:
	case r.PrefixOnly:
		out.Path = &httproutepb.PathModifier{Replace: &httproutepb.PathModifier_Prefix{Prefix: *r.Path}}
	default:
		out.Path = &httproutepb.PathModifier{Replace: &httproutepb.PathModifier_Full{Full: *r.Path}}
	}
	return out
}

func scheme(name string) *httptypespb.Scheme {
	if number, registered := httptypespb.Scheme_Registered_value[strings.ToUpper(name)]; registered {
		return &httptypespb.Scheme{Type: &httptypespb.Scheme_Registered_{Registered: httptypespb.Scheme_Registered(number)}}
	}
	return &httptypespb.Scheme{Type: &httptypespb.Scheme_Unregistered{Unregistered: name}}
}

func rateLimit(limit *index.RateLimit) *inboundpb.HttpLocalRateLimit {
	if limit == nil {
		return nil
	}
	out := &inboundpb.HttpLocalRateLimit{Metadata: metadata(limit.Reference), Total: perSecond(limit.Total), Identity: perSecond(limit.Identity)}
	for _, override := range limit.Overrides {
		clients := &inboundpb.HttpLocalRateLimit_Override_ClientIdentities{}
		for _, name := range override.Identities {
			clients.Identities = append(clients.Identities, &inboundpb.Identity{Name: name})
		}
		out.Overrides = append(out.Overrides, &inboundpb.HttpLocalRateLimit_Override{Limit: perSecond(override.Limit), Clients: clients})
	}
	return out
}

func perSecond(n uint32) *inboundpb.HttpLocalRateLimit_Limit {
	if n == 0 {
		return nil
	}
	return &inboundpb.HttpLocalRateLimit_Limit{RequestsPerSecond: n}
}
