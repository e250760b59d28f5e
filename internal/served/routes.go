package served

import (
	"fmt"
	"strings"

	httproutepb "github.com/linkerd/linkerd2-proxy-api/go/http_route"
	httptypespb "github.com/linkerd/linkerd2-proxy-api/go/http_types"
	inboundpb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
	metapb "github.com/linkerd/linkerd2-proxy-api/go/meta"
)

func httpLines(all []*inboundpb.HttpRoute) []line {
	lines := []line{}
	for _, r := range all {
		l := line{name: metadataName(r.GetMetadata()), hosts: hosts(r.GetHosts()), authorizations: r.GetAuthorizations()}
		for _, rule := range r.GetRules() {
			var filters []string
			for _, f := range rule.GetFilters() {
				filters = append(filters, filter(f.GetRequestHeaderModifier(), f.GetRedirect()))
			}
			for _, m := range rule.GetMatches() {
				l.rules = append(l.rules, conditions(method(m.GetMethod()), path(m.GetPath()), headers(m.GetHeaders()), params(m.GetQueryParams()))+then(filters))
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func grpcLines(all []*inboundpb.GrpcRoute) []line {
	lines := []line{}
	for _, r := range all {
		l := line{name: metadataName(r.GetMetadata()), hosts: hosts(r.GetHosts()), authorizations: r.GetAuthorizations()}
		for _, rule := range r.GetRules() {
			var filters []string
			for _, f := range rule.GetFilters() {
				filters = append(filters, filter(f.GetRequestHeaderModifier(), nil))
			}
			for _, m := range rule.GetMatches() {
				call := "none: proxies refuse such a policy"
				if rpc := m.GetRpc(); rpc != nil {
					call = "/" + anyOr(rpc.GetService()) + "/" + anyOr(rpc.GetMethod())
				}
				l.rules = append(l.rules, conditions(call, headers(m.GetHeaders()))+then(filters))
			}
		}
		lines = append(lines, l)
	}
	return lines
}

func anyOr(text string) string {
	if text == "" {
		return "*"
	}
	return text
}

func metadataName(m *metapb.Metadata) string {
	if resource := m.GetResource(); resource != nil {
		return resource.GetKind() + "/" + resource.GetName() + " of " + resource.GetGroup()
	}
	return "default/" + m.GetDefault()
}

func hosts(all []*httproutepb.HostMatch) string {
	var texts []string
	for _, h := range all {
		switch match := h.GetMatch().(type) {
		case *httproutepb.HostMatch_Exact:
			texts = append(texts, match.Exact)
		case *httproutepb.HostMatch_Suffix_:
			// Labels are told from the last to the first.
			var labels []string
			for _, label := range match.Suffix.GetReverseLabels() {
				labels = append([]string{label}, labels...)
			}
			texts = append(texts, "*."+strings.Join(labels, "."))
		}
	}
	return strings.Join(texts, ", ")
}

func conditions(all ...string) string {
	var some []string
	for _, one := range all {
		if one != "" {
			some = append(some, one)
		}
	}
	if len(some) == 0 {
		return "everything"
	}
	return strings.Join(some, " ")
}

func method(m *httptypespb.HttpMethod) string {
	if m == nil {
		return ""
	}
	if name := m.GetUnregistered(); name != "" {
		return name
	}
	return m.GetRegistered().String()
}

func path(p *httproutepb.PathMatch) string {
	switch kind := p.GetKind().(type) {
	case *httproutepb.PathMatch_Exact:
		return kind.Exact
	case *httproutepb.PathMatch_Prefix:
		return strings.TrimSuffix(kind.Prefix, "/") + "/..."
	case *httproutepb.PathMatch_Regex:
		return "path ~ " + kind.Regex
	default:
		return ""
	}
}

func headers(all []*httproutepb.HeaderMatch) string {
	var texts []string
	for _, h := range all {
		if regex := h.GetRegex(); regex != "" {
			texts = append(texts, fmt.Sprintf("with %s ~ %s", h.GetName(), regex))
		} else {
			texts = append(texts, fmt.Sprintf("with %s: %s", h.GetName(), h.GetExact()))
		}
	}
	return strings.Join(texts, " ")
}

func params(all []*httproutepb.QueryParamMatch) string {
	var texts []string
	for _, p := range all {
		if regex := p.GetRegex(); regex != "" {
			texts = append(texts, fmt.Sprintf("with ?%s ~ %s", p.GetName(), regex))
		} else {
			texts = append(texts, fmt.Sprintf("with ?%s=%s", p.GetName(), p.GetExact()))
		}
	}
	return strings.Join(texts, " ")
}

func then(filters []string) string {
	if len(filters) == 0 {
		return ""
	}
	return ", then " + strings.Join(filters, ", ")
}

func filter(modifier *httproutepb.RequestHeaderModifier, redirect *httproutepb.RequestRedirect) string {
	var does []string
	for _, h := range modifier.GetSet().GetHeaders() {
		does = append(does, fmt.Sprintf("header %s set to %s", h.GetName(), h.GetValue()))
	}
	for _, h := range modifier.GetAdd().GetHeaders() {
		does = append(does, fmt.Sprintf("header %s: %s added", h.GetName(), h.GetValue()))
	}
	for _, name := range modifier.GetRemove() {
		does = append(does, "header "+name+" removed")
	}
	if redirect != nil {
		to := redirect.GetHost()
		if full := redirect.GetPath().GetFull(); full != "" {
			to += full
		} else if prefix := redirect.GetPath().GetPrefix(); prefix != "" {
			to += prefix + "..."
		}
		if port := redirect.GetPort(); port != 0 {
			to += fmt.Sprintf(" port %d", port)
		}
		does = append(does, fmt.Sprintf("redirected with %d to %s", redirect.GetStatus(), strings.TrimSpace(to)))
	}
	return strings.Join(does, ", ")
}
