package oracle

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshproof/meshproof/internal/policy/api"
)

// decideTCP is T-16 and N-08: the Server's list decides about the connection.
func (o Oracle) decideTCP(p Policy, v Verdict, request Request, address netip.Addr, session Session) Verdict {
	if !o.authorize(p.Grants, 0, address, session, &v) {
		return v.end("N-08", o.Rules.DenialForm(asSpoken(request, AsTCP)), "the connection is accepted and closed")
	}
	if o.Rules.AdminSpeaks(p.Port) {
		return v.end("B-05", Closed, "the proxy's admin port closes what is not HTTP")
	}
	return v.end("T-16", Delivered, "the connection is forwarded")
}

// decideHTTP is H-10: route, authorization, filters, limits.
func (o Oracle) decideHTTP(p Policy, v Verdict, request Request, client Client, address netip.Addr, session Session) Verdict {
	path, _, _ := strings.Cut(request.Path, "?")
	if o.pathsMatter(p.Routes) {
		normalised, clear := o.Rules.NormalisedPath(path, o.Dialect)
		if !clear {
			return v.end("19.1", BadRequest, "the path %s can mean two things", path)
		}
		path = normalised
	}
	chosen, found := o.choose(p.Routes, request, path, &v.Steps)
	if !found {
		o.count(p, session, NotFound, &v)
		return v.end("N-03", o.Rules.NotFoundForm(request), "no route matches%s", tellIdentified(session))
	}
	v.Route = chosen.route.Label
	note(&v.Steps, "route", "H-16", true, "%s has the request", chosen.route.Label)
	if !o.authorize(o.Rules.RouteList(chosen.route.Grants, p.Grants), len(chosen.route.Grants), address, session, &v) {
		o.count(p, session, Forbidden, &v)
		outcome := o.Rules.DenialForm(request)
		return v.end(map[bool]string{true: "N-02", false: "N-01"}[outcome == PermissionDenied], outcome, "nothing admits the client%s", tellIdentified(session))
	}
	for _, filter := range chosen.filters {
		if filter.Type == api.FilterRequestRedirect && filter.RequestRedirect != nil {
			outcome, status := o.Rules.RedirectForm(request, filter.RequestRedirect, o.Dialect)
			v.Status = status
			o.count(p, session, Redirected, &v)
			return v.end("N-05", outcome, "the route redirects it")
		}
	}
	o.count(p, session, Delivered, &v)
	if o.Rules.AdminLocal(p.Port, path, address) {
		return v.end("B-06", Forbidden, "the proxy answers this path to its own pod alone")
	}
	return v.end("H-10", Delivered, "it is forwarded")
}

// count is: the limits that a request counts against which is to
// have that outcome.
func (o Oracle) count(p Policy, session Session, outcome Outcome, v *Verdict) {
	if p.Limit == nil || !o.Rules.Counts(outcome) {
		return
	}
	v.Limits = o.Rules.LimitsOf(p.Limit, session.Identity, o.account)
	for _, l := range v.Limits {
		note(&v.Steps, "limit", "R-05", true, "%s: %d requests per second (%s); more get 429", l.Policy.Name, l.RequestsPerSecond, l.Scope)
	}
}

// tellIdentified is N-06: only a client with an identity is told more.
func tellIdentified(session Session) string {
	if session.Identity == "" {
		return ""
	}
	return "; l5d-proxy-error says so (N-06)"
}

// asSpoken is the request as far as a connection that is judged as TCP shows it:
// whatever it carries, it is refused without a byte.
func asSpoken(request Request, course Course) Request {
	if course == AsTCP {
		return Request{Protocol: TCP}
	}
	return request
}

// filledIn gives a request what it needs to be one.
func filledIn(r Request) Request {
	switch {
	case r.Protocol == GRPC:
		r.Method = "POST"
		r.Path = cmp.Or(r.Path, "/any.Service/Call")
	case r.Method == "CONNECT":
		r.Path = "" // its target is an authority
	case r.Protocol.HTTP():
		r.Method, r.Path = cmp.Or(r.Method, "GET"), cmp.Or(r.Path, "/")
	}
	return r
}

func courseText(course Course, protocol api.ProxyProtocol, session Session) string {
	with := "without TLS"
	switch {
	case session.Transported:
		with = "through its proxy as " + session.Identity
	case session.Identity != "":
		with = "with mesh TLS as " + session.Identity
	case session.Terminated:
		with = "with mesh TLS and no certificate"
	case session.Foreign:
		with = "with TLS that is not for the proxy"
	}
	return fmt.Sprintf("the client comes %s to a port of protocol %s: %s", with, protocol, map[Course]string{
		AsHTTP: "each request is authorized", AsTCP: "the connection is authorized as TCP", Refuse: "it cannot be authorized",
		Mismatch: "it does not speak the protocol", Nowhere: "it is HTTP where none is expected",
	}[course])
}

// note appends a step.
func note(steps *[]Step, topic, rule string, holds bool, format string, args ...any) {
	*steps = append(*steps, Step{Topic: topic, Rule: rule, Holds: holds, Text: fmt.Sprintf(format, args...)})
}

// end is the verdict with its outcome and the last step.
func (v Verdict) end(rule string, outcome Outcome, format string, args ...any) Verdict {
	v.Outcome = outcome
	if v.Status == 0 {
		v.Status = statusOf(outcome)
	}
	note(&v.Steps, "answer", rule, outcome.Allowed(), format, args...)
	return v
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
