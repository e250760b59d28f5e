package policy

import (
	"bytes"
	"unicode/utf8"
)

// NormalPath gives a path the one meaning it is judged and forwarded with:
// escapes of unreserved characters decoded once, other escapes in upper case,
// duplicate slashes merged, dot segments resolved. ok is false when a lenient
// application could read the path in another way: a hidden separator (%2f, %5c,
// a backslash), path parameters, control characters, broken or overlong
// escapes, dot segments that leave the root.
//
// A path that has its normal form is returned as it is; others are written to
// the capacity of buf, or to new memory when that does not suffice.
func NormalPath(raw, buf []byte) (path []byte, ok bool) {
	if isNormal(raw) {
		return raw, true
	}
	path, _, ok = normalise(raw, buf)
	return path, ok
}

// normalise is NormalPath for paths that are not normal, or have escapes. grown is
// buf, or what took its place.
func normalise(raw, buf []byte) (path, grown []byte, ok bool) {
	if len(raw) == 0 || raw[0] != '/' {
		return nil, buf, false
	}
	grown, ok = decodeOnce(buf[:0], raw)
	if !ok {
		return nil, grown, false
	}
	path, ok = resolveDots(grown)
	return path, grown, ok
}

// matchForm gives a normal path the form it is matched in, appended to buf: of all
// normal paths that servers decode to the same text, one. Escapes of what may stand
// plainly in a segment are decoded, and the bytes that may not, but that servers
// take, are escaped. What is forwarded stays as it is: that a client has escaped a
// comma may matter to the application, but not who is served.
func matchForm(normal, buf []byte) (path, grown []byte) {
	start := len(buf)
	for i := 0; i < len(normal); i++ {
		switch c := normal[i]; {
		case plain[c]:
			buf = append(buf, c)
		case c == '%':
			high, _ := unhex(normal[i+1])
			low, _ := unhex(normal[i+2])
			if b := high<<4 | low; plain[b] {
				buf = append(buf, b)
			} else {
				buf = append(buf, normal[i:i+3]...)
			}
			i += 2
		default:
			buf = append(buf, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return buf[start:], buf
}

// isNormal tells whether a path is normal, and matched as it is, without escapes:
// most are.
func isNormal(raw []byte) bool {
	if len(raw) == 0 || raw[0] != '/' {
		return len(raw) == 1 && raw[0] == '*'
	}
	start := true // of a segment
	for i, c := range raw[1:] {
		switch {
		case !plain[c]:
			return false
		case c == '/':
			if start {
				return false
			}
			start = true
			continue
		case c == '.' && start && dots(raw[1+i:]) > 0:
			return false
		}
		start = false
	}
	return true
}

// dots is the length of the dot segment that rest begins with, 0 when it is another.
func dots(rest []byte) int {
	n := 1
	if len(rest) > 1 && rest[1] == '.' {
		n = 2
	}
	if rest[0] != '.' || len(rest) > n && rest[n] != '/' {
		return 0
	}
	return n
}

// resolveDots merges slashes and resolves dot segments in place. The path begins
// with a slash.
func resolveDots(path []byte) ([]byte, bool) {
	out := path[:0] // what is written never overtakes what is read
	for rest := path; len(rest) > 0; {
		rest = rest[1:]
		end := bytes.IndexByte(rest, '/')
		last := end < 0
		if last {
			end = len(rest)
		}
		part := rest[:end]
		rest = rest[end:]
		switch {
		case len(part) == 0 || len(part) == 1 && part[0] == '.':
		case len(part) == 2 && part[0] == '.' && part[1] == '.':
			if len(out) == 0 {
				return nil, false
			}
			out = out[:bytes.LastIndexByte(out, '/')]
		default:
			out = append(append(out, '/'), part...)
			continue
		}
		if last {
			out = append(out, '/')
		}
	}
	return out, true
}

// decodeOnce appends the path with escapes of unreserved characters decoded. It
// refuses what has more than one reading.
func decodeOnce(out, raw []byte) ([]byte, bool) {
	var (
		char  [utf8.UTFMax]byte // the begin of a character beyond ASCII
		begun int
	)
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			if c <= 0x20 || c >= 0x7f || c == '\\' || c == ';' || c == '#' || c == '?' || begun > 0 {
				return out, false
			}
			out = append(out, c)
			continue
		}
		if i+2 >= len(raw) {
			return out, false
		}
		high, okHigh := unhex(raw[i+1])
		low, okLow := unhex(raw[i+2])
		if !okHigh || !okLow {
			return out, false
		}
		i += 2
		b := high<<4 | low
		switch {
		case b < 0x20 || b == 0x7f || b == '/' || b == '\\' || b == ';':
			return out, false
		case b < utf8.RuneSelf && begun > 0:
			return out, false
		case unreserved(b):
			out = append(out, b)
			continue
		}
		out = append(out, '%', upperHex[high], upperHex[low])
		if b >= utf8.RuneSelf {
			// No character is longer than char: a full one that is none is refused.
			char[begun] = b
			begun++
			if utf8.FullRune(char[:begun]) {
				if !utf8.Valid(char[:begun]) {
					return out, false
				}
				begun = 0
			}
		}
	}
	return out, begun == 0
}

// plain are the bytes that may stand for themselves in a path (RFC 3986, 3.3), but
// for the semicolon, and the slash between segments.
var plain = func() (table [256]bool) {
	for c := range table {
		table[c] = unreserved(byte(c))
	}
	for _, c := range []byte("/!$&'()*+,=:@") {
		table[c] = true
	}
	return table
}()

const upperHex = "0123456789ABCDEF"

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}
