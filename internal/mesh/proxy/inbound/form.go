package inbound

import "strings"

// methodForm tells whether a method is a token: a space or a line end in one
// would become a second request line where HTTP/2 is turned into HTTP/1.
func methodForm(method string) bool {
	for i := 0; i < len(method); i++ {
		if !isToken(method[i]) {
			return false
		}
	}
	return method != ""
}

// authorityForm tells whether an authority is a host, with or without a number
// for a port, so that everybody cuts it at the same place. Only HTTP/1 may have
// none: there the destination stands in for it (H-12).
func authorityForm(authority string, http1 bool) bool {
	if authority == "" {
		return http1
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		host, port = authority[:i], authority[i+1:]
	}
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	if address, ok := strings.CutPrefix(host, "["); ok {
		address, ok = strings.CutSuffix(address, "]")
		return ok && address != "" && strings.Trim(address, "0123456789abcdefABCDEF:.") == ""
	}
	for i := 0; i < len(host); i++ {
		if c := host[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' || c == '%') {
			return false
		}
	}
	return host != ""
}
