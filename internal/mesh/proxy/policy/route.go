package policy

import (
	"bytes"
	"regexp"
)

// Route is a set of rules with the authorizations of exactly this route.
type Route struct {
	Ref   Ref
	hosts []hostMatch
	rules []Rule
	// own are asked before the Server's, the last of which is localhost (X-48, H-20).
	own, servers *permits
}

// Rule is a disjunction of matches and the filters of requests that match.
type Rule struct {
	matches []match
	filters []filter
	// edits is what the header filters come to, one after another; nil for nothing.
	edits *Edits
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
	path            string // of pathPrefix without the slash at its end
	regex           *regexp.Regexp
	service, method string // of pathRPC
	headers, query  []fieldMatch
	httpMethod      string
}

// fieldMatch compares a header, whose name is in lower case, or a query parameter.
type fieldMatch struct {
	name  string
	exact string
	regex *regexp.Regexp
}

func (f *fieldMatch) value(v []byte) bool {
	if f.regex != nil {
		return f.regex.Match(v)
	}
	return string(v) == f.exact
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
func (p *Port) selectRoute(head *Head, path []byte) (*Route, *Rule) {
	var (
		route *Route
		rule  *Rule
		best  rank
		host  []byte
	)
	for _, r := range p.routes {
		if len(r.hosts) > 0 && host == nil {
			host = canonicalHost(head.Host)
		}
		hostExact, hostLength, ok := matchHosts(r.hosts, host)
		if !ok {
			continue
		}
		for i := range r.rules {
			for j := range r.rules[i].matches {
				m := &r.rules[i].matches[j]
				length, ok := m.holds(head, path)
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

func matchHosts(hosts []hostMatch, host []byte) (exact, length int, ok bool) {
	if len(hosts) == 0 {
		return 0, 0, true
	}
	for i := range hosts {
		h := &hosts[i]
		border := len(host) - len(h.name) - 1
		switch {
		case !h.suffix && equalFold(host, h.name):
			return 1, len(h.name), true
		case h.suffix && border > 0 && host[border] == '.' && equalFold(host[border+1:], h.name):
			if len(h.name) >= length {
				length, ok = len(h.name), true
			}
		}
	}
	return 0, length, ok
}

// canonicalHost cuts the port and one trailing dot (H-12); case is for the
// comparison to leave out.
func canonicalHost(authority []byte) []byte {
	host := authority
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		if bytes.IndexByte(host[:i], ':') < 0 || host[0] == '[' {
			host = host[:i]
		}
	}
	return bytes.TrimSuffix(host, []byte{'.'})
}

// holds tells whether the match holds, and the length of path it covered.
func (m *match) holds(head *Head, path []byte) (length int, ok bool) {
	if m.httpMethod != "" && string(head.Method) != m.httpMethod {
		return 0, false
	}
	switch m.kind {
	case pathAny:
	case pathExact:
		if string(path) != m.path {
			return 0, false
		}
		length = len(m.path)
	case pathPrefix:
		if !hasSegmentPrefix(path, m.path) {
			return 0, false
		}
		length = max(1, len(m.path)) // the prefix / is one character (H-15)
	case pathRegex:
		if !m.regex.Match(path) {
			return 0, false
		}
		length = len(path)
	case pathRPC:
		service, method, ok := splitRPC(path)
		if !ok || m.service != "" && m.service != string(service) || m.method != "" && m.method != string(method) {
			return 0, false
		}
		length = len(m.service) + len(m.method)
	}
	for i := range m.headers {
		if !m.headers[i].header(head.Fields) {
			return 0, false
		}
	}
	for i := range m.query {
		// The first value counts, always.
		value, grown, ok := parameter(head.Query, m.query[i].name, head.Scratch)
		head.Scratch = grown[:len(head.Scratch)]
		if !ok || !m.query[i].value(value) {
			return 0, false
		}
	}
	return length, true
}

// header requires every value of the field to match: of two values the
// application might read the other one.
func (f *fieldMatch) header(fields []Field) bool {
	found := false
	for i := range fields {
		if !equalFold(fields[i].Name, f.name) {
			continue
		}
		if !f.value(fields[i].Value) {
			return false
		}
		found = true
	}
	return found
}

// hasSegmentPrefix: /a is a prefix of /a, /a/ and /a/b, not of /ab (H-13). The prefix
// has no trailing slash: "" is that of everything, OPTIONS * too (C-28).
func hasSegmentPrefix(path []byte, prefix string) bool {
	if prefix == "" {
		return true
	}
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}

// splitRPC splits /service/method; both parts must be there and nothing else (H-17).
func splitRPC(path []byte) (service, method []byte, ok bool) {
	if len(path) == 0 || path[0] != '/' {
		return nil, nil, false
	}
	service, method, ok = bytes.Cut(path[1:], []byte{'/'})
	return service, method, ok && len(service) > 0 && len(method) > 0 && bytes.IndexByte(method, '/') < 0
}
