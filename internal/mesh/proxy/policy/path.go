package policy

import (
	"strings"
	"unicode/utf8"
)

// NormalPath gives a path the one meaning it is judged by and forwarded with:
// escapes of unreserved characters decoded once, other escapes in upper case,
// duplicate slashes merged, dot segments resolved. ok is false when a lenient
// application could read the path in another way: a hidden separator (%2f, %5c,
// a backslash), path parameters, control characters, broken or overlong
// escapes, dot segments that leave the root.
func NormalPath(raw string) (path string, ok bool) {
	if raw == "*" {
		return raw, true
	}
	if !strings.HasPrefix(raw, "/") {
		return "", false
	}
	decoded, ok := decodeOnce(raw)
	if !ok {
		return "", false
	}
	var segments []string
	parts := strings.Split(decoded[1:], "/")
	for i, part := range parts {
		last := i == len(parts)-1
		switch part {
		case "":
			if last {
				segments = append(segments, "")
			}
		case ".":
			if last {
				segments = append(segments, "")
			}
		case "..":
			if len(segments) == 0 {
				return "", false
			}
			segments = segments[:len(segments)-1]
			if last {
				segments = append(segments, "")
			}
		default:
			segments = append(segments, part)
		}
	}
	return "/" + strings.Join(segments, "/"), true
}

// decodeOnce decodes escapes of unreserved characters and refuses what has more than one reading.
func decodeOnce(raw string) (string, bool) {
	var (
		out   strings.Builder
		octet []byte // the fully decoded form, to see overlong or broken UTF-8
	)
	out.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			if c <= 0x20 || c >= 0x7f || c == '\\' || c == ';' || c == '#' || c == '?' {
				return "", false
			}
			out.WriteByte(c)
			octet = append(octet, c)
			continue
		}
		if i+2 >= len(raw) {
			return "", false
		}
		high, okHigh := unhex(raw[i+1])
		low, okLow := unhex(raw[i+2])
		if !okHigh || !okLow {
			return "", false
		}
		b := high<<4 | low
		switch {
		case b < 0x20 || b == 0x7f || b == '/' || b == '\\' || b == ';':
			return "", false
		case unreserved(b):
			out.WriteByte(b)
		default:
			out.WriteByte('%')
			out.WriteByte(upperHex[high])
			out.WriteByte(upperHex[low])
		}
		octet = append(octet, b)
		i += 2
	}
	return out.String(), utf8.Valid(octet)
}

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
