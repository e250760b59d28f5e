package policy

import (
	"bytes"
	"strconv"
	"strings"
)

// filter is one filter of a rule that answers in the application's place; exactly
// one of the fields is set.
type filter struct {
	redirect *redirector
	// fault: the failure injector, which the inbound side does not carry out (N-11).
	fault bool
}

// redirector answers with a location.
type redirector struct {
	Scheme, Host string
	Port         uint32
	Status       int
	// Full replaces the path; Prefix replaces the matched prefix; neither keeps the path.
	Full, Prefix *string
}

// location builds the redirect's target; false when a prefix is to be replaced that the rule does not match by prefix.
func (r *redirector) location(head *Head, sent, judged []byte, rule *Rule) (string, bool) {
	scheme, host := r.Scheme, r.Host
	if scheme == "" {
		scheme = "http"
	}
	if host == "" {
		host = string(head.Host)
		if r.Port != 0 {
			host = stripPort(host)
		}
	}
	if r.Port != 0 {
		host += ":" + strconv.Itoa(int(r.Port))
	}
	path := string(sent)
	if !strings.HasPrefix(path, "/") { // OPTIONS *, CONNECT
		path = "/"
	}
	switch {
	case r.Full != nil:
		path = *r.Full
	case r.Prefix != nil:
		prefix, ok := rule.longestPrefix(judged)
		if !ok {
			return "", false
		}
		path = strings.TrimSuffix(*r.Prefix, "/")
		if bytes.HasPrefix(judged, []byte("/")) {
			path += string(judged[len(prefix):])
		}
		if path == "" {
			path = "/"
		}
	}
	location := scheme + "://" + host + path
	if len(head.Query) > 0 {
		location += "?" + string(head.Query)
	}
	return location, true
}

func stripPort(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i]
	}
	return authority
}

func (r *Rule) longestPrefix(path []byte) (prefix string, ok bool) {
	for i := range r.matches {
		m := &r.matches[i]
		if m.kind == pathPrefix && hasSegmentPrefix(path, m.path) && (!ok || len(m.path) > len(prefix)) {
			prefix, ok = m.path, true
		}
	}
	return prefix, ok
}
