package inbound

import (
	"bytes"
)

// authorityForm tells whether an authority is a host, with or without a number
// for a port, so that everybody cuts it at the same place.
func authorityForm(authority []byte) bool {
	host, port := authority, []byte(nil)
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		host, port = authority[:i], authority[i+1:]
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	if len(host) > 0 && host[0] == '[' {
		end := len(host) - 1
		if end < 2 || host[end] != ']' {
			return false
		}
		for _, c := range host[1:end] {
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == ':' || c == '.') {
				return false
			}
		}
		return true
	}
	for _, c := range host {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' || c == '%') {
			return false
		}
	}
	return len(host) > 0
}
