package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/linkerd/linkerd2-proxy-api/go/grpc_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_route"
	"github.com/linkerd/linkerd2-proxy-api/go/http_types"
	pb "github.com/linkerd/linkerd2-proxy-api/go/inbound"
)

func (p *Port) parseHTTPRoute(msg *pb.HttpRoute) (*Route, error) {
	route := &Route{Ref: metaRef(msg.GetMetadata())}
	var err error
	if route.hosts, err = parseHosts(msg.GetHosts()); err != nil {
		return nil, err
	}
	for _, r := range msg.GetRules() {
		rule := Rule{}
		for _, m := range r.GetMatches() {
			parsed, err := p.parseMatch(m, p.dialect.RawPaths || route.Ref.Kind == "default")
			if err != nil {
				return nil, err
			}
			rule.matches = append(rule.matches, parsed)
		}
		if len(rule.matches) == 0 {
			rule.matches = []match{{}}
		}
		edits := editor{}
		for _, f := range r.GetFilters() {
			switch kind := f.GetKind().(type) {
			case *pb.HttpRoute_Filter_RequestHeaderModifier:
				if err := edits.add(kind.RequestHeaderModifier); err != nil {
					return nil, err
				}
			case *pb.HttpRoute_Filter_Redirect:
				redirect, err := p.parseRedirect(kind.Redirect)
				if err != nil {
					return nil, err
				}
				rule.filters = append(rule.filters, filter{redirect: redirect})
			case *pb.HttpRoute_Filter_FailureInjector:
				rule.filters = append(rule.filters, filter{fault: true})
			default:
				return nil, fmt.Errorf("%w: filter without kind", ErrInvalid)
			}
		}
		rule.edits = edits.result()
		route.rules = append(route.rules, rule)
	}
	own, err := parseAuthzs(msg.GetAuthorizations())
	if err != nil {
		return nil, err
	}
	p.finish(route, own)
	return route, nil
}

func (p *Port) parseGRPCRoute(msg *pb.GrpcRoute) (*Route, error) {
	route := &Route{Ref: metaRef(msg.GetMetadata())}
	var err error
	if route.hosts, err = parseHosts(msg.GetHosts()); err != nil {
		return nil, err
	}
	for _, r := range msg.GetRules() {
		rule := Rule{}
		for _, m := range r.GetMatches() {
			parsed, err := p.parseRPC(m)
			if err != nil {
				return nil, err
			}
			rule.matches = append(rule.matches, parsed)
		}
		if len(rule.matches) == 0 {
			rule.matches = []match{{kind: pathRPC, httpMethod: "POST"}}
		}
		edits := editor{}
		for _, f := range r.GetFilters() {
			switch kind := f.GetKind().(type) {
			case *pb.GrpcRoute_Filter_RequestHeaderModifier:
				if err := edits.add(kind.RequestHeaderModifier); err != nil {
					return nil, err
				}
			case *pb.GrpcRoute_Filter_FailureInjector:
				rule.filters = append(rule.filters, filter{fault: true})
			default:
				return nil, fmt.Errorf("%w: filter without kind", ErrInvalid)
			}
		}
		rule.edits = edits.result()
		route.rules = append(route.rules, rule)
	}
	own, err := parseAuthzs(msg.GetAuthorizations())
	if err != nil {
		return nil, err
	}
	p.finish(route, own)
	return route, nil
}

func parseHosts(msgs []*http_route.HostMatch) ([]hostMatch, error) {
	var hosts []hostMatch
	for _, msg := range msgs {
		switch kind := msg.GetMatch().(type) {
		case *http_route.HostMatch_Exact:
			hosts = append(hosts, hostMatch{name: hostName(kind.Exact)})
		case *http_route.HostMatch_Suffix_:
			reversed := kind.Suffix.GetReverseLabels()
			labels := make([]string, len(reversed))
			for i, label := range reversed {
				labels[len(reversed)-1-i] = label
			}
			hosts = append(hosts, hostMatch{name: hostName(strings.Join(labels, ".")), suffix: true})
		default:
			return nil, fmt.Errorf("%w: host match without kind", ErrInvalid)
		}
	}
	return hosts, nil
}

// hostName is a route's host in the form that hosts are compared with.
func hostName(host string) string { return strings.ToLower(string(canonicalHost([]byte(host)))) }

