package inbound

import "strings"

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
	// sniffLimit bounds what is gathered before a request line must have ended.
	sniffLimit = 8 << 10
	// firstReadLimit is the one read of dialect linkerd (T-15).
	firstReadLimit = 1024
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

// requestLine recognises `METHOD SP target SP HTTP/d.d [CR] LF`, after empty lines as servers skip them.
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
	if i == 0 || b[i] != ' ' {
		return notHTTP
	}
	b = b[i+1:]
	i = 0
	for i < len(b) && b[i] > ' ' && b[i] != 0x7f {
		i++
	}
	if i == len(b) {
		return undecided
	}
	if i == 0 || b[i] != ' ' {
		return notHTTP
	}
	b = b[i+1:]
	const version = "HTTP/d.d"
	for i := range version {
		if i == len(b) {
			return undecided
		}
		digit := b[i] >= '0' && b[i] <= '9'
		if version[i] == 'd' && !digit || version[i] != 'd' && version[i] != b[i] {
			return notHTTP
		}
	}
	b = b[len(version):]
	if len(b) > 0 && b[0] == '\r' {
		b = b[1:]
	}
	if len(b) == 0 {
		return undecided
	}
	if b[0] != '\n' {
		return notHTTP
	}
	return isHTTP1
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
