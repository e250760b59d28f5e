package inbound

import (
	"bytes"
	"strings"
)

// spoken is what the first bytes of a connection say about its protocol.
type spoken uint8

const (
	undecided spoken = iota
	notHTTP
	isHTTP1
	isHTTP2
)

// Values of the detect metric's label result (M-10).
const (
	detectHTTP1   = "http/1"
	detectHTTP2   = "http/2"
	detectNotHTTP = "not_http"
	detectTimeout = "read_timeout"
	detectError   = "error"
)

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// prefaceEnough bytes of the preface decide for HTTP/2; a wrong rest fails there (T-22).
	prefaceEnough = 14
)

// sniff decides on the first bytes. It never calls something not HTTP that could
// still become an HTTP request line.
func sniff(b []byte) spoken {
	n := min(len(b), prefaceEnough)
	if string(b[:n]) == preface[:n] {
		if n == prefaceEnough {
			return isHTTP2
		}
		return undecided
	}
	return requestLine(b)
}

// requestLine recognises a first line that some HTTP/1 server might take for a
// request: a token, white space, and at its end HTTP/ and anything, or the
// version-less `GET /x`. It is lenient on purpose: what the strict server behind
// it refuses is refused, while what is called not HTTP is judged without routes.
// Empty lines before it are skipped, as servers do.
func requestLine(b []byte) spoken {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		if b[0] == '\r' && len(b) > 1 && b[1] != '\n' {
			return notHTTP
		}
		b = b[1:]
	}
	i := 0
	for i < len(b) && isToken(b[i]) {
		i++
	}
	if i == len(b) {
		return undecided
	}
	if i == 0 || b[i] != ' ' && b[i] != '\t' {
		return notHTTP
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return undecided
	}
	fields := bytes.Fields(b[:end])
	last := fields[len(fields)-1]
	switch {
	case len(fields) > 1 && len(last) >= len("HTTP/") && bytes.EqualFold(last[:len("HTTP/")], []byte("HTTP/")):
		return isHTTP1
	case len(fields) == 2 && string(fields[0]) == "GET" && fields[1][0] == '/':
		return isHTTP1
	}
	return notHTTP
}

func isToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// firstRead decides as current Linkerd does: fewer bytes than a preface are not HTTP (T-15, T-21).
func firstRead(b []byte) spoken {
	if len(b) < prefaceEnough {
		return notHTTP
	}
	if said := sniff(b); said != undecided {
		return said
	}
	return isHTTP1
}
