package policy

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Head is what a decision looks at in a request.
type Head struct {
	Method string
	// Path as sent, escapes included, without the query. RawQuery without the question mark.
	Path, RawQuery string
	// Host is the request's authority: of an absolute-form target, else :authority or Host, else the original destination (H-12).
	Host   string
	Header http.Header
	// Now is the time rate limits are measured with; any monotonic origin.
	Now time.Time
}

// Route is a set of rules with the authorizations of exactly this route.
type Route struct {
	Ref   Ref
	hosts []hostMatch
	rules []Rule
	// authz: the route's own, then the Server's, then localhost (X-48, H-20); permits[i] is what authz[i] grants.
	authz   []*Authz
	permits []*Permit
}

// Rule is a disjunction of matches and the filters of requests that match.
type Rule struct {
	matches []match
	Filters []Filter
}

// hostMatch compares a canonical host. With suffix, at least one more label is in front of name.
type hostMatch struct {
	name   string
	suffix bool
}

type pathKind uint8

const (
	pathAny pathKind = iota
	pathExact
	pathPrefix
	pathRegex
	pathRPC // POST /service/method; either may be left open
)

// match is a conjunction (H-14).
type match struct {
	kind            pathKind
	path            string
	regex           *regexp.Regexp
	service, method string // of pathRPC
	headers, query  []fieldMatch
	httpMethod      string
}

// fieldMatch compares a header or a query parameter.
type fieldMatch struct {
	name  string
	exact string
	regex *regexp.Regexp
}

func (f *fieldMatch) value(v string) bool {
	if f.regex != nil {
		return f.regex.MatchString(v)
	}
	return v == f.exact
}

// rank is the precedence of a match that holds, most significant first (H-15).
type rank [6]int

func (r rank) above(other rank) bool {
	for i := range r {
		if r[i] != other[i] {
			return r[i] > other[i]
		}
	}
	return false
}

// selectRoute chooses the route and rule for a request; nil when none matches
// (H-16). The path is the one to judge by: normalised or raw.
func (p *Port) selectRoute(head *Head, path string) (*Route, *Rule) {
	var (
		route *Route
		rule  *Rule
		best  rank
		host  string
		query url.Values
	)
	for _, r := range p.routes {
		if len(r.hosts) > 0 && host == "" {
			host = canonicalHost(head.Host)
		}
		hostExact, hostLength, ok := matchHosts(r.hosts, host)
		if !ok {
			continue
		}
		for i := range r.rules {
			for j := range r.rules[i].matches {
				m := &r.rules[i].matches[j]
				if len(m.query) > 0 && query == nil {
					// Malformed parameters are dropped by the parser: they match nothing.
					query, _ = url.ParseQuery(head.RawQuery)
				}
				length, ok := m.holds(head, path, query)
				if !ok {
					continue
				}
				method := 0
				if m.httpMethod != "" {
					method = 1
				}
				this := rank{hostExact, hostLength, length, len(m.headers), len(m.query), method}
				if route == nil || this.above(best) {
					route, rule, best = r, &r.rules[i], this
				}
			}
		}
	}
	return route, rule
}

func matchHosts(hosts []hostMatch, host string) (exact, length int, ok bool) {
	if len(hosts) == 0 {
		return 0, 0, true
	}
	for _, h := range hosts {
		switch {
		case !h.suffix && host == h.name:
			return 1, len(h.name), true
		case h.suffix && len(host) > len(h.name)+1 && strings.HasSuffix(host, "."+h.name):
			if len(h.name) >= length {
				length, ok = len(h.name), true
			}
		}
	}
	return 0, length, ok
}

// canonicalHost lowers the case and cuts the port and one trailing dot (H-12).
func canonicalHost(authority string) string {
	host := strings.ToLower(authority)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		if strings.IndexByte(host[:i], ':') < 0 || strings.HasPrefix(host, "[") {
			host = host[:i]
		}
	}
	return strings.TrimSuffix(host, ".")
}

// holds tells whether the match holds, and the length of path it covered.
func (m *match) holds(head *Head, path string, query url.Values) (length int, ok bool) {
	if m.httpMethod != "" && head.Method != m.httpMethod {
		return 0, false
	}
	switch m.kind {
	case pathAny:
	case pathExact:
		if path != m.path {
			return 0, false
		}
		length = len(m.path)
	case pathPrefix:
		if !hasSegmentPrefix(path, m.path) {
			return 0, false
		}
		length = len(m.path)
	case pathRegex:
		if !m.regex.MatchString(path) {
			return 0, false
		}
		length = len(path)
	case pathRPC:
		service, method, ok := splitRPC(path)
		if !ok || m.service != "" && m.service != service || m.method != "" && m.method != method {
			return 0, false
		}
		length = len(m.service) + len(m.method)
	}
	for i := range m.headers {
		if !m.headers[i].header(head.Header) {
			return 0, false
		}
	}
	for i := range m.query {
		// The first value counts, always.
		values := query[m.query[i].name]
		if len(values) == 0 || !m.query[i].value(values[0]) {
			return 0, false
		}
	}
	return length, true
}

// header requires every value of the field to match: of two values the
// application might read the other one.
func (f *fieldMatch) header(h http.Header) bool {
	values := h[f.name]
	for _, v := range values {
		if !f.value(v) {
			return false
		}
	}
	return len(values) > 0
}

// hasSegmentPrefix: /a is a prefix of /a, /a/ and /a/b, not of /ab (H-13). The prefix has no trailing slash, except "".
func hasSegmentPrefix(path, prefix string) bool {
	if !strings.HasPrefix(path, prefix) {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}

// splitRPC splits /service/method; both parts must be there and nothing else (H-17).
func splitRPC(path string) (service, method string, ok bool) {
	if !strings.HasPrefix(path, "/") {
		return "", "", false
	}
	service, method, ok = strings.Cut(path[1:], "/")
	return service, method, ok && service != "" && method != "" && !strings.Contains(method, "/")
}