// parseMatch reads a match. raw: its path is compared with paths as sent, as those of
// built-in routes are: a kubelet sends the path of a probe as it is written (P-03).
func (p *Port) parseMatch(msg *http_route.HttpRouteMatch, raw bool) (match, error) {
	m := match{}
	var err error
	if msg.GetPath() != nil {
		switch kind := msg.GetPath().GetKind().(type) {
		case *http_route.PathMatch_Exact:
			m.kind, m.path = pathExact, routePath(kind.Exact, raw)
		case *http_route.PathMatch_Prefix:
			m.kind, m.path = pathPrefix, strings.TrimRight(routePath(kind.Prefix, raw), "/")
		case *http_route.PathMatch_Regex:
			m.kind = pathRegex
			if m.regex, err = anchored(kind.Regex); err != nil {
				return m, err
			}
		default:
			return m, fmt.Errorf("%w: path match without kind", ErrInvalid)
		}
	}
	if m.headers, err = parseHeaders(msg.GetHeaders()); err != nil {
		return m, err
	}
	for _, q := range msg.GetQueryParams() {
		field := fieldMatch{name: q.GetName()}
		switch kind := q.GetValue().(type) {
		case *http_route.QueryParamMatch_Exact:
			field.exact = kind.Exact
		case *http_route.QueryParamMatch_Regex:
			if field.regex, err = anchored(kind.Regex); err != nil {
				return m, err
			}
		default:
			return m, fmt.Errorf("%w: query match without value", ErrInvalid)
		}
		m.query = append(m.query, field)
	}
	m.httpMethod, err = parseMethod(msg.GetMethod())
	return m, err
}

// routePath gives a route's own path the form requests are matched in.
func routePath(path string, raw bool) string {
	if raw {
		return path
	}
	if normal, ok := NormalPath([]byte(path), nil); ok {
		judged, _ := matchForm(normal, nil)
		return string(judged)
	}
	return path
}

func (p *Port) parseRPC(msg *grpc_route.GrpcRouteMatch) (match, error) {
	m := match{kind: pathRPC, httpMethod: "POST"}
	if msg.GetRpc() == nil && p.dialect.RequireRPCMatch {
		return m, fmt.Errorf("%w: gRPC match without rpc", ErrInvalid) // W-24
	}
	m.service, m.method = msg.GetRpc().GetService(), msg.GetRpc().GetMethod()
	var err error
	m.headers, err = parseHeaders(msg.GetHeaders())
	return m, err
}

func parseHeaders(msgs []*http_route.HeaderMatch) ([]fieldMatch, error) {
	var fields []fieldMatch
	for _, h := range msgs {
		field := fieldMatch{name: strings.ToLower(h.GetName())}
		switch kind := h.GetValue().(type) {
		case *http_route.HeaderMatch_Exact:
			field.exact = string(kind.Exact)
		case *http_route.HeaderMatch_Regex:
			regex, err := anchored(kind.Regex)
			if err != nil {
				return nil, err
			}
			field.regex = regex
		default:
			return nil, fmt.Errorf("%w: header match without value", ErrInvalid)
		}
		fields = append(fields, field)
	}
	return fields, nil
}

// parseMethod returns "" for any method.
func parseMethod(msg *http_types.HttpMethod) (string, error) {
	if msg == nil {
		return "", nil
	}
	switch kind := msg.GetType().(type) {
	case *http_types.HttpMethod_Registered_:
		return kind.Registered.String(), nil
	case *http_types.HttpMethod_Unregistered:
		return kind.Unregistered, nil
	}
	return "", fmt.Errorf("%w: method without type", ErrInvalid)
}

// anchored compiles an expression that must match the whole value (H-13).
func anchored(expr string) (*regexp.Regexp, error) {
	regex, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return regex, nil
}

// defaultRedirectStatus answers redirects that name no status (W-21 in dialect documented).
const defaultRedirectStatus = 302

func (p *Port) parseRedirect(msg *http_route.RequestRedirect) (*redirector, error) {
	r := &redirector{Host: msg.GetHost(), Port: msg.GetPort(), Status: int(msg.GetStatus())}
	if msg.GetScheme() != nil {
		switch kind := msg.GetScheme().GetType().(type) {
		case *http_types.Scheme_Registered_:
			r.Scheme = strings.ToLower(kind.Registered.String())
		case *http_types.Scheme_Unregistered:
			r.Scheme = kind.Unregistered
		}
	}
	if r.Status == 0 {
		r.Status = defaultRedirectStatus
		if p.dialect.UnsetRedirectStatus != 0 {
			r.Status = p.dialect.UnsetRedirectStatus
		}
	}
	if r.Status < 200 || r.Status > 599 {
		return nil, fmt.Errorf("%w: redirect status %d", ErrInvalid, r.Status)
	}
	switch kind := msg.GetPath().GetReplace().(type) {
	case *http_route.PathModifier_Full:
		r.Full = &kind.Full
	case *http_route.PathModifier_Prefix:
		r.Prefix = &kind.Prefix
	}
	return r, nil
}
