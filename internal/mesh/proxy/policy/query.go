package policy

import "bytes"

// parameter finds the first value of a query parameter, read as net/url reads
// queries: of pairs that are malformed, or have a semicolon, nothing counts. The
// value lies in the query, or at the end of buf, which is returned grown.
func parameter(query []byte, name string, buf []byte) (value, grown []byte, ok bool) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		if len(pair) == 0 || bytes.IndexByte(pair, ';') >= 0 {
			continue
		}
		key, escaped, _ := bytes.Cut(pair, []byte{'='})
		if key, buf, ok = unescaped(key, buf); !ok || string(key) != name {
			continue
		}
		if value, buf, ok = unescaped(escaped, buf); ok {
			return value, buf, true
		}
	}
	return nil, buf, false
}

// unescaped decodes escapes and plus signs to the end of buf; ok is false for a
// broken escape.
func unescaped(raw, buf []byte) (text, grown []byte, ok bool) {
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return raw, buf, true
	}
	start := len(buf)
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case '+':
			buf = append(buf, ' ')
		case '%':
			if i+2 >= len(raw) {
				return nil, buf[:start], false
			}
			high, okHigh := unhex(raw[i+1])
			low, okLow := unhex(raw[i+2])
			if !okHigh || !okLow {
				return nil, buf[:start], false
			}
			buf = append(buf, high<<4|low)
			i += 2
		default:
			buf = append(buf, c)
		}
	}
	return buf[start:], buf, true
}
