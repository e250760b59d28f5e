package policy

import (
	"net/http"
	"strconv"
	"strings"
)

// Filter is one filter of a rule; exactly one of the fields is set.
type Filter struct {
	Headers  *HeaderModifier
	Redirect *Redirector
	// Fault: the failure injector, which the inbound side does not carry out (N-11).
	Fault bool
}

// HeaderModifier changes request headers: additions, then sets, then removals. Names are canonical.
type HeaderModifier struct {
	Add, Set []HeaderValue
	Remove   []string
}

// HeaderValue is one header line.
type HeaderValue struct{ Name, Value string }

// Redirector answers with a location.
type Redirector struct {
	Scheme, Host string
	Port         uint32
	Status       int
	// Full replaces the path; Prefix replaces the matched prefix; neither keeps the path.
	Full, Prefix *string
}

// Apply carries out the rule's header filters in order.
func (r *Rule) Apply(h http.Header) {
	for i := range r.Filters {
		m := r.Filters[i].Headers
		if m == nil {
			continue
		}
		for _, v := range m.Add {
			h[v.Name] = append(h[v.Name], v.Value)
		}
		for _, v := range m.Set {
			h[v.Name] = []string{v.Value}
		}
		for _, name := range m.Remove {
			delete(h, name)
		}
	}
}

// location builds the redirect's target; false when a prefix is to be replaced that the rule does not match by prefix.
func (r *Redirector) location(head *Head, path string, rule *Rule) (string, bool) {
	scheme, host := r.Scheme, r.Host
	if scheme == "" {
		scheme = "http"
	}
	if host == "" {
		host = head.Host
		if r.Port != 0 {
			host = stripPort(host)
		}
	}
	if r.Port != 0 {
		host += ":" + strconv.Itoa(int(r.Port))
	}
	switch {
	case r.Full != nil:
		path = *r.Full
	case r.Prefix != nil:
		prefix, ok := rule.longestPrefix(path)
		if !ok {
			return "", false
		}
		rest := strings.TrimPrefix(path, prefix)
		path = strings.TrimSuffix(*r.Prefix, "/") + rest
		if path == "" {
			path = "/"
		}
	}
	location := scheme + "://" + host + path
	if head.RawQuery != "" {
		location += "?" + head.RawQuery
	}
	return location, true
}

func stripPort(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i]
	}
	return authority
}

func (r *Rule) longestPrefix(path string) (prefix string, ok bool) {
	for i := range r.matches {
		m := &r.matches[i]
		if m.kind == pathPrefix && hasSegmentPrefix(path, m.path) && (!ok || len(m.path) > len(prefix)) {
			prefix, ok = m.path, true
		}
	}
	return prefix, ok
}
